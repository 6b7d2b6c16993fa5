"""When an output counts as right, by kind of output and precision.

Two policies judge every artifact. The quality policy compares with the fp32 reference: is the compressed model still
the model? The executor policy compares with what the same artifact gave on the building machine: does this executor
compute it right? The second is tight, since a wrong kernel would hide behind the tolerance that int8 needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastserve_runtime.metrics import largest_error, row_cosines, sqnr_db

LOG_PROBABILITIES = "log-probabilities"


@dataclass(frozen=True)
class Policy:
    """Least figures that an output must reach. A row is one vector of the last axis.

    Attributes:
        least_sqnr_db: signal-to-quantization-noise ratio over all values, in dB.
        least_cosine: the worst row's cosine; None where the direction of a row means nothing (two logits).
        top1_margin: where the reference's best value leads by more than this, the best place must be the same; None
            where the place of the largest value means nothing.
    """

    least_sqnr_db: float
    least_cosine: float | None = None
    top1_margin: float | None = None


# SQNR of 20 dB is an error of a tenth of the signal; 80 dB is a ten-thousandth. The fp32 figures leave room for the
# 3e-7 relative difference seen between x86 and Arm kernels, accumulated over layers; the int8 ones come from MiniLM's
# dynamic int8 in three engines (worst row's cosine 0.96 to 0.98), widened for harder models, as are the others.
_QUALITY: Mapping[tuple[str, str], Policy] = {
    ("embedding", "fp32"): Policy(70, least_cosine=0.99999),
    ("embedding", "fp16"): Policy(45, least_cosine=0.9999),
    ("embedding", "int16"): Policy(12, least_cosine=0.95),
    ("embedding", "int8"): Policy(8, least_cosine=0.90),
    ("embedding", "int4"): Policy(5, least_cosine=0.80),
    ("hidden", "fp32"): Policy(70, least_cosine=0.9999),
    ("hidden", "fp16"): Policy(40, least_cosine=0.999),
    ("hidden", "int16"): Policy(10, least_cosine=0.90),
    ("hidden", "int8"): Policy(8, least_cosine=0.80),
    ("hidden", "int4"): Policy(5, least_cosine=0.60),
    ("logits", "fp32"): Policy(60, top1_margin=1e-3),
    ("logits", "fp16"): Policy(40, top1_margin=0.05),
    ("logits", "int16"): Policy(10, top1_margin=0.5),
    ("logits", "int8"): Policy(6, top1_margin=1.0),
    ("logits", "int4"): Policy(3, top1_margin=2.0),
    (LOG_PROBABILITIES, "fp32"): Policy(60, top1_margin=1e-3),
    (LOG_PROBABILITIES, "fp16"): Policy(40, top1_margin=0.05),
    (LOG_PROBABILITIES, "int16"): Policy(12, top1_margin=1.0),
    (LOG_PROBABILITIES, "int8"): Policy(12, top1_margin=1.0),
    (LOG_PROBABILITIES, "int4"): Policy(6, top1_margin=3.0),
}
# Dynamic int8 rounds activations at run time: another order of summation moves single values by one step. MiniLM gave
# 27.7 dB between ONNX Runtime 1.18 and 1.32, and 34 dB between LiteRT 1.0 and 2.3. What computes in float from stored
# integers does better, but the same precision does so in one engine and not in another.
_EXECUTOR: Mapping[str, Policy] = {
    "fp32": Policy(80),
    "fp16": Policy(50),
    "int16": Policy(24),
    "int8": Policy(24),
    "int4": Policy(24),
}
_WIDTHS: Mapping[str, str] = {
    "fp32": "fp32", "fp32-fused": "fp32", "fp16": "fp16", "a16w8": "int16", "int4": "int4", "mixed": "int4",
    "int4-embedding-int8": "int4", "source": "int4",
}  # fmt: skip
"""How exact a precision is; what is not listed counts as int8."""


def quality_policy(kind: str, precision: str) -> Policy:
    """Return the policy against the reference for a kind of output, one of those of `_QUALITY`."""
    return _QUALITY[kind, _width(precision)]


def executor_policy(precision: str) -> Policy:
    """Return the policy against the same artifact's outputs on the building machine."""
    return _EXECUTOR[_width(precision)]


def _width(precision: str) -> str:
    return _WIDTHS.get(precision, "int8")


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
        policy: the least figures.
        reference: what it should be, shape [..., d].
        actual: what it is, same shape.
        counted: which rows count, shape [...]; the hidden states of padding mean nothing. None: all.
    """
    if reference.shape != actual.shape:
        return Judgement(passed=False, reason=f"shape is {list(actual.shape)}, not {list(reference.shape)}", figures={})
    left = np.asarray(reference, np.float64)
    right = np.asarray(actual, np.float64)
    if counted is not None:
        left, right = left[counted], right[counted]
    figures = {
        "largest_error": largest_error(left, right),
        "sqnr_db": sqnr_db(left, right),
        "least_cosine": float(row_cosines(left, right).min(initial=1.0)),
    }
    reasons = [] if left.size else ["no value was compared"]
    if not np.all(np.isfinite(right)):
        reasons.append("it has values that are not finite")
    if figures["sqnr_db"] < policy.least_sqnr_db:
        reasons.append(f"SQNR is {figures['sqnr_db']:.1f} dB, at least {policy.least_sqnr_db:g} is wanted")
    if policy.least_cosine is not None and figures["least_cosine"] < policy.least_cosine:
        reasons.append(f"a row's cosine is {figures['least_cosine']:.5f}, at least {policy.least_cosine:g} is wanted")
    if policy.top1_margin is not None:
        changed = _changed_top1(left, right, policy.top1_margin)
        if changed:
            reasons.append(f"{changed} of {len(left)} best classes changed though they led clearly")
    return Judgement(not reasons, "; ".join(reasons), figures)


def _changed_top1(reference: NDArray[np.float64], actual: NDArray[np.float64], margin: float) -> int:
    ordered = np.sort(reference, axis=-1)
    is_clear = ordered[..., -1] - ordered[..., -2] > margin if reference.shape[-1] > 1 else np.zeros(0, bool)
    return int(np.sum(is_clear & (reference.argmax(-1) != actual.argmax(-1)))) if is_clear.size else 0
