"""Ctrl-C ends the work, also where a library swallows what Python raises, or makes something else of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BEGIN = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from fastserve_runtime.processes.leaving import leave_on_ctrl_c
leave_on_ctrl_c()
from fastserve_runtime.cli.failures import run_with_failures_told
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.processes.interruption import answer_ctrl_c, raise_noted_ctrl_c

def swallowed():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass
    except KeyboardInterrupt:
        pass
"""


def run(command: str) -> subprocess.CompletedProcess[str]:
    code = f"{BEGIN}\ndef command():\n{command}\n    return 4\nraise SystemExit(run_with_failures_told(command))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
@pytest.mark.parametrize(
    "command",
    [
        "    swallowed()",
        "    swallowed(); raise EnvironmentFailure('The engine failed.')",
        "    swallowed(); raise_noted_ctrl_c(); print('went on')",
        "    os.kill(os.getpid(), signal.SIGINT); signal.pause()",
    ],
)
def test_ctrl_c_ends_a_command(command: str) -> None:
    done = run(command)
    assert (done.returncode, done.stderr, done.stdout) == (130, "Error: Interrupted.\n", "")


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
def test_ctrl_c_that_was_answered_changes_nothing_more() -> None:
    done = run("    swallowed(); answer_ctrl_c()")
    assert (done.returncode, done.stderr) == (4, "")


def test_without_ctrl_c_a_command_keeps_its_code() -> None:
    assert run("    raise_noted_ctrl_c()").returncode == 4
