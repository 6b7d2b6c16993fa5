import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from fastserve_runtime.measurement.early_stopping import percentile_estimate, queries_needed, slower_queries_allowed

latencies = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=900)
percentiles = st.floats(0.05, 0.995)


@pytest.mark.parametrize(("percentile", "queries"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.97, 219), (0.99, 662)])
def test_the_least_number_of_queries_is_mlperfs(percentile, queries):
    assert queries_needed(percentile) == queries
    assert percentile_estimate([1.0] * (queries - 1), percentile) is None
    assert percentile_estimate([1.0] * queries, percentile) == 1.0


def test_a_lower_confidence_needs_fewer_queries():
    assert queries_needed(0.9, confidence=0.9) < queries_needed(0.9, confidence=0.95) < queries_needed(0.9)


@given(st.integers(1, 3000), percentiles, st.floats(0.5, 0.999))
def test_the_slower_queries_allowed_are_the_most_that_the_binomial_distribution_permits(
    queries, percentile, confidence
):
    allowed = slower_queries_allowed(queries, percentile, confidence)
    slow = binom(queries, 1 - percentile)
    rounding = 1e-9
    if allowed:
        assert slow.cdf(allowed) <= 1 - confidence + rounding
    assert slow.cdf(allowed + 1) > 1 - confidence - rounding


def test_the_estimate_is_the_latency_at_that_place_from_the_slow_end():
    assert slower_queries_allowed(64, 0.9) == 1
    assert percentile_estimate(range(64), 0.9) == 63
    allowed = slower_queries_allowed(1000, 0.9)
    assert percentile_estimate(range(1000), 0.9) == 1000 - allowed
    assert 60 < allowed < 100


@given(latencies, percentiles)
def test_the_estimate_is_one_of_the_latencies_and_does_not_depend_on_their_order(values, percentile):
    estimate = percentile_estimate(values, percentile)
    assert estimate is None or estimate in values
    assert percentile_estimate(values[::-1], percentile) == estimate


@given(latencies, percentiles)
def test_the_estimate_is_never_below_the_plain_percentile(values, percentile):
    estimate = percentile_estimate(values, percentile)
    if estimate is not None:
        assert sum(value > estimate for value in values) <= (1 - percentile) * len(values)


@given(latencies, percentiles, percentiles)
def test_a_higher_percentile_is_never_estimated_lower(values, one, other):
    low, high = (percentile_estimate(values, p) for p in sorted((one, other)))
    if low is None:
        assert high is None
    assert high is None or low <= high


@given(percentiles)
def test_no_queries_give_no_estimate(percentile):
    assert percentile_estimate([], percentile) is None


@pytest.mark.parametrize("percentile", [0, 1, -0.1, 90])
def test_a_percentile_out_of_range_is_refused(percentile):
    with pytest.raises(ValueError, match="percentile must be between 0 and 1"):
        percentile_estimate([1.0], percentile)
