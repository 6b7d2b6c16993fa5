"""A bundle made on this processor verifies on others, whose kernels are not those that its goldens come from.

ONNX Runtime has no switch for the instruction sets that it uses, so others are emulated: x86-64 with AVX2 and without
AVX (both without VNNI), and Cortex-A72 (a Raspberry Pi 4), Cortex-A76 (its successor, with dot products) and the newest
that the emulator has (with i8mm). An honest variant differs by what floats are rounded by, which now and then moves an
activation to the next integer.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import fastserve
from emulated import arm_system, emulator

ROOT = Path(__file__).parents[2]
PRECISIONS = ("fp32", "int8-dynamic", "int8-weight-only", "int4", "int8-static")
MIN_SQNR, MIN_SQNR_OF_GROUPS = 60.0, 30.0
"""Between the artifact here and there, in dB. The sums of integers are equal: 133 and more were seen. Of groups
(MatMulNBits) some processors multiply floats by integers instead, without rounding activations: 40.7."""
PACKAGES = ("numpy", "onnxruntime", "tokenizers", "flatbuffers", "protobuf", "packaging", "typing-extensions")


@pytest.fixture(scope="module")
def bundle(tiny_bert: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small encoder, with every kind of product that ONNX Runtime has for it."""
    location = tmp_path_factory.mktemp("bundles") / "products.fsb"
    fastserve.export(
        tiny_bert,
        location,
        formats=["onnx"],
        precisions=PRECISIONS,
        sequence_length=32,
        keep="all",
        cache_dir=cache_dir,
    )
    return location


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the interpreter of a Debian for arm64, and the folder of what it imports."""
    emulator("qemu-aarch64")
    folder = tmp_path_factory.mktemp("arm")
    interpreter, _ = arm_system(folder, *(f"{name}=={version(name)}" for name in PACKAGES))
    return interpreter, folder / "packages"


def check(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found = [v for v in json.loads(done.stdout)["verdicts"] if v["check"] == "executor"]
    assert {v["variant"] for v in found} == {f"onnx-{precision}" for precision in PRECISIONS}
    for verdict in found:
        assert verdict["outcome"] == "PASS", verdict
        has_groups = verdict["variant"] == "onnx-int8-weight-only"
        minimum = MIN_SQNR_OF_GROUPS if has_groups else MIN_SQNR
        assert float(verdict["figures"]["sqnr_db"]) > minimum, verdict


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["Nehalem", "Haswell"])
def test_a_bundle_verifies_on_x86_without_vnni(processor: str, bundle: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the interpreter of this computer is not for x86-64")
    words = [sys.executable, "-m", "fastserve_runtime", "verify", str(bundle), "--json"]
    command = [emulator("qemu-x86_64"), "-cpu", processor, *words]
    check(subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800))


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["cortex-a72", "cortex-a76", "max"])
def test_a_bundle_verifies_on_arm(processor: str, bundle: Path, arm: tuple[Path, Path]) -> None:
    interpreter, packages = arm
    # ONNX Runtime crashes over the description of this computer's cores, which are not those of the emulated one.
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/devices/system/cpu && exec "$@"', "sh"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*hidden, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("the cores of this computer cannot be hidden, which takes root")
    system = interpreter.parents[2]
    emulated = [emulator("qemu-aarch64"), "-cpu", processor, "-L", str(system), str(interpreter)]
    words = ["-m", "fastserve_runtime", "verify", str(bundle), "--json"]
    environment = {"PYTHONPATH": os.pathsep.join(map(str, (packages, ROOT / "runtimes"))), "PATH": "/usr/bin:/bin"}
    check(
        subprocess.run(
            [*hidden, *emulated, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
            env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
    )
