import errno

import pytest

from fastserve_runtime import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.FastServeError, 1),
        (errors.EnvironmentFailure, 1),
        (errors.UsageError, 2),
        (errors.InputError, 2),
        (errors.BundleError, 5),
    ],
)
def test_every_error_has_its_exit_code(kind, code):
    assert kind("It broke.").exit_code == code
    assert issubclass(kind, errors.FastServeError)


def test_a_message_says_the_problem_and_then_the_remedy():
    error = errors.UsageError("0 threads were asked for.", "Ask for at least 1.")
    assert (error.problem, error.remedy) == ("0 threads were asked for.", "Ask for at least 1.")
    assert str(error) == "0 threads were asked for. Ask for at least 1."


def test_a_message_without_a_remedy_ends_with_the_problem():
    assert str(errors.BundleError("The file is missing.")) == "The file is missing."


def test_a_wrong_input_is_a_usage_error():
    assert issubclass(errors.InputError, errors.UsageError)


@pytest.mark.parametrize(
    ("number", "is_full"),
    [(errno.ENOSPC, True), (errno.EFBIG, True), (errno.EDQUOT, True), (errno.EACCES, False), (errno.ENOENT, False)],
)
def test_a_full_disk_is_told_from_other_failures_however_deep_it_lies(number, is_full):
    low = OSError(number, "written")
    middle, top, beside = ValueError("middle"), errors.EnvironmentFailure("top"), KeyError("beside")
    middle.__cause__ = low
    top.__cause__ = middle
    beside.__context__ = low
    assert [errors.is_disk_full(error) for error in (low, middle, top, beside)] == [is_full] * 4


def test_an_error_from_nowhere_is_no_full_disk():
    assert not errors.is_disk_full(RuntimeError("no space left on device"))
