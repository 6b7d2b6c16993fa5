import math

import numpy as np
import pytest

from fastserve_runtime.conformance.policy import Policy, executor_policy, invariance_policy, judge, quality_policy
from fastserve_runtime.conformance.widths import HALF_ARITHMETIC, WIDTHS

LENIENT = Policy(min_sqnr_db=-1000)
KINDS = ["embedding", "hidden", "logits", "log-probabilities"]


def random_rows(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def with_noise(rows, db):
    """Rows with noise of that many dB below them."""
    noise = np.random.default_rng(1).normal(size=rows.shape)
    scale = math.sqrt(np.sum(rows.astype(float) ** 2) / np.sum(noise**2)) * 10 ** (-db / 20)
    return rows + scale * noise


@pytest.mark.parametrize("kind", KINDS)
def test_fp32_must_be_nearer_to_the_reference_than_int8(kind):
    assert quality_policy(kind, "fp32").min_sqnr_db > quality_policy(kind, "int8").min_sqnr_db


@pytest.mark.parametrize("kind", KINDS)
def test_the_more_exact_a_precision_the_more_is_wanted(kind):
    wanted = [quality_policy(kind, p).min_sqnr_db for p in WIDTHS]
    assert wanted == sorted(wanted, reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_what_should_not_change_is_judged_tightly_in_floats_alone(kind):
    for width in WIDTHS:
        expected = executor_policy(width) if width.startswith("fp") else quality_policy(kind, width)
        assert invariance_policy(kind, width) == expected


@pytest.mark.parametrize("precision", [w for w in WIDTHS if w != HALF_ARITHMETIC])
@pytest.mark.parametrize("kind", KINDS)
def test_executors_are_judged_more_tightly_than_quality(kind, precision):
    assert executor_policy(precision).min_sqnr_db > quality_policy(kind, precision).min_sqnr_db


def test_the_same_output_passes_every_policy():
    rows = random_rows(6, 4)
    for policy in (*(quality_policy(kind, "fp32") for kind in KINDS), executor_policy("fp32")):
        judgement = judge(policy, rows, rows)
        assert judgement.passed
        assert judgement.reason == ""
    assert judgement.figures["largest_error"] == 0
    assert judgement.figures["sqnr_db"] == math.inf
    assert judgement.figures["min_cosine"] == pytest.approx(1)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_noise_just_above_the_limit_fails_and_just_below_passes(kind, precision):
    rows = random_rows(50, 64) + 1
    policy = Policy(quality_policy(kind, precision).min_sqnr_db)
    assert judge(policy, rows, with_noise(rows, policy.min_sqnr_db + 0.5)).passed
    failed = judge(policy, rows, with_noise(rows, policy.min_sqnr_db - 0.5))
    assert not failed.passed
    assert "SQNR is" in failed.reason
    assert failed.figures["sqnr_db"] == pytest.approx(policy.min_sqnr_db - 0.5, abs=0.01)


def test_another_shape_fails_and_both_are_named():
    judgement = judge(LENIENT, random_rows(2, 3), random_rows(3, 2))
    assert (judgement.passed, judgement.reason) == (False, "shape is [3, 2], not [2, 3]")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_fail_any_policy(bad):
    rows = random_rows(2, 3)
    damaged = rows.copy()
    damaged[1, 1] = bad
    judgement = judge(LENIENT, rows, damaged)
    assert not judgement.passed
    assert "not finite" in judgement.reason


def test_one_row_that_points_elsewhere_fails_where_directions_count():
    rows = random_rows(100, 8)
    turned = rows.copy()
    turned[41] = -turned[41]
    assert judge(LENIENT, rows, turned).passed
    judgement = judge(Policy(-1000, min_cosine=0.9), rows, turned)
    assert not judgement.passed
    assert "a row's cosine is -1.00000, at least 0.9 is wanted" in judgement.reason


def test_a_changed_best_class_fails_only_where_it_led_clearly():
    policy = Policy(-1000, top1_margin=0.5)
    clear, close = [3.0, 1.0, 0.0], [1.2, 1.0, 0.0]
    assert judge(policy, np.array([close]), np.array([[1.0, 1.2, 0.0]])).passed
    judgement = judge(policy, np.array([clear, close, clear]), np.array([[1.0, 3, 0], [1.0, 1.2, 0], clear]))
    assert not judgement.passed
    assert judgement.reason == "1 of 3 best classes changed though they led clearly"


def test_a_single_logit_has_no_best_class_to_change():
    assert judge(Policy(-1000, top1_margin=0.1), np.array([[1.0], [2.0]]), np.array([[1.1], [1.9]])).passed


def test_rows_that_do_not_count_may_be_anything():
    rows = random_rows(2, 3, 4)
    counted = np.array([[True, True, False], [True, False, False]])
    other = rows.copy()
    other[~counted] = 1e9
    assert judge(quality_policy("hidden", "fp32"), rows, other, counted).passed
    assert not judge(quality_policy("hidden", "fp32"), rows, other).passed
    other[0, 0] += 1
    assert not judge(quality_policy("hidden", "fp32"), rows, other, counted).passed


def test_several_reasons_are_all_given():
    judgement = judge(Policy(20, 0.9, 0.1), np.array([[2.0, 0.0]]), np.array([[0.0, 2.0]]))
    assert judgement.reason.count(";") == 2


@pytest.mark.parametrize("rows", [np.empty((0, 4)), random_rows(2, 4)])
def test_nothing_compared_is_not_a_pass(rows):
    judgement = judge(quality_policy("embedding", "fp32"), rows, rows, np.zeros(len(rows), bool))
    assert (judgement.passed, judgement.reason) == (False, "no value was compared")


def test_outputs_of_integers_are_compared_by_value():
    judgement = judge(LENIENT, np.array([[0, 200]], np.uint8), np.array([[0, 201]], np.uint8))
    assert judgement.figures["largest_error"] == 1


def test_scores_of_tokens_are_judged_where_a_token_stands() -> None:
    reference = np.array([[5.0, 1, -2, 0, 0], [0, 6, 1, 2, 0]])
    counted = np.array([[True, True, True, False, False], [True, True, True, True, False]])
    policy = quality_policy("logits", "fp32")
    padded = np.where(counted, reference, 1e6)
    assert judge(policy, reference, padded, counted).passed
    assert not judge(policy, reference, padded).passed
    turned = np.where(counted, reference[:, [1, 0, 2, 3, 4]], 0)
    found = judge(policy, reference, turned, counted)
    assert "2 of 2 best classes changed" in found.reason or "1 of 2" in found.reason
    assert found.figures["kl"] > 1
