"""A child answers, ends with all that it started, by itself, by a limit, and with its parent; how it ended is told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastserve_runtime.errors import BundleError, EnvironmentFailure, InputError, UsageError
from fastserve_runtime.processes.child import Child, ChildEnded, Program
from fastserve_runtime.processes.lifeline import end_with_parent
from fastserve_runtime.processes.limits import Limits

HEAD = """
import os, subprocess, sys, time
from fastserve_runtime.errors import *
from fastserve_runtime.processes.answering import answer_requests
def answer(request, arrays):
"""
HOARD = "held = bytearray(b'1' * 300_000_000); import time; time.sleep(60)"
Make = Callable[..., Child]


@pytest.fixture
def child(tmp_path: Path) -> Make:
    """Start a child whose `answer` has this body; it is closed by the test."""

    def make(body: str, limits: Limits | None = None, *, debug: bool = False, **environment: str) -> Child:
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        (tmp_path / "some_child.py").write_text(f"{HEAD}{lines}sys.exit(answer_requests(answer))\n")
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        return Child(Program("some_child", environment={"PYTHONPATH": path, **environment}), limits, debug=debug)

    return make


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


def test_requests_are_answered_one_after_the_other_with_their_arrays(child: Make) -> None:
    with child("return {'word': os.environ['WORD'], 'got': request['n']}, {'y': arrays['x'] * 2}", WORD="yes") as made:
        for n in range(3):
            answer, arrays = made.ask({"n": n}, {"x": np.arange(n, dtype=np.int32)})
            assert answer == {"word": "yes", "got": n}
            np.testing.assert_array_equal(arrays["y"], np.arange(n) * 2)


def test_what_is_printed_never_stands_between_the_answers(child: Make, capfd: pytest.CaptureFixture[str]) -> None:
    with child("print('loud', flush=True); os.system('echo louder')\nreturn {}, {}") as made:
        assert made.ask({}) == ({}, {})
    assert capfd.readouterr() == ("", "")


def test_with_debug_what_is_printed_is_shown(child: Make, capfd: pytest.CaptureFixture[str]) -> None:
    with child("print('loud', flush=True)\nreturn {}, {}", debug=True) as made:
        made.ask({})
    assert capfd.readouterr() == ("", "loud\n")


@pytest.mark.parametrize("kind", [BundleError, EnvironmentFailure, UsageError, InputError])
def test_errors_on_purpose_are_raised_here_and_the_child_goes_on(child: Make, kind: type[Exception]) -> None:
    body = f"if request:\n    raise {kind.__name__}('It is wrong.', 'Mend it.')\nreturn {{}}, {{}}"
    with child(body) as made:
        with pytest.raises(kind, match=r"It is wrong\.") as raised:
            made.ask({"wrong": True})
        assert raised.value.remedy == "Mend it."
        assert type(raised.value) is kind
        assert made.ask({}) == ({}, {})


def test_a_full_disk_is_an_error_of_the_environment(child: Make) -> None:
    with child("raise DiskFull(' while testing')") as made, pytest.raises(EnvironmentFailure, match="disk is full"):
        made.ask({})


@pytest.mark.parametrize(
    ("body", "how", "words"),
    [
        ("raise RuntimeError('it is confused')", "ended with exit code 1", "RuntimeError: it is confused"),
        ("print('first', file=sys.stderr); os._exit(7)", "ended with exit code 7", "first"),
        ("os.kill(os.getpid(), 11)", "crashed with SIGSEGV", ""),
        ("os.write(3, b'') if False else os.abort()", "crashed with SIGABRT", ""),
    ],
)
def test_how_it_ended_and_its_last_words_are_told(child: Make, body: str, how: str, words: str) -> None:
    with child(body) as made, pytest.raises(ChildEnded) as ended:
        made.ask({})
    assert (ended.value.how, ended.value.last_words(), ended.value.was_late) == (how, words, False)
    assert ended.value.told == (f"{how}: {words}" if words else how)


@pytest.mark.parametrize("said", [b"rubbish", b"\x02\0\0\0{}", b"\x02\0\0\0[]", b"\x04\0\0\0true", b"\x01\0\0\0{", b""])
def test_rubbish_is_no_answer(tmp_path: Path, said: bytes) -> None:
    (tmp_path / "rubbish.py").write_text(f"import os; os.write(1, {said!r})")
    with Child(Program("rubbish", folder=tmp_path)) as made, pytest.raises(ChildEnded, match="ended with exit code 0"):
        made.ask({})


def test_a_module_that_is_not_there_is_told(child: Make) -> None:
    with Child(Program("no_such_module")) as made, pytest.raises(ChildEnded) as ended:
        made.ask({"a": "b" * 200_000})
    assert "No module named no_such_module" in ended.value.last_words()


def test_a_limit_of_time_holds_for_each_answer(child: Make) -> None:
    with child("time.sleep(request['s'])\nreturn {}, {}", Limits(seconds=5)) as made:
        made.ask({"s": 0})
    with child("time.sleep(request['s'])\nreturn {}, {}", Limits(seconds=0.5)) as made:
        begin = time.monotonic()
        with pytest.raises(ChildEnded, match=r"^gave no answer in 0\.5 s and was ended$") as ended:
            made.ask({"s": 60})
        assert time.monotonic() - begin < 30
    assert ended.value.was_late


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell memory as Linux does")
@pytest.mark.parametrize("body", [HOARD, f"subprocess.run([sys.executable, '-c', {HOARD!r}])"])
def test_a_limit_of_memory_counts_what_it_started(child: Make, body: str) -> None:
    with child(body, Limits(resident=200_000_000)) as made, pytest.raises(ChildEnded) as ended:
        made.ask({})
    assert "GiB of memory and was ended; 0.2 GiB are allowed" in ended.value.how


def test_what_it_leaves_is_ended_with_it(child: Make) -> None:
    with child("return {'pid': subprocess.Popen(['sleep', '60']).pid}, {}") as made:
        left = made.ask({})[0]["pid"]
        assert is_running(left)
    wait_until_gone(left)


def test_it_ends_in_order_where_it_may_and_at_once_in_the_middle_of_an_answer(child: Make) -> None:
    with child("return {}, {}") as made:
        made.ask({})
    assert made._process.returncode == 0
    made = child("time.sleep(60)")
    made._is_answering = True
    begin = time.monotonic()
    made.close()
    made.close()
    assert (made._process.returncode, time.monotonic() - begin < 4) == (-9, True)


def test_it_ends_with_its_parent_and_so_does_what_it_started(tmp_path: Path) -> None:
    body = (
        "import os, subprocess, sys, time; from pathlib import Path\n"
        "from fastserve_runtime.processes.answering import answer_requests\n"
        "def answer(request, arrays):\n"
        "    started = subprocess.Popen(['sleep', '60'])\n"
        f"    Path({str(tmp_path / 'new')!r}).write_text(f'{{os.getpid()}} {{started.pid}}')\n"
        f"    os.rename({str(tmp_path / 'new')!r}, {str(tmp_path / 'pids')!r}); time.sleep(60)\n"
        "answer_requests(answer)"
    )
    (tmp_path / "some_child.py").write_text(body)
    parent = (
        "from pathlib import Path; from fastserve_runtime.processes.child import Child, Program\n"
        f"Child(Program('some_child', folder=Path({str(tmp_path)!r}))).ask({{}})"
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
