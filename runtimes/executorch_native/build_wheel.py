"""Builds the wheel of fastserve-executorch without installing ExecuTorch's many dependencies.

Fetches the wheel of ExecuTorch that pyproject.toml names, unpacks it, and builds against its headers and libraries
in a temporary environment. Run it with the interpreter that the wheel is to be for:

    python build_wheel.py --out dist

For a 64-bit ARM computer, such as a Raspberry Pi with a 64-bit system, on another Linux computer:

    python build_wheel.py --out dist --arch aarch64
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).resolve().parent
MANYLINUX = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")


class Cross(NamedTuple):
    """What building for another processor takes."""

    arch: str
    defines: Mapping[str, str | Path]
    environment: Mapping[str, str]

    @property
    def pip_options(self) -> list[str]:
        """What makes pip fetch wheels for the other processor, and this version of Python."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        platforms = [f"--platform={name}_{self.arch}" for name in MANYLINUX]
        return [*platforms, f"--python-version={version}", "--implementation=cp"]


def requirements() -> list[str]:
    """The build requirements of pyproject.toml."""
    listed = re.search(r"^requires = \[(.*)\]$", (HERE / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    if listed is None:
        raise SystemExit("pyproject.toml lists no build requirements on one line. Write them on one line.")
    return re.findall(r'"([^"]+)"', listed[1])


def run(*command: str | Path, environment: Mapping[str, str] | None = None) -> None:
    """Runs a command, and stops with it if it fails."""
    try:
        subprocess.run([str(part) for part in command], check=True, env={**os.environ, **(environment or {})})
    except subprocess.CalledProcessError as failure:
        line = " ".join(str(part) for part in command[:5])
        raise SystemExit(f"'{line} …' failed with exit status {failure.returncode}. See its output above.") from None


def headers(folder: Path) -> Path:
    """Copies this interpreter's headers, to be used for another processor.

    Those of one version of Python serve all 64-bit Linux systems with glibc. In 3.11, the pyconfig.h of Debian's arm64
    and amd64 packages differ in HAVE_GCC_ASM_FOR_X64, HAVE_GCC_ASM_FOR_X87 and PY_SUPPORT_TIER, which no public header
    asks for, and in HAVE_USABLE_WCHAR_T, which only has <wchar.h> included, and HAVE_WCHAR_H has that on both. The
    headers are copied because Debian's pyconfig.h includes the one of the processor compiled for, from a package that
    is not installed.
    """
    include = Path(sysconfig.get_path("include"))
    shutil.copytree(include, folder)
    own = include.parent / (sysconfig.get_config_var("MULTIARCH") or "") / include.name / "pyconfig.h"
    if own.is_file():
        shutil.copy(own, folder / "pyconfig.h")
    return folder


def cross(arch: str, folder: Path) -> Cross:
    """What building for a Linux computer of another architecture takes."""
    if platform.system() != "Linux":
        raise SystemExit(f"Building for {arch} works on Linux only, and this is {platform.system()}. Use Linux.")
    triple = f"{arch}-linux-gnu"
    compiler = shutil.which(f"{triple}-g++")
    if compiler is None:
        raise SystemExit(f"The compiler {triple}-g++ is not installed. On Debian: apt-get install g++-{triple}")
    include = headers(folder / "include")
    suffix = f".cpython-{sys.version_info.major}{sys.version_info.minor}-{triple}.so"
    return Cross(
        arch,
        {
            "CMAKE_SYSTEM_NAME": "Linux",
            "CMAKE_SYSTEM_PROCESSOR": arch,
            "CMAKE_CXX_COMPILER": compiler,
            "Python_INCLUDE_DIR": include,
        },
        # These two name the wheel and the extension.
        {"_PYTHON_HOST_PLATFORM": f"linux-{arch}", "SETUPTOOLS_EXT_SUFFIX": suffix},
    )


def unpacked_executorch(pip: list[str | Path], requirement: str, folder: Path, options: list[str]) -> Path:
    """Fetches ExecuTorch's wheel and unpacks it; returns the folder that its packages lie in."""
    run(*pip, "download", "--quiet", "--no-deps", "--only-binary=:all:", *options, "--dest", folder, requirement)
    (wheel,) = folder.glob("executorch-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def main() -> None:
    """Builds the wheel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("dist"), help="where to put the wheel")
    parser.add_argument(
        "--executorch",
        type=Path,
        help="a folder of packages that has executorch for the wheel's system; else downloaded",
    )
    here = platform.machine()
    parser.add_argument("--arch", choices=sorted({here, "aarch64"}), default=here, help="the processor to build for")
    arguments = parser.parse_args()
    tools = requirements()
    (executorch,) = (tool for tool in tools if tool.startswith("executorch"))
    tools.remove(executorch)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        target = cross(arguments.arch, folder) if arguments.arch != here else None
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check"]
        run(*pip, "install", "--quiet", *tools, "cmake>=3.20", "ninja")
        site = arguments.executorch or unpacked_executorch(
            pip, executorch, folder, target.pip_options if target else []
        )
        defines = {"executorch_DIR": (site / "executorch").resolve() / "share" / "cmake"}
        defines |= target.defines if target else {}
        settings = [f"cmake.define.{name}={value}" for name, value in defines.items()]
        settings.append(f"build-dir={folder / 'build'}")
        run(
            *pip, "wheel", HERE, "--no-build-isolation", "--no-deps", "--wheel-dir", folder / "wheels",
            *(f"--config-settings={setting}" for setting in settings),
            environment=target.environment if target else None,
        )  # fmt: skip
        (wheel,) = (folder / "wheels").glob("fastserve_executorch-*.whl")
        arguments.out.mkdir(parents=True, exist_ok=True)
        sys.stdout.write(f"{shutil.copy(wheel, arguments.out)}\n")


if __name__ == "__main__":
    main()
