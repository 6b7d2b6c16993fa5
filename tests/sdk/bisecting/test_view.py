"""What a search found, for a terminal and for Model Explorer."""

from __future__ import annotations

from typing import Any

import pytest

from bisected_layers import layer
from fastserve.bisecting import Bisection, Suspect
from fastserve.bisecting.view import conclusion, overlay_document, plot_lines, shortened

RIGHT = layer("model.encoder.layer.0.attention.output.dense", 140.0)
EXACT = layer("model.encoder.layer.0.attention.output", 999.0)
WRONG = layer(
    "model.encoder.layer.1.attention.output.dense",
    12.0,
    modules=("", "model.encoder.layer.1.attention.output.dense"),
    channel_sqnr_db=-5.0,
)


def bisection(**changes: Any) -> Bisection:
    fields: dict[str, Any] = {
        "variant": "onnx-fp32",
        "target": "onnx:cpu",
        "suspects": (Suspect(WRONG, "it is bad", confirmed_alone=True, alone_sqnr_db=12.0),),
        "layers": (RIGHT, EXACT, WRONG),
        "output_sqnr_db": 11.0,
        "wrong_outputs": ("quality: SQNR is 11.0 dB",),
        "samples": 3,
        "texts": {1: "a text"},
        "unread": (),
        "notes": ("A note.",),
    }
    return Bisection(**{**fields, **changes})


@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_every_layer_has_a_line_that_fits(width: int, is_ascii: bool) -> None:
    lines = list(plot_lines(bisection(), width, is_ascii=is_ascii))
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    bar = "#" if is_ascii else "\u2588"
    assert [bar in line for line in lines] == [False, False, True]
    assert [line.split()[-1] for line in lines] == ["dB", "exact", "dB"]
    assert lines[2].startswith(">" if is_ascii else "\u25b6")
    if is_ascii:
        assert "".join(lines).isascii()


def test_a_name_is_cut_at_its_beginning() -> None:
    assert shortened("model.encoder.layer", 10) == "..er.layer"
    assert shortened("short", 10) == "short"


def test_the_conclusion_names_the_layer_and_what_is_known_of_it() -> None:
    text = " ".join(conclusion(bisection()))
    assert text.startswith("The first wrong layer: model.encoder.layer.1.attention.output.dense, MatMul")
    for part in (
        "compared as one with the model itself",
        "Channel 4",
        "sample 1 ('a text')",
        "Looked at alone",
        "A note.",
    ):
        assert part in text
    assert "Output, quality: SQNR is 11.0 dB." in text


def test_nothing_wrong_and_nothing_to_blame_are_told_apart() -> None:
    assert "No layer is worse" in next(conclusion(bisection(suspects=(), wrong_outputs=())))
    assert "too coarse" in next(conclusion(bisection(suspects=())))
    assert bisection(suspects=(), wrong_outputs=()).agrees
    assert not bisection(suspects=()).agrees


def test_the_overlay_has_a_value_for_each_tensor_in_the_form_of_node_data() -> None:
    document = overlay_document(bisection())
    assert document["name"]
    assert document["results"].keys() == {each.tensor for each in (RIGHT, EXACT, WRONG)}
    assert document["results"][WRONG.tensor]["value"] == 12.0
    assert document["results"][WRONG.tensor]["bgColor"] != document["results"][RIGHT.tensor]["bgColor"]
    for result in document["results"].values():
        assert set(result) <= {"value", "bgColor", "textColor"}


def test_the_document_has_the_suspects_first_and_every_layer() -> None:
    document = bisection().as_document()
    assert document["suspects"][0]["module"] == WRONG.module
    assert document["suspects"][0]["confirmed_alone"] is True
    assert [entry["module"] for entry in document["layers"]] == [RIGHT.module, EXACT.module, WRONG.module]
