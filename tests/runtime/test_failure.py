import errno

import pytest

from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError
from fastserve_runtime.failure import Failure, failure_of


@pytest.mark.parametrize(("kind", "code"), [(EnvironmentFailure, 1), (UsageError, 2), (BundleError, 5)])
def test_an_error_on_purpose_keeps_its_words_and_its_code(kind, code):
    assert failure_of(kind("It is wrong.", "Mend it.")) == Failure("It is wrong.", "Mend it.", code)


def test_what_a_damaged_file_says_fits_on_a_terminal():
    failure = failure_of(BundleError(f"The manifest names '{'x' * 10**6}'.", "Mend it."))
    assert len(failure.problem) < 5000
    assert failure.problem.startswith("The manifest names 'xxx")
    assert failure.problem.endswith("xxx'.")


def test_an_interruption_may_have_a_remedy():
    assert failure_of(KeyboardInterrupt()) == Failure("Interrupted.", "", 130)
    assert failure_of(KeyboardInterrupt(), after_interruption="Go on.").remedy == "Go on."


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_is_named(number):
    failure = failure_of(OSError(number, "the system's words"))
    assert "disk is full" in failure.problem
    assert "the system's words" in failure.problem
    assert failure.exit_code == 1


@pytest.mark.parametrize(
    "words",
    [
        "I/O error: No space left on device (os error 28)",
        "4096 requested and 512 written",
        "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534",
        "PytorchStreamWriter failed writing file data/0: file write failed",
    ],
)
def test_a_full_disk_is_told_from_the_words_of_libraries_whatever_became_of_them(words):
    damage = UsageError("The checkpoint cannot be loaded.", "Export it again.")
    damage.__cause__ = RuntimeError(words)
    for error in (damage, RuntimeError(words)):
        failure = failure_of(error)
        assert "The disk is full" in failure.problem
        assert (failure.remedy, failure.exit_code) == ("Free some space.", 1)
    assert "disk" not in failure_of(UsageError(f"The text '{words}' is odd.")).problem


def test_an_error_of_the_system_names_the_file_where_there_is_one():
    assert failure_of(PermissionError(errno.EACCES, "Denied", "/a")).problem == "Denied: '/a'."
    assert failure_of(OSError("odd")).problem == "odd."


def test_a_device_without_numpy_is_told_what_to_install():
    failure = failure_of(ModuleNotFoundError("No module named 'numpy'", name="numpy"))
    assert failure == Failure("numpy is not installed.", "Install it: pip install numpy.", 1)


def test_what_nobody_expected_is_told_with_its_kind():
    failure = failure_of(ZeroDivisionError("by 0"))
    assert "ZeroDivisionError: by 0" in failure.problem
    assert "--debug" in failure.remedy
    assert failure.exit_code == 1


def test_a_failure_is_one_document():
    document = Failure("It is wrong.", "", 2).as_document()
    assert document == {"error": {"problem": "It is wrong.", "remedy": "", "exit_code": 2}}
