"""What a command does when something goes wrong: a sentence, what to do, and the exit code."""

from __future__ import annotations

import errno
import json
import logging
import warnings

import pytest
import typer

from fastserve.cli.consoles import error_console, output_console
from fastserve.cli.failures import failures_shown
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _untouched(untouched_warnings_and_logging: None) -> None:
    """Commands set up warnings and logging for their whole process."""


def ended_by(error: BaseException, *, as_json: bool = False) -> int:
    with pytest.raises(typer.Exit) as ended, failures_shown(as_json=as_json):
        raise error
    return ended.value.exit_code


@pytest.mark.parametrize(("kind", "code"), [(EnvironmentFailure, 1), (UsageError, 2), (BundleError, 5)])
def test_an_error_on_purpose_is_shown_and_ends_with_its_exit_code(kind, code: int, capsys: Capture) -> None:
    assert ended_by(kind("It is [broken].", "Mend '.[onnx]' it.")) == code
    captured = capsys.readouterr()
    assert captured.err == "Error: It is [broken].\nMend '.[onnx]' it.\n"
    assert captured.out == ""


def test_an_error_without_remedy_is_one_line(capsys: Capture) -> None:
    ended_by(UsageError("It is wrong."))
    assert capsys.readouterr().err == "Error: It is wrong.\n"


def test_a_message_is_shown_as_it_is_and_on_one_line(capsys: Capture) -> None:
    problem = "no [/b] tag, [red] and \\[/i] in " + "a long path " * 30
    ended_by(UsageError(problem.strip()))
    assert capsys.readouterr().err == f"Error: {problem.strip()}\n"


def test_json_gets_the_error_as_the_only_document(capsys: Capture) -> None:
    assert ended_by(BundleError("It is damaged.", "Copy it again."), as_json=True) == 5
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "error": {"problem": "It is damaged.", "remedy": "Copy it again.", "exit_code": 5}
    }
    assert "It is damaged." in captured.err


def test_an_interruption_ends_with_130(capsys: Capture) -> None:
    assert ended_by(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.startswith("Error: Interrupted.\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_is_named(number: int, capsys: Capture) -> None:
    assert ended_by(OSError(number, "the system's words")) == 1
    text = capsys.readouterr().err
    assert "disk is full" in text
    assert "the system's words" in text


def test_an_error_of_the_system_names_the_file(capsys: Capture) -> None:
    assert ended_by(PermissionError(errno.EACCES, "Permission denied", "/etc/shadow")) == 1
    assert "Error: Permission denied: '/etc/shadow'.\n" in capsys.readouterr().err


def test_an_error_of_the_system_without_file_is_told(capsys: Capture) -> None:
    assert ended_by(OSError("odd")) == 1
    assert "Error: odd.\n" in capsys.readouterr().err


def test_what_nobody_expected_is_told_without_traceback(capsys: Capture) -> None:
    assert ended_by(ZeroDivisionError("by [0]")) == 1
    text = capsys.readouterr().err
    assert "ZeroDivisionError: by [0]" in text
    assert "--debug" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("wrong"), 2), (KeyboardInterrupt(), 130), (OSError("odd"), 1), (ZeroDivisionError(), 1)],
)
def test_debug_shows_the_traceback_and_keeps_the_exit_code(error: BaseException, code: int, capsys: Capture) -> None:
    with pytest.raises(typer.Exit) as ended, failures_shown(debug=True):
        raise error
    assert ended.value.exit_code == code
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("debug", "level"), [(False, logging.WARNING), (True, logging.DEBUG)])
def test_logs_show_from_warnings_on_or_all_of_them(debug: bool, level: int) -> None:
    logging.root.handlers.clear()
    with failures_shown(debug=debug):
        assert logging.root.level == level


def test_nothing_is_said_where_nothing_goes_wrong(capsys: Capture) -> None:
    with failures_shown(as_json=True):
        pass
    assert capsys.readouterr() == ("", "")


def test_warnings_for_users_are_shown_and_others_are_not(capsys: Capture) -> None:
    with failures_shown():
        warnings.simplefilter("always")
        warnings.warn("a text is cut off [/b]", UserWarning, stacklevel=1)
        warnings.warn("old function", DeprecationWarning, stacklevel=1)
    captured = capsys.readouterr()
    assert captured.err == "Warning: a text is cut off [/b]\n"
    assert captured.out == ""


def test_results_go_to_standard_output_with_room_and_messages_to_standard_error(capsys: Capture) -> None:
    output_console().print("x" * 150)
    error_console().print("message")
    captured = capsys.readouterr()
    assert captured.out == "x" * 150 + "\n"
    assert captured.err == "message\n"
