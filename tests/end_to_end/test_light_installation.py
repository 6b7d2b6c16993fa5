"""Checking and running bundles needs no converter: the base installation in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an environment with the SDK's base, ONNX Runtime, and nothing else."""
    folder = tmp_path_factory.mktemp("light")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    install = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q", "--no-compile"]
    packages = ["-c", str(ROOT / "constraints.txt"), f"{ROOT}/runtimes[onnx]", str(ROOT)]
    done = subprocess.run([*install, *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"packages cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return folder


def run(light: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(light / "bin" / "fastserve"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=light)


def test_bundles_are_inspected_verified_conformed_and_run(light: Path, tiny_bundle: Path) -> None:
    for command in (["inspect"], ["verify"], ["conform", "--target", "onnx:cpu"]):
        done = run(light, command[0], tiny_bundle, *command[1:])
        assert done.returncode == 0, done.stderr
    assert "cosine similarity" in run(light, "run", tiny_bundle, "one", "two").stdout
    missing = subprocess.run([light / "bin" / "python", "-c", "import torch"], capture_output=True, check=False)
    assert missing.returncode == 1


def test_missing_converters_are_a_sentence_with_the_command(light: Path, tiny_bert: Path) -> None:
    for words in ([], ["--format", "tflite"]):
        done = run(light, "export", tiny_bert, "-o", "x.fsb", *words)
        assert done.returncode == 1
        assert "is installed" in done.stderr or "is not installed" in done.stderr
        assert "pip install '.[" in done.stderr
        assert "Traceback" not in done.stderr


def test_hub_models_say_what_is_missing(light: Path) -> None:
    done = run(light, "export", "hf:organisation/name", "-o", "x.fsb")
    assert done.returncode == 1
    assert "Error:" in done.stderr


def test_variant_without_its_engine_is_not_run_and_never_passes(light: Path, tiny_bundle: Path) -> None:
    script = (
        "import fastserve.cli, fastserve_runtime.engines.onnxruntime as engine\n"
        "engine.version = lambda: None\n"
        "fastserve.cli.main()"
    )
    command = [str(light / "bin" / "python"), "-c", script, "verify", str(tiny_bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=light)
    assert done.returncode == 1
    assert "NOT_RUN" in done.stdout
    assert "pip install onnxruntime" in " ".join(done.stderr.split())
