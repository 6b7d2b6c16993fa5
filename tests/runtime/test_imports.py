"""What importing and running the runtime brings in, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNTIMES = ROOT / "runtimes"
IMPORTED = """
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import fastserve_runtime
import json
names = {name.partition(".")[0] for name in set(sys.modules) - before}
foreign = sorted(names - set(sys.stdlib_module_names) - {"fastserve_runtime"})
print(json.dumps({"file": fastserve_runtime.__file__, "foreign": foreign, "count": len(names)}))
"""


def python_of(version: str) -> str | None:
    """Find an interpreter of that version that starts: on the PATH, or where pyenv keeps them."""
    found = [
        shutil.which(f"python{version}"),
        *sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")),
    ]
    for candidate in found:
        if candidate is None:
            continue
        command = [str(candidate), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.stdout.strip() == version:
            return str(candidate)
    return None


def imported(python: str) -> dict[str, object]:
    command = [python, "-I", "-S", "-c", IMPORTED, str(RUNTIMES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert Path(result["file"]).is_relative_to(RUNTIMES)
    return result


def test_onnx_runtime_keeps_no_record_of_its_use(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    program = "import fastserve_runtime.engines.onnxruntime as engine; engine.import_library()"
    unset = {"ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME", "PYTEST_CURRENT_TEST"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    subprocess.run([sys.executable, "-c", program], env={**environment, "HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_importing_the_runtime_imports_nothing_but_the_standard_library() -> None:
    result = imported(sys.executable)
    assert result["foreign"] == []
    assert result["count"] > 1


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_every_supported_python_imports_the_runtime(version: str) -> None:
    python = python_of(version)
    if python is None:
        pytest.skip(f"Python {version} is not on this machine")
    assert imported(python)["foreign"] == []


def test_the_versions_tested_are_those_that_the_package_supports() -> None:
    metadata = (RUNTIMES / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.10,<3.14"' in metadata


def test_everything_that_is_offered_is_there() -> None:
    import fastserve_runtime

    for name in fastserve_runtime.__all__:
        assert getattr(fastserve_runtime, name) is not None
    assert re.fullmatch(r"\d+\.\d+\.\d+", fastserve_runtime.__version__)


def test_names_come_when_they_are_used() -> None:
    code = (
        "import sys, fastserve_runtime as f\n"
        "assert 'load' in dir(f) and 'fastserve_runtime.loading' not in sys.modules\n"
        "assert callable(f.load) and 'fastserve_runtime.loading' in sys.modules\n"
        "assert f.load is vars(f)['load']\n"
        "assert not hasattr(f, 'unload')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_wheel_is_small_and_pure(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", tmp_path, RUNTIMES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "hatchling" in done.stderr:
        pytest.skip(f"the build backend cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < 375_000
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        scripts = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    others = {n for n in names if n.startswith("fastserve_runtime/") and not n.endswith(".py")}
    assert others == {"fastserve_runtime/bundle/manifest.schema.json", "fastserve_runtime/py.typed"}
    assert "fastserve-runtime = fastserve_runtime.starting:main" in scripts


RUN = """
import json, sys
import fastserve_runtime
result = fastserve_runtime.load(sys.argv[1])(["a b"])
verification = fastserve_runtime.verify(fastserve_runtime.open_bundle(sys.argv[1]))
try:
    import torch
except ImportError:
    torch = None
print(json.dumps({
    "shape": result.shape,
    "torch": torch is not None,
    "file": fastserve_runtime.__file__,
    "verified": [v.outcome.value for v in verification.verdicts],
}))
"""


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(v, marks=[] if sys.version_info[:2] == tuple(map(int, v.split("."))) else [pytest.mark.slow])
        for v in ("3.10", "3.11", "3.12", "3.13")
    ],
)
def test_only_numpy_and_one_engine(tiny_bundle: Path, tmp_path: Path, version: str) -> None:
    interpreter = python_of(version)
    if interpreter is None:
        pytest.skip(f"Python {version} is not on this machine")
    environment = tmp_path / "environment"
    subprocess.run([interpreter, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-compile"]
    # The constraints are of one Python; others may have no wheels of those versions.
    is_ours = sys.version_info[:2] == tuple(map(int, version.split(".")))
    constraints = ["--constraint", ROOT / "constraints.txt"] if is_ours else []
    packages = [*constraints, "numpy", "onnxruntime", "tokenizers", RUNTIMES]
    done = subprocess.run([*install, *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot install packages here: {done.stderr.strip()[-300:]}")
    bundle = tmp_path / "copy.fsb"
    shutil.copytree(tiny_bundle, bundle)
    done = subprocess.run([python, "-I", "-c", RUN, bundle], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["shape"] == [1, 32]
    assert result["torch"] is False
    assert Path(result["file"]).is_relative_to(environment)
    assert set(result["verified"]) == {"PASS"}
