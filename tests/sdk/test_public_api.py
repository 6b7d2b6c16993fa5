"""What the packages promise: their names, the signature of `export`, and light imports."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import textwrap

import pytest

import fastserve
import fastserve_runtime


def test_the_names_of_fastserve() -> None:
    assert sorted(fastserve.__all__) == [
        "Bisection",
        "Budget",
        "Bundle",
        "BundleError",
        "Candidate",
        "EnvironmentFailure",
        "ExportResult",
        "FastServeError",
        "Limit",
        "Quality",
        "UsageError",
        "Verdict",
        "__version__",
        "bisect",
        "conform",
        "export",
        "load",
        "open_bundle",
        "pack",
        "verify",
    ]


def test_the_names_of_fastserve_runtime() -> None:
    assert sorted(fastserve_runtime.__all__) == [
        "Binding",
        "Bundle",
        "BundleError",
        "EnvironmentFailure",
        "FastServeError",
        "InputError",
        "Limits",
        "Manifest",
        "Outcome",
        "Placement",
        "Session",
        "Signature",
        "SymbolicDim",
        "TensorSpec",
        "UsageError",
        "Variant",
        "Verdict",
        "Verification",
        "__version__",
        "load",
        "open_bundle",
        "open_model",
        "verify",
    ]


FACES = {
    "fastserve.api": "Budget Candidate CannotPropose Device EngineThere MeasurementJob OUTPUTS Planner Space",
    "fastserve_converters.api": (
        "Answers Artifact CachedExporter CachedPart Checkpoint ClassLabels ExportJob FP32 Format LabelSets Lowered "
        "Lowering ModelOutput Numbers Pass PassJob PassModule PassReport Precision Recipe Sample IntermediateOutput "
        "FormatWithIntermediates GivenData InputKind LoadedCheckpoint PreparedInputs Task TracedPart WeightScheme "
        "count_operators load_model record_layer_sqnr "
        "write_checkpoint write_layer_map"
    ),
    "fastserve_device_tests.api": (
        "Compiled CompilingTarget ESTIMATES Needs Target graphs_in native_words nothing_executes separate_environment"
    ),
    "fastserve_runtime.api": (
        "BundleError Comparison Engine EnvironmentFailure ExpectedPlacement FastServeError FirstTokenCall "
        "Golden Graph InputError Machine Manifest MeasuredModel Measurement ModelSource NamedSession "
        "OpenWorkload OperatorCount Pipeline PipelineModule Placement Preprocessing Preprocessor "
        "PreprocessorKind Quality Requirement Results Session Signature SymbolicDim Table TensorSpec TextPipeline "
        "TextPreprocessor UsageError Variant Workload add_text_flags check_encoder given_samples measured_model "
        "measurement_document not_of_task parse_graphs parse_measurement result_documents result_table text_options "
        "this_machine usable_engine"
    ),
}
"""What packages of others are written with."""


@pytest.mark.parametrize("name", FACES)
def test_the_names_that_other_packages_are_written_with(name: str) -> None:
    assert sorted(importlib.import_module(name).__all__) == sorted(FACES[name].split())


@pytest.mark.parametrize("name", FACES)
def test_a_face_imports_nothing_heavy(name: str) -> None:
    code = f"import sys, {name}; print(*({{'numpy', 'torch', 'transformers', 'rich', 'typer'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", FACES)
def test_a_name_that_is_not_promised_is_not_there(name: str) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = importlib.import_module(name).nonsense


@pytest.mark.parametrize("package", [fastserve, fastserve_runtime, *map(importlib.import_module, FACES)])
def test_every_promised_name_is_there(package) -> None:
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def test_both_packages_have_one_version() -> None:
    assert fastserve.__version__ == fastserve_runtime.__version__


def test_the_signature_of_export() -> None:
    parameters = inspect.signature(fastserve.export).parameters
    assert list(parameters)[:2] == ["model", "output"]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in list(parameters.values())[2:])
    assert {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty} == {
        "task": "auto",
        "formats": None,
        "precisions": None,
        "targets": None,
        "sequence_length": None,
        "context": None,
        "truncate_dim": None,
        "max_size": None,
        "max_memory": None,
        "max_latency": None,
        "max_ttft": None,
        "max_tpot": None,
        "min_quality": None,
        "budget": None,
        "keep": "formats",
        "data": (),
        "text_column": None,
        "label_column": None,
        "text_pair_column": None,
        "pairs": False,
        "range_method": "min-max",
        "passes": (),
        "planners": None,
        "device": "local",
        "threads": 1,
        "seed": 0,
        "cache_dir": None,
        "force": False,
        "remeasure": False,
        "debug": False,
        "debug_dir": None,
        "trust_remote_code": False,
        "allow_pickle": False,
        "reporter": None,
        "example": None,
        "samples": None,
        "quality": None,
        "dynamic_shapes": None,
        "axes": None,
    }


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (fastserve.load, ["bundle", "variant", "engine", "threads"]),
        (fastserve.open_bundle, ["location"]),
        (fastserve.pack, ["bundle", "output", "variant", "force"]),
        (fastserve.verify, ["bundle", "variant", "engine", "threads"]),
        (fastserve.conform, ["bundle", "targets"]),
        (fastserve.bisect, ["bundle", "reference", "target", "variant", "samples", "reporter", "cache_dir"]),
        (fastserve_runtime.open_model, ["path", "engine", "threads", "isolate"]),
    ],
)
def test_the_parameters_of_the_other_functions(function, expected: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == expected


def loaded_by(statement: str) -> set[str]:
    script = f"""
        import sys
        {statement}
        print(" ".join(sys.modules))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("statement", ["import fastserve", "import fastserve.cli"])
def test_importing_fastserve_brings_no_converter_and_no_engine(statement: str) -> None:
    heavy = {"torch", "transformers", "datasets", "onnxruntime", "onnx", "ai_edge_litert", "executorch", "pandas"}
    modules = loaded_by(f"{statement}; fastserve.ExportResult")
    assert "fastserve.exporting.export" in modules
    assert modules & (heavy | {"litert_torch", "tokenizers", "huggingface_hub"}) == set()


def test_every_name_of_fastserve_comes_when_it_is_used() -> None:
    assert "fastserve.exporting.export" not in loaded_by("import fastserve")
    assert all(getattr(fastserve, name) is not None for name in fastserve.__all__)
    assert set(fastserve.__all__) <= set(dir(fastserve))
    with pytest.raises(AttributeError, match="has no attribute 'exprot'"):
        fastserve.exprot  # noqa: B018


def test_importing_the_runtime_brings_not_even_numpy() -> None:
    modules = loaded_by("import fastserve_runtime; fastserve_runtime.open_bundle, fastserve_runtime.load")
    assert "fastserve_runtime.bundle.reader" in modules
    assert modules & {"numpy", "torch", "onnxruntime", "tokenizers", "rich", "typer"} == set()
