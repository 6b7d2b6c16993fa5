"""When an output counts as right, by kind of output and precision.

Two policies judge every artifact. The quality policy compares with the fp32 reference: is the compressed model still
the model? The executor policy compares with what the same artifact gave on the building machine: does this executor
compute it right? The second is tight, since a wrong kernel would hide behind the tolerance that int8 needs.

All limits stand in `POLICIES`, each with where it comes from; `benchmarks/policies.py` measures how near honest models
come to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastserve_runtime.conformance.metrics import divergences, largest_error, relative_error, row_cosines, sqnr_db
from fastserve_runtime.conformance.verdict import EXECUTOR, QUALITY
from fastserve_runtime.conformance.widths import FLOATS, HALF_ARITHMETIC, Width

LOG_PROBABILITIES = "log-probabilities"
ANY = "any"


@dataclass(frozen=True)
class Policy:
    """Least and most figures that an output must keep to. A row is one vector of the last axis.

    Attributes:
        min_sqnr_db: signal-to-quantization-noise ratio over all values, in dB.
        min_cosine: the worst row's cosine; None where the direction of a row means nothing (two logits).
        top1_margin: where the reference's best value leads by more than this, the best place must be the same; None
            where the place of the largest value means nothing.
        max_error: the largest absolute difference, divided by the reference's largest absolute value: one wrong value
            among many right ones, which a ratio over all of them would not show.
        max_kl: the mean over rows of the Kullback-Leibler divergence from the reference's softmax, in nats; None where
            values are no scores of classes.
    """

    min_sqnr_db: float
    min_cosine: float | None = None
    top1_margin: float | None = None
    max_error: float | None = None
    max_kl: float | None = None


@dataclass(frozen=True)
class Row:
    """One row of the table: what is judged, of which kind of output and how exact a precision, and by what.

    Attributes:
        judged: `QUALITY` or `EXECUTOR`.
        kind: `embedding`, `hidden`, `logits`, `tensor` (of any model) or `LOG_PROBABILITIES`; `ANY`.
        width: of the precision.
        policy: the limits.
        source: where they come from.
    """

    judged: str
    kind: str
    width: Width
    policy: Policy
    source: str


_ORDER = "another order of summation: 3e-7 relative between x86 and Arm kernels, over the layers of an encoder"
_HALF = "a mantissa of 11 bits: 2^-11 of each value is 66 dB, less what the layers add to it"
_HALF_SUMS = "sums of 16 bits: MiniLM has 39.6 dB on Qualcomm's simulator and 57 on Rockchip's, widened for others"
_INT16 = "by judgement between int8 and fp16: weights of 8 bits with activations of 16"
_MINILM_INT8 = "MiniLM in dynamic int8 in three engines (worst row's cosine 0.96 to 0.98), widened for harder models"
_INT4 = "by judgement: wider than int8, since blocks of 4 bits lose more"
_SCORES = "as of embeddings; the clear lead of a class is what users see change"
_TENSOR = "as of hidden states, but for the cosine of a row: of any model's numbers nobody knows what a row is"
_TEXT = (
    "SmolLM2, whose log perplexity rises by 0.002 to 0.023 nats at int8 and by 0.09 to 0.18 at int4, widened for "
    "harder models; floats by judgement"
)
_STEP = (
    "activations rounded at run time: another order of summation moves single values by a step. MiniLM gave 27.7 dB "
    "between ONNX Runtime 1.18 and 1.32, and 34 dB between LiteRT 1.0 and 2.3"
)

# SQNR of 20 dB is an error of a tenth of the signal; 80 dB is a ten-thousandth.
POLICIES: tuple[Row, ...] = (
    Row(QUALITY, "embedding", "fp32", Policy(70, 0.99999, max_error=1e-3), _ORDER),
    Row(QUALITY, "embedding", "fp16", Policy(45, 0.9999, max_error=0.02), _HALF),
    Row(QUALITY, "embedding", HALF_ARITHMETIC, Policy(35, 0.999, max_error=0.05), _HALF_SUMS),
    Row(QUALITY, "embedding", "int16", Policy(12, 0.95, max_error=0.5), _INT16),
    Row(QUALITY, "embedding", "int8", Policy(8, 0.90, max_error=0.75), _MINILM_INT8),
    Row(QUALITY, "embedding", "int4", Policy(5, 0.80, max_error=1.0), _INT4),
    Row(QUALITY, "hidden", "fp32", Policy(70, 0.9999, max_error=1e-3), _ORDER),
    Row(QUALITY, "hidden", "fp16", Policy(40, 0.999, max_error=0.05), _HALF),
    Row(QUALITY, "hidden", HALF_ARITHMETIC, Policy(30, 0.99, max_error=0.1), _HALF_SUMS),
    Row(QUALITY, "hidden", "int16", Policy(10, 0.90, max_error=0.75), _INT16),
    Row(QUALITY, "hidden", "int8", Policy(8, 0.80, max_error=1.0), _MINILM_INT8),
    Row(QUALITY, "hidden", "int4", Policy(5, 0.60, max_error=1.5), _INT4),
    Row(QUALITY, "logits", "fp32", Policy(60, None, 1e-3, max_error=2e-3, max_kl=1e-6), _SCORES),
    Row(QUALITY, "logits", "fp16", Policy(40, None, 0.05, max_error=0.05, max_kl=1e-3), _SCORES),
    Row(QUALITY, "logits", HALF_ARITHMETIC, Policy(30, None, 0.1, max_error=0.1, max_kl=5e-3), _HALF_SUMS),
    Row(QUALITY, "logits", "int16", Policy(10, None, 0.5, max_error=0.5, max_kl=0.1), _SCORES),
    Row(QUALITY, "logits", "int8", Policy(6, None, 1.0, max_error=0.75, max_kl=0.2), _SCORES),
    Row(QUALITY, "logits", "int4", Policy(3, None, 2.0, max_error=1.0, max_kl=0.5), _SCORES),
    Row(QUALITY, LOG_PROBABILITIES, "fp32", Policy(60, None, 1e-3, max_error=2e-3, max_kl=1e-6), _TEXT),
    Row(QUALITY, LOG_PROBABILITIES, "fp16", Policy(40, None, 0.05, max_error=0.05, max_kl=1e-3), _TEXT),
    Row(QUALITY, LOG_PROBABILITIES, HALF_ARITHMETIC, Policy(30, None, 0.1, max_error=0.1, max_kl=5e-3), _HALF_SUMS),
    Row(QUALITY, LOG_PROBABILITIES, "int16", Policy(12, None, 1.0, max_error=1.0, max_kl=0.2), _TEXT),
    Row(QUALITY, LOG_PROBABILITIES, "int8", Policy(12, None, 1.0, max_error=1.0, max_kl=0.2), _TEXT),
    Row(QUALITY, LOG_PROBABILITIES, "int4", Policy(6, None, 3.0, max_error=1.5, max_kl=1.0), _TEXT),
    Row(QUALITY, "tensor", "fp32", Policy(60, max_error=2e-3), _TENSOR),
    Row(QUALITY, "tensor", "fp16", Policy(40, max_error=0.05), _TENSOR),
    Row(QUALITY, "tensor", HALF_ARITHMETIC, Policy(30, max_error=0.1), _TENSOR),
    Row(QUALITY, "tensor", "int16", Policy(10, max_error=0.75), _TENSOR),
    Row(QUALITY, "tensor", "int8", Policy(8, max_error=1.0), _TENSOR),
    Row(QUALITY, "tensor", "int4", Policy(5, max_error=1.5), _TENSOR),
    Row(EXECUTOR, ANY, "fp32", Policy(80, max_error=5e-4), _ORDER),
    Row(EXECUTOR, ANY, "fp16", Policy(50, max_error=0.02), _HALF),
    Row(EXECUTOR, ANY, HALF_ARITHMETIC, Policy(35, max_error=0.05), _HALF_SUMS),
    Row(EXECUTOR, ANY, "int16", Policy(24, max_error=0.25), _STEP),
    Row(EXECUTOR, ANY, "int8", Policy(24, max_error=0.25), _STEP),
    Row(EXECUTOR, ANY, "int4", Policy(24, max_error=0.25), _STEP),
)
_BY_PLACE: Mapping[tuple[str, str, Width], Policy] = {(r.judged, r.kind, r.width): r.policy for r in POLICIES}

MIN_METRIC: Mapping[Width, float] = {
    "fp32": 0.999, "fp16": 0.999, HALF_ARITHMETIC: 0.99, "int16": 0.99, "int8": 0.99, "int4": 0.85,
}  # fmt: skip
"""The share of the reference's task metric that a width must keep: MLPerf's rules of 99.9 % and of 99 %, and a looser
one of ours for four bits, which few encoders take at 99 %."""


def quality_policy(kind: str, width: Width) -> Policy:
    """Return the policy against the reference for a kind of output, one of those of `POLICIES`."""
    return _BY_PLACE[QUALITY, kind, width]


def executor_policy(width: Width) -> Policy:
    """Return the policy against the same artifact's outputs on the building machine."""
    return _BY_PLACE[EXECUTOR, ANY, width]


