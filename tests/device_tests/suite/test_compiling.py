"""Compiling in the target's own process: what it lacks, what it refuses, and how a crash is told."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from fastserve_device_tests.compilers.compiled import Compiled, graphs_in
from fastserve_device_tests.needs import Needs
from fastserve_device_tests.suite.compiling import check_there, compile_in_process, compiler_versions
from fastserve_device_tests.targets import load_target
from fastserve_runtime.bundle.manifest import parse_variant
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.parsing import Fields
from manifests import MODEL, text_bundle, variant, write_directory


@dataclass
class Target:
    """A target of this name, started in another way."""

    NAME: str
    own_needs: Needs = field(default_factory=Needs)
    COMPILED_BY: tuple[str, ...] = ("numpy", "no-such-distribution")

    def needs(self) -> Needs:
        return self.own_needs


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "text.fsb", *text_bundle()) / MODEL


def compile_on(target: Any, model: Path, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    out = tmp_path / "out"
    out.mkdir()
    return compile_in_process(target, model, variant(**changes), out)


def test_what_was_compiled_is_a_variants_fields_and_the_report() -> None:
    known = parse_variant(Fields(variant(), "the variant"))
    compiled = Compiled(
        "rknn",
        ("model.rknn",),
        graphs_in("model.rknn", known.graphs),
        known.operators,
        known.expected_placement,
        known.requires,
        {"bytes": 7},
    )
    document = compiled.as_document()
    assert document.pop("report") == {"bytes": 7}
    read = parse_variant(Fields({**variant(), **document}, "the variant"))
    assert read == replace(known, format="rknn", files=("model.rknn",), graphs=graphs_in("model.rknn", known.graphs))


def test_what_is_missing_is_told_with_the_command_that_brings_it(model: Path, tmp_path: Path) -> None:
    target: Any = Target("onnx:qnn-htp", Needs(modules={"no_such_module": "pip install it"}))
    with pytest.raises(EnvironmentFailure, match="onnx:qnn-htp lacks the package no_such_module") as failure:
        check_there(target)
    assert failure.value.remedy == "Install it: pip install it."
    with pytest.raises(EnvironmentFailure, match="lacks the package no_such_module"):
        compile_on(target, model, tmp_path)
    check_there(load_target("onnx:cpu"))


def test_a_target_without_a_compiler_is_told_by_its_process(model: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="onnx:cpu has no compiler"):
        compile_on(Target("onnx:cpu"), model, tmp_path)


def test_a_process_that_dies_is_told_with_its_last_words(model: Path, tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('the licence server is down')\n")
    script.chmod(0o755)
    target = Target("onnx:qnn-htp", Needs(interpreter=script))
    with pytest.raises(EnvironmentFailure, match=r"ended with exit code 1: the licence server is down\."):
        compile_on(target, model, tmp_path)


def test_a_process_that_hangs_is_ended(model: Path, tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nsleep 60\n")
    script.chmod(0o755)
    target = Target("onnx:qnn-htp", Needs(interpreter=script, seconds=0.3))
    with pytest.raises(EnvironmentFailure, match="The process of the compiler for onnx:qnn-htp gave no answer in"):
        compile_on(target, model, tmp_path)


def test_versions_are_those_of_the_environment_that_compiles(tmp_path: Path) -> None:
    import numpy

    assert compiler_versions(Target("x")) == {"numpy": numpy.__version__}
    own = tmp_path / "numpy-1.2.3.dist-info"
    own.mkdir()
    (own / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.2.3\n")
    elsewhere = Needs(interpreter=Path(sys.executable), environment={"PYTHONPATH": str(tmp_path)})
    assert compiler_versions(Target("x", elsewhere)) == {"numpy": "1.2.3"}
