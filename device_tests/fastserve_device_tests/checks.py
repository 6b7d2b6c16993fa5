"""The checks of the suite: plain functions from an opened model and its golden to verdicts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastserve_device_tests.targets import Target
from fastserve_runtime.golden import Arrays, Golden
from fastserve_runtime.manifest import Variant
from fastserve_runtime.pipelines._text_pipeline import run_samples
from fastserve_runtime.policy import executor_policy, judge
from fastserve_runtime.session import Session
from fastserve_runtime.verdict import Outcome, Verdict
from fastserve_runtime.verification import judge_golden, output_kind

PADDING = "padding invariance"
DETERMINISM = "determinism"
PLACEMENT = "placement"


def all_checks(variant: Variant, golden: Golden, session: Session, target: Target) -> Iterator[Verdict]:
    """Yield the verdicts of every check.

    Args:
        variant: as the manifest describes it.
        golden: its golden samples.
        session: the variant, opened on the target.
        target: where it runs.
    """
    outputs = run_samples(session, golden.inputs)
    yield from judge_golden(variant, golden, outputs, target.NAME)
    yield check_determinism(variant, golden, session, target, outputs)
    yield from check_padding(variant, golden, session, target, outputs)
    yield check_placement(variant, session, target)


def check_determinism(variant: Variant, golden: Golden, session: Session, target: Target, outputs: Arrays) -> Verdict:
    """The same inputs give the same bits again, so nothing is left over from the calls between."""
    again = run_samples(session, golden.inputs)
    for name, first in outputs.items():
        if not np.array_equal(first, again[name], equal_nan=True):
            return Verdict(
                variant.id,
                target.NAME,
                DETERMINISM,
                Outcome.OUTPUT_MISMATCH,
                f"{name} differs in a second run",
            )
    return Verdict(variant.id, target.NAME, DETERMINISM, Outcome.PASS)


def check_padding(
    variant: Variant, golden: Golden, session: Session, target: Target, outputs: Arrays
) -> Iterator[Verdict]:
    """What stands behind the mask has no influence: other ids there give the same output for the real tokens.

    Dynamic int8 takes the range of activations over padding too, so it is judged by the policy against the reference's
    quality rather than bit for bit.
    """
    mask, ids = golden.inputs.get("attention_mask"), golden.inputs.get("input_ids")
    if mask is None or ids is None:
        return
    filler = ids[:, :1]  # every sequence starts with the classification token
    changed = dict(golden.inputs) | {"input_ids": np.where(mask == 0, filler, ids)}
    actual = run_samples(session, changed)
    for name, expected in outputs.items():
        counted = (mask != 0) if output_kind(name) == "hidden" else None
        policy = executor_policy(variant.precision)
        if variant.precision != "fp32":
            from fastserve_runtime.policy import quality_policy

            policy = quality_policy(output_kind(name), variant.precision)
        judgement = judge(policy, expected, actual[name], counted)
        outcome = Outcome.PASS if judgement.passed else Outcome.OUTPUT_MISMATCH
        message = "" if judgement.passed else f"{name} changes with what stands behind the mask: {judgement.reason}"
        yield Verdict(variant.id, target.NAME, PADDING, outcome, message, judgement.figures)


def check_placement(variant: Variant, session: Session, target: Target) -> Verdict:
    """No fewer operators run on the target's backend than when the bundle was made."""
    placement = session.placement()
    expected = variant.expected_placement
    if target.BACKEND is None:
        return Verdict(variant.id, target.NAME, PLACEMENT, Outcome.PASS, placement.source)
    if placement.operators is None or expected.delegated is None:
        return Verdict(variant.id, target.NAME, PLACEMENT, Outcome.NOT_RUN, placement.source)
    found = placement.operators.get(target.BACKEND, 0)
    figures = {"expected": float(expected.delegated), "found": float(found)}
    if found < expected.delegated:
        message = f"{found} operators run in {target.BACKEND}; {expected.delegated} did on the building machine"
        return Verdict(variant.id, target.NAME, PLACEMENT, Outcome.FELL_BACK, message, figures)
    return Verdict(variant.id, target.NAME, PLACEMENT, Outcome.PASS, figures=figures)
