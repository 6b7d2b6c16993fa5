"""Jobs run in a process of their own, whose crash is an error here and not ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fastserve.pipeline.converter_process import ConverterProcess, JobFailed
from fastserve_runtime.errors import EXIT_ENVIRONMENT, EXIT_USAGE, EnvironmentFailure, UsageError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[Any]]:
    """The processes that were started, in order."""
    processes: list[subprocess.Popen[Any]] = []
    real = subprocess.Popen

    def start(*arguments: Any, **settings: Any) -> subprocess.Popen[Any]:
        processes.append(real(*arguments, **settings))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return processes


@pytest.fixture
def converter(started: list[subprocess.Popen[Any]]) -> Iterator[ConverterProcess]:
    with ConverterProcess() as converter:
        yield converter


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    return {
        "path": str(tmp_path / "missing"),
        "task": "feature-extraction",
        "length": 16,
        "allow_pickle": False,
        "trust_remote_code": False,
    }


@pytest.fixture
def refused(tmp_path: Path, source: dict[str, Any]) -> dict[str, Any]:
    """A job that is refused at once, without PyTorch."""
    return {
        "job": "artifact",
        "format": "gguf",
        "precision": "fp32",
        "base": None,
        "source": source,
        "out": str(tmp_path / "out"),
    }


def be(interpreter: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a shell script in the interpreter's place, so that the worker is whatever it does."""
    interpreter.write_text(f"#!/bin/sh\n{script}\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))


def test_a_refused_job_fails_with_the_exit_code_that_it_asks_for(converter: ConverterProcess, refused) -> None:
    with pytest.raises(UsageError, match="There is no format 'gguf'") as failure:
        converter.run(refused)
    assert failure.value.exit_code == EXIT_USAGE
    assert "onnx" in failure.value.remedy


def test_nothing_is_started_before_the_first_job_and_one_process_does_them_all(
    converter: ConverterProcess, started, refused
) -> None:
    assert started == []
    for _ in range(3):
        with pytest.raises(UsageError):
            converter.run(refused)
    assert len(started) == 1
    converter.close()
    assert started[0].poll() is not None


def test_a_job_that_fails_in_a_way_nobody_expected_fails_alone(converter: ConverterProcess, started, refused) -> None:
    with pytest.raises(JobFailed, match="KeyError: 'nonsense'") as failure:
        converter.run(refused | {"job": "nonsense"})
    assert failure.value.exit_code == EXIT_ENVIRONMENT
    assert not failure.value.stops_all
    with pytest.raises(UsageError, match="gguf"):
        converter.run(refused)
    assert len(started) == 1


def test_a_process_that_was_killed_between_jobs_is_named_and_the_next_job_works(
    converter: ConverterProcess, started, refused
) -> None:
    with pytest.raises(UsageError):
        converter.run(refused)
    os.kill(started[0].pid, signal.SIGKILL)
    with pytest.raises(EnvironmentFailure, match="process crashed with SIGKILL"):
        converter.run(refused)
    with pytest.raises(UsageError, match="gguf"):
        converter.run(refused)
    assert len(started) == 2


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV")])
def test_a_process_that_dies_in_the_middle_of_a_job_is_named(
    converter: ConverterProcess, started, refused, number: int, name: str
) -> None:
    with pytest.raises(UsageError):
        converter.run(refused)
    # Stopped, it gets the next job without answering.
    os.kill(started[0].pid, signal.SIGSTOP)
    killer = threading.Timer(0.2, lambda: [os.kill(started[0].pid, n) for n in (number, signal.SIGCONT)])
    killer.start()
    with pytest.raises(EnvironmentFailure, match=f"crashed with {name}"):
        converter.run(refused)
    killer.join()
    with pytest.raises(UsageError, match="gguf"):
        converter.run(refused)


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="the system has no real-time signals")
def test_a_signal_without_a_name_is_told_by_its_number(converter: ConverterProcess, started, refused) -> None:
    with pytest.raises(UsageError):
        converter.run(refused)
    number = signal.SIGRTMIN + 2
    os.kill(started[0].pid, number)
    started[0].wait(timeout=60)
    with pytest.raises(EnvironmentFailure, match=rf"crashed with signal {number}\."):
        converter.run(refused)


