"""Engines are tried where their end ends nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastserve_runtime.engines import ENGINES, litert, onnxruntime
from fastserve_runtime.errors import EXIT_ENVIRONMENT, EXIT_OK, EXIT_USAGE
from fastserve_runtime.measurement.engine_trials import needed_instruction_sets, trial_row, trials_document, trials_of
from fastserve_runtime.measurement.instruction_sets import instruction_sets
from fastserve_runtime.measurement.machine import Machine, this_machine
from manifests import text_bundle, write_directory

PENTIUM = Machine("an old one", 1, "x86_64", ("ssse3",), None, "Linux")
CRASHING = "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"


def inspect(*words: str, packages: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(packages or ""), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "fastserve_runtime", "inspect", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_directory(tmp_path_factory.mktemp("tried") / "text.fsb", *text_bundle())


@pytest.fixture
def crashing(tmp_path) -> Path:
    """A folder with an onnxruntime that ends its process as a library for another processor does."""
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text(CRASHING)
    return tmp_path


def test_every_engine_that_is_installed_runs_here(bundle) -> None:
    done = inspect("--machine", "--json")
    assert done.returncode == EXIT_OK, done.stderr
    document = json.loads(done.stdout)
    assert document["machine"]["instruction_sets"] == list(instruction_sets(this_machine().architecture))
    trials = {trial["engine"]: trial for trial in document["engines"]}
    assert set(trials) >= set(ENGINES.built_in())
    assert trials["onnxruntime"]["runs"] is trials["litert"]["runs"] is True
    assert trials["onnxruntime"]["missing"] == []
    assert trials["tflite-runtime"] == trials["tflite-runtime"] | {"runs": None, "problem": "not installed"}


def test_an_engine_for_another_processor_is_named_and_ends_nothing_else(crashing) -> None:
    done = inspect("--machine", "--engine", "onnxruntime", packages=crashing)
    assert done.returncode == EXIT_ENVIRONMENT
    heading, sets, empty, *_ = done.stdout.splitlines()
    assert heading == str(this_machine())
    assert sets == f"instruction sets: {' '.join(this_machine().instruction_sets)}"
    assert empty == ""
    line = next(line for line in done.stdout.splitlines() if line.startswith("onnxruntime"))
    assert "NO" in line
    assert "crashed with SIGILL: the library was built for another processor" in line
    assert inspect("--machine", "--engine", "litert", packages=crashing).returncode == EXIT_OK


def test_a_bundles_variants_are_run_too(bundle, crashing) -> None:
    done = inspect(str(bundle), "--machine", "--engine", "onnxruntime", "--json")
    assert done.returncode == EXIT_OK, done.stdout
    (trial,) = [t for t in json.loads(done.stdout)["engines"] if t["variant"]]
    assert (trial["engine"], trial["runs"]) == ("onnxruntime", True)
    done = inspect(str(bundle), "--machine", "--engine", "onnxruntime", "--json", packages=crashing)
    (trial,) = [t for t in json.loads(done.stdout)["engines"] if t["variant"]]
    assert (trial["runs"], "SIGILL" in trial["problem"]) == (False, True)


def test_a_damaged_variant_does_not_run(tmp_path, bundle) -> None:
    wrong = tmp_path / "wrong.fsb"
    shutil.copytree(bundle, wrong)
    document = json.loads((wrong / "manifest.json").read_text())
    next(iter(document["files"].values()))["sha256"] = "0" * 64
    (wrong / "manifest.json").write_text(json.dumps(document))
    done = inspect(str(wrong), "--machine", "--engine", "onnxruntime", "--json")
    assert done.returncode == EXIT_ENVIRONMENT
    (trial,) = [t for t in json.loads(done.stdout)["engines"] if t["variant"]]
    assert trial["runs"] is False
    assert "was altered or damaged" in trial["problem"]


def test_what_a_processor_lacks_is_named() -> None:
    assert needed_instruction_sets(onnxruntime, "AMD64") == ("ssse3", "sse4_1", "sse4_2")
    assert needed_instruction_sets(litert, "arm64") == ("neon",)
    assert needed_instruction_sets(litert, "riscv64") == ()
    (trial,) = trials_of(None, PENTIUM, "onnxruntime")
    assert trial.missing == ("sse4_1", "sse4_2")
    assert trial_row(trial)[-1] == "this processor lacks sse4_1 sse4_2"
    assert trials_document([trial], PENTIUM)["engines"][0]["missing"] == ["sse4_1", "sse4_2"]
    unknown = Machine("nobody knows", 1, "x86_64", (), None, "Plan 9")
    (trial,) = trials_of(None, unknown, "onnxruntime")
    assert trial.missing == ()


def test_without_a_bundle_the_machine_must_be_asked_for() -> None:
    done = inspect()
    assert done.returncode == EXIT_USAGE
    assert done.stderr.startswith("usage: fastserve-runtime inspect")
    assert "a BUNDLE is wanted, or --machine" in done.stderr
