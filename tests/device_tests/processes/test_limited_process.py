"""A limited process ends with all that it started, by itself, by a limit, and with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastserve_device_tests.processes.limited_process import Ended, run_limited
from fastserve_runtime.processes.lifeline import end_with_parent

PLENTY = 2**33
HOARD = "held = bytearray(b'1' * 300_000_000); import time; time.sleep(60)"


def run(program: str, *, seconds: float = 60, memory: int = PLENTY, **environment: str) -> Ended:
    return run_limited([sys.executable, "-c", program], environment, seconds=seconds, memory=memory)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int) -> None:
    for _ in range(100):
        if not is_running(pid):
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} still runs")


def test_what_it_says_and_its_exit_code_come_back() -> None:
    ended = run("import os, sys; print(os.environ['WORD']); sys.stderr.write('no'); sys.exit(3)", WORD="yes")
    assert ended == Ended(3, b"yes\n", b"no", None)


def test_a_limit_of_time() -> None:
    ended = run("import time; time.sleep(60)", seconds=0.3)
    assert (ended.code, ended.broken_limit) == (-signal.SIGKILL, "it hung and was ended after 0.3 s")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell memory as Linux does")
@pytest.mark.parametrize(
    "program", [HOARD, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOARD!r}])"]
)
def test_a_limit_of_memory_counts_what_it_started(program: str) -> None:
    ended = run(program, memory=200_000_000)
    assert ended.broken_limit is not None
    assert "GiB of memory and was ended; 0.2 GiB are allowed" in ended.broken_limit


@pytest.mark.parametrize("output", ["None", "subprocess.DEVNULL"])
def test_what_it_leaves_is_ended_with_it(output: str) -> None:
    begin = time.monotonic()
    program = f"import subprocess; print(subprocess.Popen(['sleep', '60'], stdout={output}, stderr={output}).pid)"
    ended = run(program)
    assert time.monotonic() - begin < 30, "it waited for the answer of what was left"
    assert (ended.code, ended.broken_limit) == (0, None)
    wait_until_gone(int(ended.output))


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    child = (
        "import os, subprocess, time; from pathlib import Path\n"
        "from fastserve_runtime.processes.lifeline import end_with_parent\n"
        "end_with_parent(); started = subprocess.Popen(['sleep', '60'])\n"
        f"Path({str(tmp_path / 'new')!r}).write_text(f'{{os.getpid()}} {{started.pid}}')\n"
        f"os.rename({str(tmp_path / 'new')!r}, {str(tmp_path / 'pids')!r}); time.sleep(60)"
    )
    parent = (
        "import sys; from fastserve_device_tests.processes.limited_process import run_limited\n"
        f"run_limited([sys.executable, '-c', {child!r}], {{}}, seconds=60, memory={PLENTY})"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    for _ in range(300):
        if (tmp_path / "pids").exists():
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        wait_until_gone(pid)


def test_a_process_that_nobody_limits_goes_on() -> None:
    assert "FASTSERVE_LIFELINE" not in os.environ
    end_with_parent()
