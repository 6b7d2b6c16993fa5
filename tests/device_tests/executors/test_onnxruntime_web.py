"""Where ONNX Runtime Web puts nodes is read from its words, and what is missing or not what was asked for is told."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from fastserve_device_tests.executors import onnxruntime_web
from fastserve_device_tests.executors.onnxruntime_web import HOME, INSTALL, nodes_of_providers
from fastserve_device_tests.targets import load_target
from fastserve_runtime.bundle.manifest import parse_variant
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.parsing import Fields
from manifests import variant

ENGINE = load_target("onnx:web-wasm").engine
GPU, CPU = "WebGpuExecutionProvider", "CPUExecutionProvider"
SCRIPT = Path(__file__).parents[3] / "scripts" / "setup_onnxruntime_web.sh"


def requiring(minimum: str) -> object:
    requires = {"engine": "onnxruntime", "min_version": minimum, "backends": [], "platforms": []}
    return parse_variant(Fields(variant(requires=requires), "the variant"))


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the library that has nothing yet."""
    monkeypatch.setenv(HOME, str(tmp_path))
    return tmp_path


def test_nodes_are_counted_by_provider() -> None:
    words = [
        "2026-11-23 [V:onnxruntime:, session_state.cc:1316 VerifyEachNodeIsAssignedToAnEp] Node placements",
        f"[V:onnxruntime:] Node(s) placed on [{GPU}]. Number of nodes: 42",
        f"[V:onnxruntime:]  Node(s) placed on [{CPU}]. Number of nodes: 17",
        "[V:onnxruntime:]   Gather (a)",
    ]
    assert nodes_of_providers(words) == {GPU: 42, CPU: 17}
    assert nodes_of_providers([f" All nodes placed on [{CPU}]. Number of nodes: 3"]) == {CPU: 3}
    assert nodes_of_providers(["Node placements", "nothing"]) == {}


def test_a_library_that_is_not_there_names_the_command_that_fetches_it(library: Path) -> None:
    engine = ENGINE(requiring("1.18"))
    assert engine.version() is None
    with pytest.raises(EnvironmentFailure, match="ONNX Runtime Web is missing") as failure:
        engine.import_library()
    # Behind the browser's, where that is not there either.
    assert failure.value.remedy.endswith(INSTALL)
    assert load_target("onnx:web-webgpu").needs().missing()["ONNX Runtime Web"] == INSTALL


def test_a_browser_that_is_not_there_names_the_command_that_installs_it(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_web, "BROWSERS", ("a-browser-that-nobody-made",))
    assert load_target("onnx:web-wasm").needs().missing()["Chromium"] == "apt-get install chromium"


def test_a_library_that_is_too_old_for_a_variant_is_told_with_both_versions(library: Path) -> None:
    (library / "package.json").write_text(json.dumps({"version": "1.17.0"}))
    assert ENGINE(requiring("1.17")).version() == "1.17.0"
    with pytest.raises(EnvironmentFailure, match=r"needs ONNX Runtime Web in WebAssembly 1\.18 or later; 1\.17\.0 is"):
        ENGINE(requiring("1.18"))


def test_another_archive_than_the_known_one_is_refused_and_nothing_installed(library: Path, tmp_path: Path) -> None:
    programs, folder = tmp_path / "programs", tmp_path / "library"
    programs.mkdir()
    (tmp_path / "evil.js").write_text("steal()")
    with tarfile.open(programs / "archive.tgz", "w:gz") as archive:
        archive.add(tmp_path / "evil.js", "package/package.json")
    npm = programs / "npm"
    npm.write_text(f'#!/bin/sh\ncp {programs}/archive.tgz "$(echo "$4" | tr @ -).tgz"\n')
    npm.chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", str(SCRIPT), str(folder)], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "its SHA-512 differs. Nothing was installed." in done.stderr
    assert not folder.exists()
