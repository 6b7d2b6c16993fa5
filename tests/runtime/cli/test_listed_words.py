"""Options that take several words."""

from __future__ import annotations

import pytest

from fastserve_runtime.cli.listed_words import listed_words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (None, None),
        ([], None),
        (["onnx"], ("onnx",)),
        (["onnx, tflite,"], ("onnx", "tflite")),
        (["onnx,tflite", "executorch", "onnx"], ("onnx", "tflite", "executorch")),
        ([" , "], ()),
    ],
)
def test_words_are_told_apart_by_commas_or_by_repeating_the_option(
    values: list[str] | None, words: tuple[str, ...] | None
) -> None:
    assert listed_words(values) == words
