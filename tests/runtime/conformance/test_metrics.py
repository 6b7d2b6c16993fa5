import math
import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata, spearmanr

from fastserve_runtime.conformance.metrics import (
    Interval,
    bootstrap,
    cosine_matrix,
    largest_error,
    mean_interval,
    neighbour_overlap,
    ranks,
    ratio_interval,
    row_cosines,
    similarity_spearman,
    similarity_spearman_interval,
    spearman,
    sqnr_db,
)

values = st.integers(-4, 4).map(float) | st.floats(-1e6, 1e6)
pairs = st.integers(2, 40).flatmap(
    lambda n: st.tuples(arrays(float, n, elements=values), arrays(float, n, elements=values))
)
embeddings = arrays(np.float32, st.tuples(st.integers(1, 8), st.just(3)), elements=st.integers(-5, 5).map(float))


def random_rows(seed, rows=12, width=5):
    return np.random.default_rng(seed).normal(size=(rows, width))


def test_the_largest_error_is_absolute():
    assert largest_error(np.array([1.0, -2.0]), np.array([1.5, -5.0])) == 3.0
    assert largest_error(np.empty(0), np.empty(0)) == 0.0


def test_the_largest_error_of_integers_does_not_wrap_around():
    assert largest_error(np.array([0], np.uint8), np.array([255], np.uint8)) == 255.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_the_worst_there_is_and_warn_of_nothing(bad):
    good, damaged = np.array([[1.0, 2.0]]), np.array([[1.0, bad]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for reference, actual in ((good, damaged), (damaged, good), (damaged, damaged)):
            assert largest_error(reference, actual) == math.inf
            assert sqnr_db(reference, actual) == -math.inf
            np.testing.assert_array_equal(row_cosines(reference, actual), [-1.0])


def test_sqnr_is_twenty_db_for_an_error_of_a_tenth():
    signal = random_rows(0)
    assert sqnr_db(signal, signal * 1.1) == pytest.approx(20)
    assert sqnr_db(signal, signal * 1.0001) == pytest.approx(80, abs=1e-6)


def test_sqnr_of_equal_and_of_silent_signals():
    signal = random_rows(0)
    assert sqnr_db(signal, signal) == math.inf
    assert sqnr_db(signal * 0, signal * 0) == math.inf
    assert sqnr_db(signal * 0, signal) == -math.inf


def test_row_cosines_are_those_of_each_row():
    left = np.array([[1.0, 0], [1, 0], [1, 0], [0, 0], [0, 0]])
    right = np.array([[3.0, 0], [0, 2], [-1, 0], [0, 0], [1, 0]])
    np.testing.assert_allclose(row_cosines(left, right), [1, 0, -1, 1, 0])


def test_rows_are_the_last_axis():
    left, right = random_rows(1, 12), random_rows(2, 12)
    flat = row_cosines(left, right)
    np.testing.assert_allclose(row_cosines(left.reshape(3, 4, 5), right.reshape(3, 4, 5)), flat)
    assert flat.shape == (12,)


@given(st.integers(1, 60).flatmap(lambda n: arrays(float, n, elements=values)))
def test_ranks_equal_scipys(numbers):
    np.testing.assert_array_equal(ranks(numbers), rankdata(numbers))


@given(pairs)
def test_spearman_equals_scipys(pair):
    left, right = pair
    assume(len(set(left)) > 1)
    assume(len(set(right)) > 1)
    assert spearman(left, right) == pytest.approx(spearmanr(left, right).statistic, abs=1e-12)


@given(pairs)
def test_spearman_of_equals_is_one_and_is_symmetric(pair):
    left, right = pair
    assert spearman(left, right) == pytest.approx(spearman(right, left), abs=1e-12)
    assert spearman(left, left) == pytest.approx(1.0 if len(set(left)) > 1 else 0.0)


@pytest.mark.parametrize(
    "other", [np.full(3, 7.0), np.array([1, math.nan, 2]), np.array([1, math.inf, 2]), np.array([-math.inf, 1, 2])]
)
def test_spearman_is_nought_where_one_side_is_constant_or_not_finite(other):
    assert spearman(np.arange(3.0), other) == 0.0
    assert spearman(other, np.arange(3.0)) == 0.0


def test_spearman_of_nothing_is_nought_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert spearman(np.empty(0), np.empty(0)) == 0.0
        assert similarity_spearman(np.ones((1, 3)), np.ones((1, 3))) == 0.0


@given(embeddings)
def test_the_cosine_matrix_holds_the_cosine_of_every_pair(rows):
    matrix = cosine_matrix(rows)
    assert matrix.shape == (len(rows), len(rows))
    for i, j in np.ndindex(matrix.shape):
        expected = row_cosines(rows[i : i + 1], rows[j : j + 1])[0] if rows[i].any() and rows[j].any() else 0.0
        assert matrix[i, j] == pytest.approx(expected, abs=1e-6)


def test_similarities_keep_their_order_when_embeddings_turn_or_grow():
    rows = random_rows(3)
    turn = np.linalg.qr(random_rows(4, 5, 5))[0]
    assert similarity_spearman(rows, rows @ turn * 3) == pytest.approx(1, abs=1e-6)
    assert similarity_spearman(rows, random_rows(5)) < 0.5


def test_similarity_spearman_is_scipys_over_all_pairs():
    rows, others = random_rows(3), random_rows(4)
    upper = np.triu_indices(len(rows), 1)
    expected = spearmanr(cosine_matrix(rows)[upper], cosine_matrix(others)[upper]).statistic
    assert similarity_spearman(rows, others) == pytest.approx(expected)


def test_the_interval_holds_the_figure_and_repeats_with_its_seed():
    rows = random_rows(6, 30)
    others = rows + 0.3 * random_rows(7, 30)
    interval = similarity_spearman_interval(rows, others, seed=1, resamples=50)
    assert interval.low < interval.value < interval.high
    assert interval.value == similarity_spearman(rows, others)
    assert similarity_spearman_interval(rows, others, seed=1, resamples=50) == interval
    assert similarity_spearman_interval(rows, others, seed=2, resamples=50) != interval


def test_two_texts_can_be_resampled_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interval = similarity_spearman_interval(random_rows(6, 2), random_rows(7, 2), seed=0, resamples=20)
    assert interval == Interval(0.0, 0.0, 0.0)


def test_a_mean_has_about_the_interval_of_the_normal_distribution():
    samples = np.random.default_rng(8).normal(10, 2, 400)
    interval = mean_interval(samples, seed=0)
    assert interval.value == pytest.approx(samples.mean())
    assert interval.low == pytest.approx(interval.value - 1.96 * 0.1, abs=0.05)
    assert interval.high == pytest.approx(interval.value + 1.96 * 0.1, abs=0.05)


def test_a_higher_confidence_gives_a_wider_interval():
    samples = np.random.default_rng(8).normal(size=50)
    narrow, wide = (mean_interval(samples, seed=0, confidence=c) for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_ratio_of_means_resamples_both_sides_together():
    bottom = np.arange(1.0, 50)
    interval = ratio_interval(bottom * 0.9, bottom, seed=0)
    assert (interval.low, interval.value, interval.high) == pytest.approx((0.9, 0.9, 0.9))
    assert ratio_interval(np.ones(4), np.zeros(4), seed=0) == Interval(0.0, 0.0, 0.0)


def test_an_interval_is_widened_to_hold_a_figure_outside_it():
    assert bootstrap(5.0, 3, lambda rows: 1.0, seed=0, resamples=10, confidence=0.9) == Interval(5.0, 1.0, 5.0)
    assert bootstrap(-5.0, 3, lambda rows: 1.0, seed=0, resamples=10, confidence=0.9) == Interval(-5.0, -5.0, 1.0)


def test_resamples_are_of_the_given_size_and_rows():
    drawn = []
    bootstrap(0.0, 4, lambda rows: drawn.append(rows) or 0.0, seed=0, resamples=25, confidence=0.9)
    assert len(drawn) == 25
    assert {len(rows) for rows in drawn} == {4}
    assert set(np.concatenate(drawn).tolist()) == {0, 1, 2, 3}


def test_neighbours_are_shared_by_equal_and_not_by_turned_embeddings():
    angles = np.deg2rad([0, 10, 90, 100])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert neighbour_overlap(rows, rows * 2, neighbours=1) == 1.0
    assert neighbour_overlap(rows, rows[[0, 2, 1, 3]], neighbours=1) == 0.0
    assert neighbour_overlap(rows, rows[[0, 2, 1, 3]], neighbours=10) == 1.0


def test_half_the_neighbours_shared_is_a_half():
    angles = np.deg2rad([0, 10, 90, 100])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    turned = np.deg2rad([0, 10, 90, 170])
    others = np.stack([np.cos(turned), np.sin(turned)], axis=1)
    shared = neighbour_overlap(rows, others, neighbours=1)
    assert shared == pytest.approx(np.mean([1, 1, 0, 1]))


def test_a_single_row_agrees_with_itself():
    assert neighbour_overlap(np.ones((1, 3)), -np.ones((1, 3))) == 1.0
