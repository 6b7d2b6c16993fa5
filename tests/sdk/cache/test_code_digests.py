"""A step's key changes with the code that it runs, and with no other."""

from __future__ import annotations

import shutil
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import fastserve
import fastserve_converters
import fastserve_device_tests
import fastserve_runtime
from fastserve.cache.code_digests import CodeDigests, code_digest, module_of

PACKAGES = (fastserve, fastserve_converters, fastserve_device_tests, fastserve_runtime)
MEASURING = (
    "fastserve_runtime.measurement.measuring",
    "fastserve_runtime.pipelines.feature_extraction",
    "fastserve_runtime.engines.onnxruntime",
    "fastserve.devices.local",
)
MEASURING_A_DECODER = (MEASURING[0], "fastserve_runtime.pipelines.text_generation", *MEASURING[2:])
JUDGING = ("fastserve_runtime.conformance.comparison", MEASURING[1])
WORKER = (
    "fastserve_converters.worker.__main__",
    "fastserve_converters.models.sources.encoder",
    "fastserve_converters.tasks.feature_extraction",
)
REFERENCE = (*WORKER[1:], "fastserve_converters.inputs.tokenizer")
REFERENCE_OF_A_DECODER = (
    "fastserve_converters.models.sources.decoder",
    "fastserve_converters.tasks.text_generation",
    "fastserve_converters.inputs.prompt_tokenizer",
)
ONNX, TFLITE = (*WORKER, "fastserve_converters.formats.onnx"), (*WORKER, "fastserve_converters.formats.tflite")
STEPS = {
    "measuring": MEASURING,
    "measuring a decoder": MEASURING_A_DECODER,
    "judging": JUDGING,
    "reference": REFERENCE,
    "reference of a decoder": REFERENCE_OF_A_DECODER,
    "program": WORKER,
    "onnx": ONNX,
    "tflite": TFLITE,
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> CodeDigests:
    """Our packages, where they may be edited."""
    root = tmp_path_factory.mktemp("packages")
    ignored = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(Path(package.__file__ or "").parent, root / package.__name__, ignore=ignored)
    digests = CodeDigests({package.__name__: root / package.__name__ for package in PACKAGES})
    for entries in STEPS.values():
        digests.digest(*entries)
    return digests


def changed_by(unedited: CodeDigests, file: str) -> set[str]:
    """Edit a file, and return the steps whose code has another digest."""
    place = unedited.roots[file.partition("/")[0]].parent / file
    before = place.read_bytes()
    # What is imported stays as it is.
    edited = CodeDigests(dict(unedited.roots), _imports=unedited._imports)
    place.write_bytes(before + b"\n# edited\n")
    try:
        return {name for name, entries in STEPS.items() if edited.digest(*entries) != unedited.digest(*entries)}
    finally:
        place.write_bytes(before)


MAKING = {"program", "onnx", "tflite"}
OF_ENCODERS = {*MAKING, "reference"}
CONVERTING = {*OF_ENCODERS, "reference of a decoder"}
MEASURED = {"measuring", "measuring a decoder"}


@pytest.mark.parametrize(
    ("file", "steps"),
    [
        ("fastserve_runtime/generation/shared_cache.py", {"measuring a decoder"}),
        # Tokenizers of GGUF files have chat templates, and an encoder's tokenizer is looked for there too.
        ("fastserve_runtime/generation/chat_template.py", {"measuring a decoder", *CONVERTING}),
        ("fastserve_runtime/serving/server.py", set()),
        ("fastserve_runtime/cli/bench_report.py", set()),
        ("fastserve_runtime/measurement/latency.py", MEASURED),
        ("fastserve_runtime/engines/litert.py", {"tflite"}),
        ("fastserve_runtime/engines/onnxruntime.py", MEASURED),
        ("fastserve_converters/formats/onnx/portable.py", {"onnx"}),
        ("fastserve_converters/formats/tflite/conversion.py", {"tflite"}),
        ("fastserve_converters/formats/executorch/static.py", set()),
        ("fastserve_converters/quantization/gptq.py", MAKING),
        ("fastserve_converters/worker/model_jobs.py", MAKING),
        ("fastserve_converters/models/exportable_model.py", OF_ENCODERS),
        ("fastserve_converters/data/parquet.py", CONVERTING),
        ("fastserve_converters/checkpoints/quantized/awq_layout.py", CONVERTING),
        ("fastserve_converters/texts/default_texts.jsonl", CONVERTING),
        ("fastserve_converters/tasks/text_classification.py", set()),
        ("fastserve_converters/tasks/feature_extraction.py", OF_ENCODERS),
        ("fastserve_runtime/pipelines/feature_extraction.py", {"measuring", "judging"}),
        ("fastserve_runtime/pipelines/text_generation/_quality.py", {"measuring a decoder"}),
        # The command line of a task is part of its pipeline, and measuring runs none of it.
        ("fastserve_runtime/pipelines/_text_run.py", set()),
        ("fastserve_runtime/cli/chat.py", set()),
        ("fastserve_device_tests/suite/suite.py", set()),
        ("fastserve/exporting/export.py", set()),
        ("fastserve/search/ranking.py", set()),
    ],
)
def test_an_edit_changes_the_keys_of_what_runs_the_code(copied: CodeDigests, file: str, steps: set[str]) -> None:
    assert changed_by(copied, file) == steps


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., CodeDigests]:
    """Write a package of modules."""

    def write(**modules: str) -> CodeDigests:
        for name, source in modules.items():
            file = tmp_path / "own" / (name.replace("__", "/") + ".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            for folder in (f for f in file.parents if tmp_path in f.parents):
                (folder / "__init__.py").touch()
            file.write_text(source)
        return CodeDigests({"own": tmp_path / "own"})

    return write


def found(digests: CodeDigests, *entries: str) -> list[str]:
    return sorted(digests.modules(entries) - {"own"})


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import own.b", ["own.a", "own.b"]),
        ("from own import b", ["own.a", "own.b"]),
        ("from own.b import name", ["own.a", "own.b"]),
        ("from . import b", ["own.a", "own.b"]),
        ("from .c.d import name", ["own.a", "own.c", "own.c.d"]),
        ("def f():\n    import own.b", ["own.a", "own.b"]),
        ("class C:\n    async def f(self):\n        from own import b", ["own.a", "own.b"]),
        ("if TYPE_CHECKING:\n    import own.b", ["own.a"]),
        ("if typing.TYPE_CHECKING:\n    import own.b\nelse:\n    import own.c.d", ["own.a", "own.c", "own.c.d"]),
        ("def __getattr__(name):\n    import own.b", ["own.a"]),
        ("import_module('own.b')", ["own.a", "own.b"]),
        ("importlib.import_module(f'own.{name}')", ["own.a", "own.b", "own.c", "own.e"]),
        ("PARTS = PartFolder('own.c', 'group', 'kind')", ["own.a", "own.c", "own.c.d"]),
        ("import json, numpy.linalg", ["own.a"]),
    ],
)
def test_imports_are_followed_as_they_may_run(
    package: Callable[..., CodeDigests], source: str, modules: Sequence[str]
) -> None:
    digests = package(a=source, b="", c__d="", e="")
    assert found(digests, "own.a") == modules