def invariance_policy(kind: str, width: Width) -> Policy:
    """Return by what an output is judged that should not change with what stands beside it.

    Where activations become integers at run time, their ranges are taken over all that a call gets, so only floats
    keep to the tight policy.
    """
    return executor_policy(width) if width in FLOATS else quality_policy(kind, width)


def comparable(kind: str, values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return values of a kind of output as they are compared.

    Log-probabilities of several tokens are taken about their mean: they are all far below zero, and that common part
    would hide what is wrong with the rest.
    """
    if kind != LOG_PROBABILITIES or values.shape[-1] < 2:
        return values
    numbers = np.asarray(values, np.float64)
    centred: NDArray[np.generic] = numbers - numbers.mean(axis=-1, keepdims=True)
    return centred


_IMPOSSIBLE = -1e9
"""A score beside which any other is certain."""


@dataclass(frozen=True)
class Judgement:
    """Whether an output met a policy, why not, and its figures."""

    passed: bool
    reason: str
    figures: Mapping[str, float]


def judge(
    policy: Policy,
    reference: NDArray[np.generic],
    actual: NDArray[np.generic],
    counted: NDArray[np.bool_] | None = None,
) -> Judgement:
    """Compare an output with what it should be.

    Args:
        policy: the limits.
        reference: what it should be, shape [..., d].
        actual: what it is, same shape.
        counted: which rows count, shape [...]; the hidden states of padding mean nothing. Where rows are scores of
            tokens, which of these count, shape [..., d]. None: all.
    """
    if reference.shape != actual.shape:
        return Judgement(passed=False, reason=f"shape is {list(actual.shape)}, not {list(reference.shape)}", figures={})
    left = np.asarray(reference, np.float64)
    right = np.asarray(actual, np.float64)
    rows = left, right
    if counted is not None:
        rows = (left[counted], right[counted])
        left, right = rows
        if counted.shape == reference.shape:
            rows = (np.where(counted, reference, _IMPOSSIBLE), np.where(counted, actual, _IMPOSSIBLE))
    error = largest_error(left, right)
    figures = {
        "largest_error": error,
        "relative_error": relative_error(left, error),
        "sqnr_db": sqnr_db(left, right),
        "min_cosine": float(row_cosines(left, right).min(initial=1.0)),
    }
    if policy.max_kl is not None and rows[0].shape[-1] > 1:
        figures["kl"] = float(divergences(*rows).mean()) if left.size else 0.0
    reasons = [] if left.size else ["no value was compared"]
    if not np.all(np.isfinite(right)):
        reasons.append("it has values that are not finite")
    reasons += _broken_limits(policy, figures)
    if policy.top1_margin is not None:
        changed = _changed_top1(*rows, policy.top1_margin)
        if changed:
            reasons.append(f"{changed} of {len(rows[0])} best classes changed though they led clearly")
    return Judgement(not reasons, "; ".join(reasons), figures)


def _broken_limits(policy: Policy, figures: Mapping[str, float]) -> list[str]:
    reasons = []
    if figures["sqnr_db"] < policy.min_sqnr_db:
        reasons.append(f"SQNR is {figures['sqnr_db']:.1f} dB, at least {policy.min_sqnr_db:g} is wanted")
    if policy.min_cosine is not None and figures["min_cosine"] < policy.min_cosine:
        reasons.append(f"a row's cosine is {figures['min_cosine']:.5f}, at least {policy.min_cosine:g} is wanted")
    if policy.max_error is not None and figures["relative_error"] > policy.max_error:
        error, maximum = figures["relative_error"], policy.max_error
        reasons.append(f"a value is off by {error:.2g} of the largest, at most {maximum:g} is allowed")
    if policy.max_kl is not None and not figures.get("kl", 0.0) <= policy.max_kl:
        reasons.append(f"the KL divergence is {figures['kl']:.2g} nats, at most {policy.max_kl:g} is allowed")
    return reasons


def _changed_top1(reference: NDArray[np.float64], actual: NDArray[np.float64], margin: float) -> int:
    ordered = np.sort(reference, axis=-1)
    is_clear = ordered[..., -1] - ordered[..., -2] > margin if reference.shape[-1] > 1 else np.zeros(0, bool)
    return int(np.sum(is_clear & (reference.argmax(-1) != actual.argmax(-1)))) if is_clear.size else 0
