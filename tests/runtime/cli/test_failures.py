"""What a command does when something goes wrong: a sentence, what to do, and the exit code."""

import errno
import json
import logging
import warnings

import pytest

from fastserve_runtime.cli.failures import run_with_failures_told
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError


def ended_by(error, **arguments):
    def command():
        raise error

    return run_with_failures_told(command, **arguments)


@pytest.mark.parametrize(("kind", "code"), [(EnvironmentFailure, 1), (UsageError, 2), (BundleError, 5)])
def test_an_error_on_purpose_is_shown_and_ends_with_its_exit_code(kind, code, capsys):
    assert ended_by(kind("It is [broken].", "Mend it.")) == code
    assert capsys.readouterr() == ("", "Error: It is [broken].\nMend it.\n")


def test_an_error_without_remedy_is_one_line_whatever_is_in_it(capsys):
    ended_by(UsageError("It is \x1b[31mwrong.\nReally."))
    assert capsys.readouterr().err == "Error: It is \\x1b[31mwrong.\\nReally.\n"


def test_json_gets_the_error_as_the_only_document(capsys):
    assert ended_by(BundleError("It is damaged.", "Copy it again."), as_json=True) == 5
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "error": {"problem": "It is damaged.", "remedy": "Copy it again.", "exit_code": 5}
    }
    assert "It is damaged." in captured.err


def test_an_interruption_ends_with_130(capsys):
    assert ended_by(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "Error: Interrupted.\n"


def test_a_full_disk_is_named(capsys):
    assert ended_by(OSError(errno.ENOSPC, "the system's words")) == 1
    assert "disk is full" in capsys.readouterr().err


def test_what_nobody_expected_is_told_without_traceback(capsys):
    assert ended_by(ZeroDivisionError("by 0")) == 1
    text = capsys.readouterr().err
    assert "ZeroDivisionError: by 0" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("wrong"), 2), (KeyboardInterrupt(), 130), (OSError("odd"), 1), (ZeroDivisionError(), 1)],
)
def test_debug_shows_the_traceback_and_keeps_the_exit_code(error, code, capsys):
    assert ended_by(error, debug=True) == code
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("debug", "level"), [(False, logging.WARNING), (True, logging.DEBUG)])
def test_logs_show_from_warnings_on_or_all_of_them(debug, level):
    logging.root.handlers.clear()
    assert run_with_failures_told(lambda: 4, debug=debug) == 4
    assert logging.root.level == level


def test_warnings_for_users_are_shown_and_others_are_not(capsys):
    def command():
        warnings.simplefilter("always")
        warnings.warn("a text is cut off", UserWarning, stacklevel=1)
        warnings.warn("old function", DeprecationWarning, stacklevel=1)
        return 0

    assert run_with_failures_told(command) == 0
    assert capsys.readouterr() == ("", "Warning: a text is cut off\n")
