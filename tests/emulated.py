"""Systems of other processors, run under emulation."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# The Debian release, and the Python in it, that wheels of this interpreter are for.
SYSTEMS = {(3, 11): ("bookworm", "3.11"), (3, 12): ("trixie", "3.13"), (3, 13): ("trixie", "3.13")}
PLATFORMS = (
    "linux_aarch64",
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)


def emulator(name: str) -> str:
    """Return the path of an emulator of user programs; the test is skipped where there is none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian's package qemu-user)")
    return found


def arm_system(folder: Path, *packages: str) -> tuple[Path, str]:
    """Put Debian for arm64 and Python packages into `root` and `packages` of a folder; skip where that cannot be.

    Returns:
        The interpreter's path, and its version.
    """
    if platform.system() != "Linux" or platform.machine() == "aarch64":
        pytest.skip("another architecture is emulated on Linux, where the computer has not that one itself")
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed (Debian's package mmdebstrap)")
    if sys.version_info[:2] not in SYSTEMS:
        pytest.skip(f"no Debian release has a Python for wheels of {platform.python_version()}")
    release, version = SYSTEMS[sys.version_info[:2]]
    root = folder / "root"
    or_skip(
        f"Debian {release} for arm64 cannot be had",
        *("mmdebstrap", "--quiet", "--architectures=arm64", "--variant=extract"),
        *(f"--include=python{version},libstdc++6", release, str(root)),
    )
    install_for_arm(folder / "packages", version, *packages)
    return root / "usr" / "bin" / f"python{version}", version


def install_for_arm(target: Path, version: str, *packages: str) -> None:
    """Put Python packages for aarch64 into a folder, without what they depend on; skip where they cannot be had."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    options = ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
    options += [f"--platform={name}" for name in PLATFORMS]
    or_skip("packages for aarch64 cannot be had", *pip, *options, "--target", str(target), *packages)


def or_skip(reason: str, *command: str) -> None:
    """Run a command that needs the network; skip with its last words where that fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{reason}: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
