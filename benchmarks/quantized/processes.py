"""Processes that do one heavy thing, so that its memory is given back and what it prints goes to a log."""

from __future__ import annotations

import os
import subprocess
import sys

from quantized.folders import LOGS
from report import ROOT

_MAX_SECONDS = 3600


def run_module(name: str, module: str, *arguments: str) -> str | None:
    """Run a module in a process of its own; return why it failed, or None.

    Args:
        name: of the log.
        module: run as `python -m`.
        arguments: what it gets.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    with log.open("w") as stream:
        command = [sys.executable, "-m", module, *arguments]
        try:
            done = subprocess.run(
                command, stdout=stream, stderr=stream, env=child_environment(), check=False, timeout=_MAX_SECONDS
            )
        except subprocess.TimeoutExpired:
            return f"it took more than {_MAX_SECONDS} s"
    if done.returncode == 0:
        return None
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    return lines[-1][:300]


def child_environment() -> dict[str, str]:
    """The environment of a process that imports `quantized`; one thread, and no reports of usage."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",
        "NNCF_CI": "1",
        "CI": "true",
        "TQDM_DISABLE": "1",
    }
