"""The checks of the suite: plain functions from an opened model and its golden to verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from fastserve_device_tests.checks.metric_check import check_metric
from fastserve_device_tests.checks.subject import Subject
from fastserve_runtime.bundle.golden import Arrays
from fastserve_runtime.conformance.policy import Judgement, invariance_policy, judge
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.conformance.verification import counted_rows, judge_golden, output_kind
from fastserve_runtime.conformance.widths import width_of
from fastserve_runtime.sessions.batching import batch_size, run_samples
from fastserve_runtime.sessions.workload import run_golden

PADDING = "padding invariance"
DETERMINISM = "determinism"
REPEATED = "repeated calls"
BATCH = "batch invariance"
PLACEMENT = "placement"
GENERATION = "text-generation"
_COMPANIONS = 3
"""After how many other samples one is looked at again; a simulator may take seconds for each."""


def all_checks(subject: Subject) -> Iterator[Verdict]:
    """Yield the verdicts of every check."""
    outputs = run_golden(subject.task, subject.session, subject.golden.inputs)
    yield from judge_golden(subject.task, subject.variant, subject.golden, outputs, subject.target.NAME)
    yield from check_metric(subject)
    yield check_determinism(subject, outputs)
    yield from check_padding(subject, outputs)
    if subject.task != GENERATION:  # whose state between calls is what its own checks are about
        yield check_repeated_calls(subject)
        yield from check_batch(subject, outputs)
    if subject.task == GENERATION:
        from fastserve_device_tests.checks.generation_checks import generation_checks

        yield from generation_checks(subject)
    yield check_placement(subject)


def check_determinism(subject: Subject, outputs: Arrays) -> Verdict:
    """The same inputs give the same bits again, so nothing is left over from the calls between."""
    again = run_golden(subject.task, subject.session, subject.golden.inputs)
    differing = [n for n, first in outputs.items() if not np.array_equal(first, again[n], equal_nan=True)]
    reason = f"{', '.join(differing)} differs in a second run" if differing else ""
    return subject.verdict(DETERMINISM, Judgement(passed=not differing, reason=reason, figures={}))


def check_padding(subject: Subject, outputs: Arrays) -> Iterator[Verdict]:
    """What stands behind the mask has no influence: other ids there give the same output for the real tokens.

    A model that can do without padding is given it here, and must give what it gave without. Dynamic int8 takes the
    range of activations over padding too, so it is judged by the policy against the reference rather than by the tight
    one.
    """
    inputs, width = subject.golden.inputs, width_of(subject.variant)
    mask, ids = inputs.get("attention_mask"), inputs.get("input_ids")
    if mask is None or ids is None:
        return
    filler = ids[:, :1]  # every sequence starts with the classification token
    actual = run_samples(subject.session, {**inputs, "input_ids": np.where(mask == 0, filler, ids)}, cut_padding=False)
    for name, expected in outputs.items():
        kind = output_kind(subject.task, name)
        policy = invariance_policy(kind, width)
        judgement = judge(policy, expected, actual[name], counted_rows(subject.variant, name, inputs))
        yield subject.verdict(PADDING, judgement, f"{name} changes with what stands behind the mask: ")


def check_repeated_calls(subject: Subject) -> Verdict:
    """A sample gives the same bits whichever call came before: nothing of another one is left in a buffer.

    The second run of `check_determinism` has the same calls before each one, and so would not tell.
    """
    inputs = subject.golden.inputs
    others = range(1, min(_COMPANIONS + 1, len(next(iter(inputs.values())))))
    first = run_samples(subject.session, _rows(inputs, 0))
    differing: dict[str, None] = {}
    for other in others:
        run_samples(subject.session, _rows(inputs, other))
        again = run_samples(subject.session, _rows(inputs, 0))
        differing |= {n: None for n, v in first.items() if not np.array_equal(v, again[n], equal_nan=True)}
    reason = f"{', '.join(differing)} of a sample differs after another one" if differing else ""
    return subject.verdict(REPEATED, Judgement(passed=not differing, reason=reason, figures={}))


def check_batch(subject: Subject, outputs: Arrays) -> Iterator[Verdict]:
    """A sample gives alone what it gives together with others, where a graph takes several at a time.

    Dynamic int8 takes the range of activations over the whole batch; such precisions are judged as in `check_padding`.
    """
    if all(batch_size(signature) == (1, True) for signature in subject.session.graphs.values()):
        return
    inputs, width = subject.golden.inputs, width_of(subject.variant)
    count = len(next(iter(inputs.values())))
    alone = [run_samples(subject.session, _rows(inputs, row)) for row in range(count)]
    for name, expected in outputs.items():
        kind = output_kind(subject.task, name)
        policy = invariance_policy(kind, width)
        counted = counted_rows(subject.variant, name, inputs)
        judgement = judge(policy, expected, np.concatenate([a[name] for a in alone]), counted)
        yield subject.verdict(BATCH, judgement, f"{name} changes with the samples beside it: ")


def _rows(inputs: Arrays, row: int) -> Arrays:
    return {name: value[row : row + 1] for name, value in inputs.items()}


def check_placement(subject: Subject) -> Verdict:
    """What should run on the target's backend does.

    That is what did when the bundle was made, where its manifest tells of this backend; a portable file on an
    accelerator that it was not made for should run there as a whole.
    """
    variant, target = subject.variant, subject.target
    placement = subject.session.placement()
    expected = variant.expected_placement
    if target.BACKEND is None:
        return Verdict(variant.id, target.NAME, PLACEMENT, Outcome.PASS, placement.source)
    if placement.operators is None:
        return Verdict(variant.id, target.NAME, PLACEMENT, Outcome.NOT_RUN, placement.source)
    # Where a file calls its delegate by name, as ExecuTorch's do, the engine counts those calls, not what is in them.
    calls = sum(o.count for o in variant.operators if o.name == target.BACKEND)
    if expected.backend != target.BACKEND and not calls:
        return _wholly_placed(subject, placement.operators, target.BACKEND)
    if expected.delegated is None:
        return Verdict(variant.id, target.NAME, PLACEMENT, Outcome.NOT_RUN, placement.source)
    found = placement.operators.get(target.BACKEND, 0)
    minimum, unit = (calls, "calls") if calls else (expected.delegated, "operators")
    figures = {"expected": float(minimum), "found": float(found)}
    if found < minimum:
        message = f"{found} {unit} run in {target.BACKEND}; {minimum} did on the building machine"
        return Verdict(variant.id, target.NAME, PLACEMENT, Outcome.FELL_BACK, message, figures)
    return Verdict(variant.id, target.NAME, PLACEMENT, Outcome.PASS, figures=figures)


def _wholly_placed(subject: Subject, operators: Mapping[str, int], backend: str) -> Verdict:
    elsewhere = {name: count for name, count in operators.items() if name != backend and count}
    figures = {"found": float(operators.get(backend, 0)), "elsewhere": float(sum(elsewhere.values()))}
    if elsewhere or not operators.get(backend):
        where = " and ".join(f"{count} in {name}" for name, count in sorted(elsewhere.items())) or "nowhere else"
        message = f"{operators.get(backend, 0)} of {sum(operators.values())} operators run in {backend}, {where}"
        return Verdict(subject.variant.id, subject.target.NAME, PLACEMENT, Outcome.FELL_BACK, message, figures)
    return Verdict(subject.variant.id, subject.target.NAME, PLACEMENT, Outcome.PASS, figures=figures)
