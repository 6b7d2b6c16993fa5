import pytest

from fastserve_runtime.generation.finish import FINISH_REASONS, Generation


def made(tokens, seconds):
    return Generation("text", tokens, "length", 5, 0.5, seconds)


def test_the_speed_is_of_the_tokens_after_the_first():
    assert made((1, 2, 3), 0.5).tokens_per_second == pytest.approx(4)


@pytest.mark.parametrize(("tokens", "seconds"), [((), 1.0), ((1,), 1.0), ((1, 2), 0.0)])
def test_without_two_tokens_or_time_there_is_no_speed(tokens, seconds):
    assert made(tokens, seconds).tokens_per_second is None


def test_the_reasons_are_known():
    assert set(FINISH_REASONS) == {"stop", "length", "context", "cancelled"}
