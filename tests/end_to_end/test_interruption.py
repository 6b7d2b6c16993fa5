"""An export that is stopped leaves no half bundle, ends its processes, and goes on from what was finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import FASTSERVE, fastserve_command

WORDS = ["--format", "onnx", "--precision", "fp32", "--seq-len", "20"]


@pytest.mark.parametrize(
    "kind",
    [pytest.param(signal.SIGINT, id="Ctrl-C"), pytest.param(signal.SIGKILL, id="kill", marks=pytest.mark.slow)],
)
def test_stopped_export_goes_on_from_its_cache(kind: signal.Signals, tiny_bert: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "out.fsb", tmp_path / "cache"
    command = [*FASTSERVE, "export", str(tiny_bert), "-o", str(out), *WORDS, "--cache-dir", str(cache)]
    # Whoever starts the tests in the background may have Ctrl-C ignored, and children inherit that.
    was = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, was)
    assert process.stderr is not None
    for line in process.stderr:
        if "Form for export" in line:
            break
    children = _children(process.pid)
    assert children
    os.killpg(process.pid, kind) if kind is signal.SIGINT else process.kill()
    message = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == (130 if kind is signal.SIGINT else -signal.SIGKILL)
    if kind is signal.SIGINT:
        assert "Interrupted." in message
        assert "Traceback" not in message
    for child in children:
        _wait_until_gone(child)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache"]
    done = fastserve_command("export", tiny_bert, "-o", out, *WORDS, "--cache-dir", cache, "--json")
    assert done.returncode == 0, done.stderr
    stages = {s["stage"]: s["cached"] for s in json.loads(done.stdout)["stages"]}
    assert stages["Reference outputs"] is True
    assert stages["Form for export"] is False
    assert fastserve_command("verify", out).returncode == 0


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _wait_until_gone(pid: int) -> None:
    for _ in range(300):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.1)
    pytest.fail(f"the converter process {pid} outlived its user")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_export_ends_what_measures(kind: signal.Signals, tiny_bert: Path, tmp_path: Path) -> None:
    command = [*FASTSERVE, "export", str(tiny_bert), "-o", str(tmp_path / "out.fsb"), *WORDS]
    process = subprocess.Popen(
        [*command, "--cache-dir", str(tmp_path / "cache")], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    assert any("Measure onnx fp32" in line for line in process.stderr)
    for _ in range(300):
        children = _children(process.pid)
        if len(children) > 1:
            break
        time.sleep(0.02)
    assert len(children) == 2, "the converter process and the measuring process"
    process.send_signal(kind)
    assert process.wait(60) == -kind
    process.stderr.close()
    for child in children:
        _wait_until_gone(child)


@pytest.mark.parametrize("module", ["fastserve", "fastserve_runtime"])
def test_ctrl_c_while_libraries_are_imported_is_told_without_a_traceback(module: str) -> None:
    stopped = (
        "import os, signal, sys, importlib.abc\n"
        "class Stop(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name in ('fastserve.cli', 'fastserve_runtime.cli'):\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Stop())\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from {module}.starting import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", stopped], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "Error: Interrupted.\n")


@pytest.mark.parametrize("module", ["fastserve", "fastserve_runtime"])
def test_hardly_anything_is_imported_before_ctrl_c_is_told_without_a_traceback(module: str) -> None:
    code = (
        "import re, sys\n"  # as the script does that pip makes of an entry point
        "before = set(sys.modules)\n"
        f"import {module}.starting\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    first = ("_version", "errors", "faces", "processes", "processes.leaving")
    own = {"fastserve_runtime", *(f"fastserve_runtime.{n}" for n in first)}
    assert set(done.stdout.split()) <= own | {module, f"{module}.starting", "__future__", "signal", "errno"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_killed_command_ends_the_process_of_its_engine() -> None:
    code = (
        "import subprocess, time\n"
        "from fastserve_runtime.processes.isolation import engine_child\n"
        "process = engine_child()._process\n"
        # It holds the pipe too, so that no end of its input ends the engine's process.
        "other = subprocess.Popen(['sleep', '60'], pass_fds=[process.stdin.fileno()])\n"
        "print(process.pid, other.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    engine, other = map(int, process.stdout.readline().split())
    process.kill()
    process.wait(60)
    process.stdout.close()
    try:
        _wait_until_gone(engine)
    finally:
        os.kill(other, signal.SIGKILL)
