"""Which artifacts an export makes, in which order."""

from __future__ import annotations

from dataclasses import replace

from fastserve.variants import planned_steps, with_bases
from fastserve_converters.precisions import FP32

PRECISIONS = {
    "fp32": FP32,
    "fp16": replace(FP32, base="fp32"),
    "fp32-fused": FP32,
    "int8-dynamic": replace(FP32, base="fp32-fused"),
    "smaller": replace(FP32, base="int8-dynamic"),
}


def test_a_base_comes_once_and_before_what_is_made_from_it() -> None:
    assert with_bases(PRECISIONS, ["smaller", "fp16"]) == ["fp32-fused", "int8-dynamic", "smaller", "fp32", "fp16"]
    assert with_bases(PRECISIONS, ["fp32", "int8-dynamic"]) == ["fp32", "fp32-fused", "int8-dynamic"]
    assert with_bases(PRECISIONS, []) == []


def test_a_base_that_is_not_wanted_is_made_and_not_measured() -> None:
    steps = [step.name for step in planned_steps("tflite", ["int8-dynamic"])]
    measured = [name for name in steps if name.startswith("Measure")]
    assert measured == ["Measure tflite int8-dynamic"]
    assert steps.index("Export tflite fp32") < steps.index("Export tflite int8-dynamic")
    assert "Second check of tflite int8-dynamic" in steps
    mixed = [step.name for step in planned_steps("onnx", ["mixed"])]
    assert mixed[0] == "Sensitivity of layers for onnx"
