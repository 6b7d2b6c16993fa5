"""Which versions a target computes with."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import pytest

from fastserve_device_tests.needs import Needs
from fastserve_device_tests.suite.versions import target_versions
from fastserve_device_tests.targets import load_target
from manifests import text_bundle, write_directory

ONNX = load_target("onnx:cpu")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "text.fsb", *text_bundle())


def test_the_engine_and_python_are_told_by_a_process_of_the_target(bundle: Path) -> None:
    assert target_versions(bundle, ONNX) == {"onnxruntime": version("onnxruntime"), "python": platform.python_version()}


def test_packages_that_a_target_needs_are_told_too(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastserve_device_tests.suite.versions import versions_here

    monkeypatch.setattr(ONNX, "needs", lambda: Needs(modules={"numpy": "pip install numpy"}))
    assert versions_here(bundle, ONNX)["numpy"] == version("numpy")


def test_a_target_that_cannot_run_here_has_no_versions(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ONNX, "needs", lambda: Needs(modules={"a_module_that_nobody_made": "pip install it"}))
    assert target_versions(bundle, ONNX) == {}


def test_an_environment_that_fails_has_no_versions(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\nexit 1\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(ONNX, "needs", lambda: Needs(interpreter=interpreter))
    assert target_versions(bundle, ONNX) == {}