def test_functions_of_a_package_that_is_only_passed_through_do_not_run(
    package: Callable[..., CodeDigests], tmp_path: Path
) -> None:
    package(a="", c__d="")
    (tmp_path / "own" / "c" / "__init__.py").write_text("def f():\n    import own.a")
    digests = CodeDigests({"own": tmp_path / "own"})
    assert found(digests, "own.c.d") == ["own.c", "own.c.d"]
    assert found(digests, "own.c") == ["own.a", "own.c"]


def test_circles_end_and_data_beside_a_module_counts(package: Callable[..., CodeDigests], tmp_path: Path) -> None:
    package(a="import own.c.d", c__d="import own.a")
    (tmp_path / "own" / "c" / "table.json").write_text("{}")
    (tmp_path / "own" / "texts").mkdir()
    (tmp_path / "own" / "texts" / "words.txt").write_text("a")
    digests = CodeDigests({"own": tmp_path / "own"})
    expected = ["__init__.py", "a.py", "c/__init__.py", "c/d.py", "c/table.json", "texts/words.txt"]
    assert sorted(digests.files(["own.a"])) == [f"own/{name}" for name in expected]


def test_the_package_of_another_ones_part_counts_with_what_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("scratch_part_one", "scratch_part_two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "helper.py").write_text("VALUE = 1")
        (tmp_path / name / "part.py").write_text(f"from {name} import helper\n\n\nclass Part:\n    pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    from scratch_part_one import part as one
    from scratch_part_two import part as two

    assert module_of(one) == module_of(one.Part) == module_of(one.Part()) == "scratch_part_one.part"
    first = code_digest(one.Part())
    assert first == code_digest(one) == code_digest("scratch_part_one.part")
    assert first != code_digest(two)
    (tmp_path / "scratch_part_one" / "helper.py").write_text("VALUE = 2")
    assert code_digest(one) == first, "the code of this process is what was there at first"
    fresh = CodeDigests({"scratch_part_one": tmp_path / "scratch_part_one"})
    assert fresh.digest("scratch_part_one.part") != first


def test_a_part_may_be_a_single_module_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "scratch_single.py"
    file.write_text("from fastserve_runtime import errors")
    (tmp_path / "beside.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "scratch_single", types.ModuleType("scratch_single"))
    sys.modules["scratch_single"].__file__ = str(file)
    assert len(code_digest("scratch_single")) == 64
    digests = CodeDigests({"scratch_single": file})
    assert list(digests.files(["scratch_single"])) == ["scratch_single/scratch_single.py"]