def test_closing_in_the_middle_of_a_job_ends_the_process(started, refused) -> None:
    class Interruption(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interruption

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        with ConverterProcess() as converter:
            with pytest.raises(UsageError):
                converter.run(refused)
            os.kill(started[0].pid, signal.SIGSTOP)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Interruption):
                converter.run(refused)
            assert started[0].poll() is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert started[0].poll() == -signal.SIGKILL


def test_closing_ends_what_the_process_has_started_too(
    converter: ConverterProcess, started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused
) -> None:
    note = tmp_path / "child"
    message = '{"result": 1, "arrays": []}'
    script = f"""sleep 600 & echo $! > {note}; printf '\\{len(message):o}\\0\\0\\0{message}'; wait"""
    be(tmp_path / "interpreter", script, monkeypatch)
    assert converter.run(refused) == 1
    child = int(note.read_text())
    os.kill(child, 0)
    converter.close()
    for _ in range(6000):
        if is_gone(child):
            return
        threading.Event().wait(0.01)
    pytest.fail("the child is still there")


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has collected yet has."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with suppress(FileNotFoundError):
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    return False


def test_closing_twice_or_before_any_job_does_nothing(converter: ConverterProcess, refused) -> None:
    converter.close()
    with pytest.raises(UsageError):
        converter.run(refused)
    converter.close()
    converter.close()


def test_the_last_lines_of_the_log_are_told(
    converter: ConverterProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused, capfd
) -> None:
    be(tmp_path / "interpreter", "printf 'one\\n\\ntwo\\nthree\\nfour\\n' >&2; exit 3", monkeypatch)
    with pytest.raises(EnvironmentFailure) as failure:
        converter.run(refused)
    assert failure.value.problem == ("The converter process ended with exit code 3. Its last words: two | three | four")
    assert capfd.readouterr() == ("", "")


def test_a_process_that_dies_without_a_word_has_no_last_words(
    converter: ConverterProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused
) -> None:
    be(tmp_path / "interpreter", "exit 3", monkeypatch)
    with pytest.raises(EnvironmentFailure, match=r"ended with exit code 3\.$"):
        converter.run(refused)


def test_an_answer_that_is_cut_off_is_none(
    converter: ConverterProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused
) -> None:
    be(tmp_path / "interpreter", """printf '\\40\\0\\0\\0{"result": {"a": '; kill -9 $$""", monkeypatch)
    with pytest.raises(EnvironmentFailure, match="crashed with SIGKILL"):
        converter.run(refused)


def test_with_debug_the_log_goes_to_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused, capfd
) -> None:
    be(tmp_path / "interpreter", "echo a long story >&2; exit 3", monkeypatch)
    with ConverterProcess(debug=True) as converter, pytest.raises(EnvironmentFailure) as failure:
        converter.run(refused)
    assert "last words" not in failure.value.problem
    assert capfd.readouterr().err == "a long story\n"


def test_a_real_job_answers_with_its_result(
    converter: ConverterProcess, started, tiny_bert: Path, tmp_path: Path, source: dict[str, Any], capfd
) -> None:
    job = {
        "job": "reference",
        "source": source | {"path": str(tiny_bert)},
        "out": str(tmp_path / "reference"),
        "data": [],
        "text_column": "text",
        "label_column": "label",
        "seed": 0,
    }
    result = converter.run(job)
    assert result["task_settings"] == {"pooling": ["mean"], "normalize": True}
    assert result["evaluation"] >= 200
    assert (tmp_path / "reference" / "reference.npz").is_file()
    with pytest.raises(UsageError, match="A sequence length of 67 was asked for") as failure:
        converter.run(job | {"source": job["source"] | {"length": 67}})
    assert failure.value.exit_code == EXIT_USAGE
    assert len(started) == 1
    assert capfd.readouterr().out == ""


def test_variables_are_set_before_it_starts(started: list[subprocess.Popen[Any]], refused: dict[str, Any]) -> None:
    environment = {"FASTSERVE_SOME_SETTING": "a value"}
    with ConverterProcess(environment=environment) as converter:
        with pytest.raises(UsageError):
            converter.run(refused)
        found = Path(f"/proc/{started[0].pid}/environ")
        if not found.exists():
            pytest.skip("the system does not tell a process's environment")
        variables = found.read_bytes().split(b"\0")
        assert b"FASTSERVE_SOME_SETTING=a value" in variables
        # Else ExecuTorch lays out the weights of half precision by the hashes of this run.
        assert b"PYTHONHASHSEED=0" in variables
    assert "FASTSERVE_SOME_SETTING" not in os.environ
