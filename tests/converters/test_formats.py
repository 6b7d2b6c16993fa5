"""Formats are found by name, refused where their converter is missing, and export what the exportable model
computes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastserve_runtime
from fastserve_converters.formats import (
    DEFAULT_PRECISIONS,
    FORMATS,
    cached_exporter,
    check_installed,
    check_precision,
    chosen_precisions,
    installation_hint,
    missing_modules,
    onnx,
    precisions_of,
)
from fastserve_converters.layer_map import read_intermediates, read_modules
from fastserve_converters.precisions import FP32, Precision
from fastserve_converters.worker.jobs import Jobs
from fastserve_runtime.errors import EnvironmentFailure, UsageError

BUILT_IN = ("executorch", "onnx", "tflite")
LENGTH = 16
PRECISIONS = ("fp32", "int8-dynamic")


def test_the_built_in_formats_are_found_by_name() -> None:
    assert FORMATS.built_in() == BUILT_IN
    assert [FORMATS.load(name).NAME for name in BUILT_IN] == list(BUILT_IN)


def test_an_unknown_format_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="There is no format 'onx'") as failure:
        check_installed("onx")
    assert "Did you mean 'onnx'?" in failure.value.remedy


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_format_has_fp32_and_what_it_makes_from_it(name: str) -> None:
    precisions = FORMATS.load(name).PRECISIONS
    assert precisions["fp32"].base is None
    assert precisions["fp32"].linear is None
    assert precisions.keys() & set(DEFAULT_PRECISIONS) == {"fp32", "int8-dynamic"}
    made: set[str] = set()
    for name_, precision_spec in precisions.items():
        assert precision_spec.base is None or precision_spec.base in made, "a base comes before what is made from it"
        made.add(name_)


def test_a_converter_that_is_not_installed_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "MODULES", ("json", "no_such_module", "not_there_either"))
    assert missing_modules(onnx) == ("no_such_module", "not_there_either")
    with pytest.raises(EnvironmentFailure, match="The converter for onnx is not installed") as failure:
        check_installed("onnx")
    assert "no_such_module, not_there_either" in failure.value.problem
    assert installation_hint("onnx") in failure.value.remedy
    assert "'.[onnx]'" in installation_hint("onnx")


def test_a_converter_that_is_installed_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "MODULES", ("json",))
    assert missing_modules(onnx) == ()
    assert check_installed("onnx") is onnx


def test_a_precision_that_a_format_lacks_names_those_it_has() -> None:
    precisions = {"fp32": FP32, "int8-dynamic": FP32}
    check_precision("onnx", precisions, "int8-dynamic")
    with pytest.raises(UsageError, match="The format onnx has no precision 'int4'") as failure:
        check_precision("onnx", precisions, "int4")
    assert "fp32, int8-dynamic" in failure.value.remedy


def test_what_a_format_has_for_decoders_is_in_its_module_decoder() -> None:
    assert precisions_of(onnx, "traced") is onnx.PRECISIONS
    for name in BUILT_IN:
        decoders = cached_exporter(FORMATS.load(name))
        assert precisions_of(FORMATS.load(name), "cached") == ({} if decoders is None else decoders.PRECISIONS)
    precisions = precisions_of(onnx, "cached")
    assert {"fp32", "int8", "int4", "mixed", "source"} <= precisions.keys()
    assert precisions["source"].rounding == "source"
    assert precisions["mixed"].choices is not None


@pytest.mark.parametrize("name", ["math", "no_such_package.format"])
def test_a_format_without_that_module_has_no_decoders(name: str) -> None:
    assert cached_exporter(ModuleType(name)) is None
    assert precisions_of(ModuleType(name), "cached") == {}


def test_a_module_decoder_that_lacks_something_else_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacking_format").mkdir()
    (tmp_path / "lacking_format" / "__init__.py").touch()
    (tmp_path / "lacking_format" / "decoder.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        cached_exporter(ModuleType("lacking_format"))


def of_precisions(*precisions: str) -> dict[str, Precision]:
    return dict.fromkeys(precisions, FP32)


def test_precisions_that_are_named_are_taken_from_each_format_in_its_own_order() -> None:
    formats = {"a": of_precisions("fp32", "fp16", "int4"), "b": of_precisions("fp32", "int8-dynamic")}
    assert chosen_precisions(formats, None) == {"a": ("fp32",), "b": ("fp32", "int8-dynamic")}
    assert chosen_precisions(formats, ["int4", "fp32"]) == {"a": ("fp32", "int4"), "b": ("fp32",)}
    assert chosen_precisions(formats, ["int4"]) == {"a": ("int4",), "b": ()}
    # A format that has none of the usual ones is exported as a whole.
    assert chosen_precisions({"c": of_precisions("binary")}, None) == {"c": ("binary",)}


@pytest.mark.parametrize(
    ("wanted", "problem", "remedy"),
    [
        (["fp32", "int3"], "No format to be exported has the precision 'int3'.", "a has fp32, int4; b has fp32."),
        ([], "No precision was named.", "Name some of: fp32, int4."),
    ],
)
def test_precisions_that_nothing_has_are_refused(wanted: list[str], problem: str, remedy: str) -> None:
    with pytest.raises(UsageError) as failure:
        chosen_precisions({"a": of_precisions("fp32", "int4"), "b": of_precisions("fp32")}, wanted)
    assert (failure.value.problem, failure.value.remedy) == (problem, remedy)


@pytest.fixture(scope="module")
def exported(tiny: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A small classifier, exported to ONNX by the jobs that a converter process does."""
    folder = tmp_path_factory.mktemp("jobs")
    source = {
        "path": str(tiny("bert", classify=True)),
        "task": "text-classification",
        "length": LENGTH,
        "allow_pickle": False,
        "trust_remote_code": False,
    }
    texts = {"data": [], "text_column": "text", "label_column": "label", "seed": 0}
    jobs = Jobs()
    jobs.run({"job": "reference", "source": source, "out": str(folder / "reference"), **texts})
    reference = {"reference": str(folder / "reference")}
    program = jobs.run({"job": "program", "source": source, "out": str(folder / "program"), **reference})
    documents: dict[str, Any] = {"program": program}
    for precision in PRECISIONS:
        base = onnx.PRECISIONS[precision].base
        made_from = None if base is None else str(folder / base)
        job = {"job": "artifact", "format": "onnx", "precision": precision, "base": made_from, "assignment": None}
        job["range_method"] = "min-max"
        documents[precision] = jobs.run({**job, **reference, "source": source, "out": str(folder / precision)})
    return folder, documents


