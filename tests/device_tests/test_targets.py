"""Targets are found by the names that users write."""

from __future__ import annotations

import pytest

from fastserve_converters.formats import FORMATS
from fastserve_device_tests.targets import load_target, target_names
from fastserve_runtime.errors import UsageError

NAMES = ("executorch:xnnpack", "onnx:cpu", "tflite:xnnpack")


def test_the_built_in_targets_are_named_with_a_colon() -> None:
    assert target_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_target_is_what_its_name_says(name: str) -> None:
    target = load_target(name)
    format_name, _, processor = name.partition(":")
    assert name == target.NAME
    assert format_name == target.FORMAT
    assert target.FORMAT in FORMATS.built_in()
    assert target.PROCESSOR == "cpu"
    assert target.EXECUTED_BY == "hardware"
    assert (target.BACKEND or "cpu").lower().removesuffix("backend") == processor


@pytest.mark.parametrize("name", ["onnx:gpu", "onnx-cpu", "onnx_cpu", "onnx", "", ":", "onnx:cpu:0", "os:path"])
def test_an_unknown_target_names_those_there_are_as_users_write_them(name: str) -> None:
    with pytest.raises(UsageError) as failure:
        load_target(name)
    assert f"'{name}'" in failure.value.problem
    assert failure.value.remedy == "There are: executorch:xnnpack, onnx:cpu, tflite:xnnpack."
