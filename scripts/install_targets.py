"""Installs what the targets of the conformance suite lack on this machine, by the commands that they name themselves.

Run by `make targets`. What cannot be installed is told and left: its targets give NOT_RUN.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from fastserve_device_tests.targets import load_target, target_names

ROOT = Path(__file__).parents[1]


def runnable(command: str) -> list[str] | None:
    """Return what to run for a command that a target names, or None where this user cannot."""
    words = shlex.split(command)
    if words[0] == "pip":
        return [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *words[2:]]
    if words[0] == "apt-get":
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            return None
        return ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *words[2:]]
    return words


def main() -> None:
    """Install what is missing, each once."""
    tried: set[str] = set()
    for name in target_names():
        missing = load_target(name).needs().missing()
        for what, command in missing.items():
            if command in tried:
                continue
            tried.add(command)
            words = runnable(command)
            if words is None:
                print(f"{name} lacks {what}, which only root can install: {command}")
                continue
            print(f"{name} lacks {what}: {command} ...", flush=True)
            if words[0] == "apt-get":
                subprocess.run(["apt-get", "update", "-qq"], stdout=subprocess.DEVNULL, check=False)
            if subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode:
                print(f"That failed; {name} cannot run here.")


if __name__ == "__main__":
    main()
