import importlib.metadata
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import fastserve_runtime

fse = pytest.importorskip("fastserve_executorch", reason="fastserve-executorch is not installed")

SOURCE = Path(__file__).parents[3] / "runtimes" / "executorch_native"
CARRIED = {
    "Eigen": "Mozilla Public License Version 2.0",
    "FP16": "The MIT License",
    "FXdiv": "The MIT License",
    "KleidiAI": "Arm Limited",
    "PyTorch": "From PyTorch:",
    "XNNPACK": "For XNNPACK software",
    "cpuinfo": "Marat Dukhan",
    "executorch": "Meta Platforms",
    "flatbuffers": "Apache License",
    "nanobind": "Wenzel Jakob",
    "pocketfft": "Max-Planck-Society",
    "pthreadpool": "Georgia Institute of Technology",
    "robin_map": "Thibaut Goetghebuer-Planchon",
}


def test_the_version_can_be_read_without_the_libraries():
    assert (
        Path(fse.__file__).with_name("executorch_version.txt").read_text("utf-8") == f"{fse.__executorch_version__}\n"
    )


def test_the_licences_of_what_is_carried_are_in_the_wheel():
    distribution = importlib.metadata.distribution("fastserve-executorch")
    named = set(distribution.metadata.get_all("License-File") or ())
    assert named == {"LICENSE"} | {f"licenses/{name}/LICENSE" for name in CARRIED}
    for name, words in CARRIED.items():
        assert words in (distribution.read_text(f"licenses/licenses/{name}/LICENSE") or ""), name


def test_executorchs_licence_is_that_of_its_package():
    try:
        official = importlib.metadata.distribution("executorch")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the official executorch package is not installed")
    assert official.read_text("licenses/LICENSE") == (SOURCE / "licenses/executorch/LICENSE").read_text("utf-8")


@pytest.mark.slow
def test_a_wheel_is_built_from_the_source_distribution_alone(tmp_path):
    try:
        official = importlib.metadata.distribution("executorch")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the official executorch package, to build against, is not installed")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "build", "scikit-build-core>=0.10"], capture_output=True, text=True
    )
    if installed.returncode != 0:
        pytest.skip(f"the tools to build with cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    made = subprocess.run(
        [python, "-m", "build", "--sdist", "--no-isolation", "--skip-dependency-check", "--outdir", tmp_path, SOURCE],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    (archive,) = tmp_path.glob("fastserve_executorch-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    folder = tmp_path / archive.name.removesuffix(".tar.gz")
    site = str(official.locate_file(""))
    built = subprocess.run(
        [sys.executable, folder / "build_wheel.py", "--out", tmp_path / "dist", "--executorch", site],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    (wheel,) = (tmp_path / "dist").iterdir()
    assert wheel.name.startswith(f"fastserve_executorch-{fastserve_runtime.__version__}-")
    with zipfile.ZipFile(wheel) as file:
        assert "fastserve_executorch/executorch_version.txt" in file.namelist()