def test_the_program_is_proven_and_described(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, documents = exported
    program = documents["program"]
    assert program["largest_difference"] <= 1e-5
    assert [t["name"] for t in program["inputs"]] == ["input_ids", "attention_mask"]
    assert program["outputs"] == [{"name": "logits", "dtype": "float32", "dims": [1, 3], "axes": ["batch", "classes"]}]
    assert (folder / "program" / "program.pt2").stat().st_size > 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_artifact_computes_what_the_reference_computes(exported, precision: str) -> None:
    folder, _ = exported
    with np.load(folder / "reference" / "inputs.npz") as file:
        inputs = {name: file[name] for name in file.files}
    with np.load(folder / "reference" / "reference.npz") as file:
        expected = file["logits"][:8]
    with fastserve_runtime.open_model(folder / precision / "model.onnx") as session:
        actual = [session.run({n: a[i : i + 1] for n, a in inputs.items()})["logits"][0] for i in range(8)]
    difference = np.abs(np.array(actual) - expected).max()
    assert difference < (1e-4 if precision == "fp32" else 0.5 * np.abs(expected).max())


def test_an_artifact_is_described_for_the_manifest(exported) -> None:
    _, documents = exported
    fp32, int8 = documents["fp32"], documents["int8-dynamic"]
    assert fp32["files"] == ["model.onnx"]
    graph = fp32["graphs"]["main"]
    assert [(t["name"], t["dtype"], t["dims"]) for t in graph["inputs"] + graph["outputs"]] == [
        ("input_ids", "int32", [1, LENGTH]),
        ("attention_mask", "float32", [1, LENGTH]),
        ("logits", "float32", [1, 3]),
    ]
    tokens = {"symbol": "length", "min": 2, "max": LENGTH}
    assert [t["dims"] for t in int8["graphs"]["main"]["inputs"]] == [[1, tokens]] * 2
    # The portable graph is for any runtime; the quick one for ONNX Runtime.
    assert {o["domain"] for o in fp32["operators"]} == {"ai.onnx"}
    assert "com.microsoft" in {o["domain"] for o in int8["operators"]}
    assert fp32["recipe"] == {
        "width": "fp32",
        "linear": None,
        "embedding": None,
        "activations": "float32",
        "rounding": "nearest",
        "calibration": None,
        "assignment": None,
    }
    assert (int8["recipe"]["linear"], int8["recipe"]["activations"]) == ("int8-pairs128", "dynamic-int8")
    assert fp32["expected_placement"]["total"] == sum(o["count"] for o in fp32["operators"])
    assert fp32["requires"]["engine"] == "onnxruntime"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_layer_map_names_modules_and_tensors_of_the_model(exported, precision: str) -> None:
    import onnx as onnx_library

    folder, documents = exported
    layers = read_modules(folder / precision)
    modules = {name for name, _ in documents["program"]["modules"]}
    assert set(layers) <= modules
    assert "model.bert.encoder.layer.1.attention.self.query" in layers
    assert "model.classifier" in layers
    model = onnx_library.load(str(folder / precision / "model.onnx"))
    tensors = {o for n in model.graph.node for o in n.output} | {i.name for i in model.graph.initializer}
    assert {t for names in layers.values() for t in names} <= tensors
    parts = {part for n in model.graph.node if n.op_type == "QAttention" for part in n.name.split(" + ")}
    assert {intermediate.tensor for intermediate in read_intermediates(folder / precision)} <= tensors | parts


@pytest.mark.parametrize("precision", PRECISIONS)
def test_intermediates_name_what_the_file_computes_in_the_programs_order(exported, precision: str) -> None:
    folder, _ = exported
    intermediates = read_intermediates(folder / precision)
    places = {
        (intermediate.program_node.module, intermediate.program_node.operator): intermediate
        for intermediate in intermediates
    }
    layer = "model.bert.encoder.layer.1"
    assert (f"{layer}.output.LayerNorm", "layer_norm") in places
    assert (f"{layer}.intermediate.intermediate_act_fn", "gelu") in places
    assert (f"{layer}.attention.self.query", "linear") in places
    assert ("model.classifier", "linear") in places
    assert len({intermediate.program_node for intermediate in intermediates}) == len(intermediates)
    modules = [intermediate.program_node.module for intermediate in intermediates]
    assert modules.index(f"{layer}.attention.output.dense") < modules.index(f"{layer}.output.dense")


def test_an_artifact_tells_nothing_of_the_machine_that_made_it(exported, tiny) -> None:
    folder, _ = exported
    content = (folder / "fp32" / "model.onnx").read_bytes()
    assert not re.findall(rb"/(?:home|root|tmp|usr|work|Users)/[\w./-]+", content)
    assert str(tiny("bert", classify=True)).encode() not in content
