"""Which artifacts an export makes, in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastserve.cache.cache import Entry
from fastserve.search.budget import budget_from_flags
from fastserve.search.variants import Making, make_candidates, planned_steps, with_bases
from fastserve_converters.formats.executorch import PRECISIONS as EXECUTORCH
from fastserve_converters.formats.onnx import PRECISIONS as ONNX
from fastserve_converters.formats.tflite import PRECISIONS as TFLITE
from fastserve_converters.precisions import FP32, INT8, Precision
from fastserve_converters.quantization.assignment import Option, Unit, units_document
from fastserve_runtime.errors import EnvironmentFailure

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
    steps = [step.name for step in planned_steps("tflite", TFLITE, ["int8-dynamic"])]
    measured = [name for name in steps if name.startswith("Measure")]
    assert measured == ["Measure tflite int8-dynamic"]
    assert steps.index("Export tflite fp32") < steps.index("Export tflite int8-dynamic")
    assert "Second check of tflite int8-dynamic" in steps
    mixed = [step.name for step in planned_steps("onnx", ONNX, ["mixed"])]
    assert mixed[0] == "Sensitivity of layers for onnx"


INT4 = EXECUTORCH["int4"].linear


class StoringMore:
    """Stages whose mixed files are larger than is counted, the more so the more layers are in int8."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sizes: list[int] = []

    def precisions(self, _: str) -> Mapping[str, Precision]:
        return EXECUTORCH

    def sensitivity(self, *_: Any) -> Entry:
        options = (Option(INT8, 0.001, 40_000), Option(INT4, 0.02, 20_000))
        units = [Unit((f"layer.{i}",), 1, options) for i in range(100)]
        return self._entry("sensitivity", {"units": units_document(units), "other_bytes": 0})

    def artifact(self, *names: Any, assignment: dict[str, Any] | None, **_: Any) -> Entry:
        entry = self._entry("-".join(map(str, names[1:])), {"files": ["model"]})
        if assignment is not None:
            stored = sum(42_000 if scheme == INT8.as_document() else 20_000 for scheme in assignment.values())
            self.sizes.append(stored)
            (entry.folder / "model").write_bytes(bytes(stored))
        return entry

    def measurement(self, *_: Any, **__: Any) -> Entry:
        raise EnvironmentFailure("nothing is measured here")

    def _entry(self, name: str, result: dict[str, Any]) -> Entry:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return Entry(name, folder, result, {}, 0.0)


def test_a_mixed_file_that_came_out_too_large_is_made_again_until_it_fits(tmp_path: Path) -> None:
    stages = StoringMore(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(bytes(1000))
    reference = Entry("reference", tmp_path, {}, {}, 0.0)
    making = Making(stages, reference, budget_from_flags(max_size="3000kB"), 1, False, 0, "min-max")  # type: ignore[arg-type]
    *_, mixed = make_candidates(making, "executorch", ["mixed"])
    assert 1 < len(stages.sizes) <= 3
    assert stages.sizes[0] > 3_000_000
    assert mixed.size == stages.sizes[-1] + 1000
    assert 2_900_000 < mixed.size <= 3_000_000
