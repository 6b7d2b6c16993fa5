"""The converter process itself: messages in and out, whatever a converter does, until its input ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastserve_runtime.errors import EXIT_ENVIRONMENT, EXIT_USAGE
from fastserve_runtime.processes.framing import read_message, write_message
from fastserve_runtime.processes.lifeline import Lifeline, lifeline

PATIENCE = 120

Start = Callable[..., "subprocess.Popen[bytes]"]


def path_with(folder: Path) -> str:
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a worker, held by a lifeline or by none, with a scratch package's format `scratch`: the given code."""
    processes = []

    def run(code: str = "", line: Lifeline | None = None) -> subprocess.Popen[bytes]:
        information = tmp_path / "packages" / "scratch-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: scratch\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text("[fastserve.formats]\nscratch = scratch\n")
        (tmp_path / "packages" / "scratch.py").write_text(textwrap.dedent(code))
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "fastserve_converters.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={
                    **os.environ,
                    **(line.environment if line else {}),
                    "PYTHONPATH": path_with(tmp_path / "packages"),
                },
                pass_fds=(line.descriptor,) if line else (),
                start_new_session=line is not None,
            )
        )
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    job = {"job": "artifact", "format": "scratch", "precision": "fp32", "out": str(tmp_path / "out")}
    return {**job, "source": {"task": "feature-extraction"}}


def ask(process: subprocess.Popen[bytes], job: dict[str, Any]) -> dict[str, Any]:
    send(process, job)
    return answer_of(process)


def answer_of(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    answer, _ = read_message(process.stdout)
    return answer


def send(process: subprocess.Popen[bytes], job: dict[str, Any]) -> None:
    assert process.stdin is not None
    write_message(process.stdin, job)


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < deadline, f"{file.name} never came"
        time.sleep(0.02)


def test_the_process_ends_when_its_input_ends(start: Start) -> None:
    process = start("")
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out == b""


@pytest.mark.skipif(os.name != "posix", reason="descriptors are passed on as POSIX does")
def test_the_process_ends_with_the_one_that_started_it_in_the_middle_of_a_job(
    start: Start, tmp_path: Path, job
) -> None:
    with lifeline() as line:
        process = start(
            f"""
            import time
            from pathlib import Path
            Path({str(tmp_path / "begun")!r}).touch()
            time.sleep(3600)
            """,
            line,
        )
        send(process, job)
        wait_for(tmp_path / "begun")
        assert process.poll() is None
    # The pipe is closed now, as it is when its holder is killed.
    assert process.wait(PATIENCE) == -signal.SIGKILL


def test_jobs_are_answered_one_after_the_other_also_after_failures(start: Start, job) -> None:
    process = start("MODULES = ('no_such_module',)")
    first = ask(process, job | {"format": "gguf"})
    assert first["problem"] == "There is no format 'gguf'."
    assert "scratch" in first["remedy"]
    assert (first["exit_code"], first["stops_all"]) == (EXIT_USAGE, True)
    second = ask(process, job)
    assert second["problem"].startswith("The converter for scratch is not installed")
    assert (second["exit_code"], second["stops_all"]) == (EXIT_ENVIRONMENT, False)
    assert ask(process, job | {"format": "gguf"}) == first


def test_what_a_converter_prints_does_not_get_between_the_answers(start: Start, job) -> None:
    process = start("""
        import os, subprocess
        print("{}", flush=True)
        os.write(1, b"from below\\n")
        subprocess.run(["echo", "from a child"])
        MODULES = ("no_such_module",)
    """)
    assert "not installed" in ask(process, job)["problem"]
    out, error = process.communicate(timeout=PATIENCE)
    assert out == b""
    for words in ("{}", "from below", "from a child"):
        assert words.encode() in error


@pytest.mark.parametrize(
    ("code", "problem", "stops_all"),
    [
        ("raise ZeroDivisionError('first line\\nsecond line')", "ZeroDivisionError: first line", False),
        ("raise RuntimeError", "RuntimeError: ", False),
        ("raise ValueError('x' * 1000)", "ValueError: " + "x" * 300, False),
        ("raise OSError(28, 'No space left on device')", "The disk is full", True),
        ("raise MemoryError", "The artifact step ran out of memory.", True),
    ],
)
def test_whatever_a_converter_raises_is_one_sentence(
    start: Start, job, code: str, problem: str, stops_all: bool
) -> None:
    process = start(code)
    answer = ask(process, job)
    assert answer["problem"].startswith(problem)
    assert "\n" not in answer["problem"]
    assert len(answer["problem"]) < 400
    assert answer["exit_code"] == EXIT_ENVIRONMENT
    assert answer["stops_all"] is stops_all
    assert answer["remedy"]


def test_the_log_has_the_traceback_of_what_nobody_expected(start: Start, job) -> None:
    process = start("raise ZeroDivisionError('by nought')")
    ask(process, job)
    _, error = process.communicate(timeout=PATIENCE)
    assert b"Traceback" in error
    assert b"by nought" in error


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_an_interruption_of_the_terminal_is_left_to_the_process_that_asked(start: Start, tmp_path: Path, job) -> None:
    process = start(f"""
        import time
        from pathlib import Path
        Path({str(tmp_path / "begun")!r}).touch()
        while not Path({str(tmp_path / "go on")!r}).exists():
            time.sleep(0.02)
        MODULES = ("no_such_module",)
    """)
    send(process, job)
    wait_for(tmp_path / "begun")
    process.send_signal(signal.SIGINT)
    (tmp_path / "go on").touch()
    assert "not installed" in answer_of(process)["problem"]


def test_no_library_may_use_the_network(start: Start, job) -> None:
    process = start("""
        import os
        names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
        raise RuntimeError(" ".join(os.environ[n] for n in names))
    """)
    assert ask(process, job)["problem"] == "RuntimeError: 1 1 1 1"
