"""Builds the wheel of fastserve-executorch without installing ExecuTorch's many dependencies.

Fetches the wheel of ExecuTorch that pyproject.toml names, unpacks it, and builds against its headers and libraries
in a temporary environment. Run it with the interpreter that the wheel is to be for:

    python build_wheel.py --out dist
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def requirements() -> list[str]:
    """The build requirements of pyproject.toml."""
    listed = re.search(r"^requires = \[(.*)\]$", (HERE / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    if listed is None:
        raise SystemExit("pyproject.toml lists no build requirements on one line")
    return re.findall(r'"([^"]+)"', listed[1])


def run(*command: str | Path) -> None:
    """Runs a command, and stops with it if it fails."""
    subprocess.run([str(part) for part in command], check=True)


def unpacked_executorch(pip: list[str | Path], requirement: str, folder: Path) -> Path:
    """Fetches ExecuTorch's wheel and unpacks it; returns the folder that its packages lie in."""
    run(*pip, "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder, requirement)
    (wheel,) = folder.glob("executorch-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def main() -> None:
    """Builds the wheel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("dist"), help="where to put the wheel")
    parser.add_argument("--executorch", type=Path, help="a site-packages folder that has executorch; else downloaded")
    arguments = parser.parse_args()
    tools = requirements()
    (executorch,) = (tool for tool in tools if tool.startswith("executorch"))
    tools.remove(executorch)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check"]
        run(*pip, "install", "--quiet", *tools, "cmake>=3.20", "ninja")
        site = arguments.executorch or unpacked_executorch(pip, executorch, folder)
        prefix = (site / "executorch").resolve()
        run(
            *pip, "wheel", HERE, "--no-build-isolation", "--no-deps", "--wheel-dir", arguments.out,
            "--config-settings", f"cmake.define.executorch_DIR={prefix / 'share' / 'cmake'}",
            "--config-settings", f"build-dir={folder / 'build'}",
        )  # fmt: skip
    for wheel in sorted(arguments.out.glob("fastserve_executorch-*.whl")):
        sys.stdout.write(f"{wheel}\n")


if __name__ == "__main__":
    main()
