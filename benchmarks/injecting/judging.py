"""What the suite says of a case, and what becomes of the task."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_device_tests.suite.suite import pairings
from fastserve_device_tests.suite.target_process import check_in_process, check_variant
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.metrics import similarity_spearman
from fastserve_runtime.conformance.verdict import EXECUTOR, Outcome, Verdict
from fastserve_runtime.conformance.verification import verify_variant
from fastserve_runtime.errors import BundleError, FastServeError
from fastserve_runtime.sessions.batching import run_samples
from fastserve_runtime.variants import open_preprocessor
from injecting.fault import Case, Room

INTEGRITY = "integrity"
NOT_PASSED = "not run"
"""Stands for verdicts none of which is a PASS."""
EMBEDS = "feature-extraction"
WORST = 0.0
"""The metric of what cannot be run, or gives nothing that is finite."""
_NO_CLASS = -1


@dataclass(frozen=True)
class HeldOut:
    """Texts that neither goldens nor a bundle's evaluation samples have, and what the untouched model gives.

    Attributes:
        texts: n of them.
        reference: its outputs, shape [n, ...].
        task: the model's.
        labels: the right classes, shape [n], or None.
    """

    texts: tuple[str, ...]
    reference: NDArray[Any]
    task: str
    labels: NDArray[np.int64] | None = None


def failed_checks(case: Case, room: Room) -> tuple[str, ...]:
    """Return the names of the checks that find something wrong, in the suite's order; empty where all pass.

    Behind the first one that would find it too if it had been there when the bundle was made, no more are run.
    """
    try:
        pairings(case.bundle, [case.target.NAME])
    except BundleError:
        return (INTEGRITY,)
    failed: dict[str, None] = {}
    has_passed = False
    for verdict in _verdicts(case, room):
        has_passed |= verdict.outcome is Outcome.PASS
        if verdict.outcome.is_failure:
            failed[verdict.check] = None
            if without_executor(tuple(failed)):
                break
    return tuple(failed) if failed or has_passed else (NOT_PASSED,)


def without_executor(checks: tuple[str, ...]) -> tuple[str, ...]:
    """Return the checks that would find a fault too if it had been there when the bundle was made.

    The golden then has the faulty file's own outputs, and the executor policy compares with these.
    """
    return tuple(c for c in checks if c != EXECUTOR)


def _verdicts(case: Case, room: Room) -> Iterator[Verdict]:
    if room == "texts":
        with open_bundle(case.bundle) as bundle:
            yield from verify_variant(bundle, bundle.manifest.variant(case.variant))
        return
    if case.target.needs().missing():
        yield from check_in_process(case.bundle, case.variant, case.target)
        return
    yield from check_variant(case.bundle, case.variant, case.target)


def task_metric(case: Case, held_out: HeldOut) -> float:
    """Return the task's metric of a case on the held-out texts, from the texts on: 1 is as good as the reference."""
    try:
        outputs = _outputs(case, held_out.texts)
    except FastServeError:
        return WORST
    if outputs.shape != held_out.reference.shape:
        return WORST
    return metric_of(outputs, held_out)


def metric_of(outputs: NDArray[Any], held_out: HeldOut) -> float:
    """Return similarity Spearman of embeddings; of logits, accuracy against the reference's, or agreement with it.

    A text whose values are not all finite counts as wrong: of no class, or like no other text.
    """
    is_finite = np.isfinite(outputs).all(axis=tuple(range(1, outputs.ndim)))
    if not is_finite.any():
        return WORST
    outputs = outputs.copy()
    outputs[~is_finite] = 0
    if held_out.task == EMBEDS:
        return similarity_spearman(held_out.reference, outputs)
    expected, found = held_out.reference.argmax(-1), np.where(is_finite, outputs.argmax(-1), _NO_CLASS)
    if held_out.labels is None:
        return float((expected == found).mean())
    return float((found == held_out.labels).mean() / (expected == held_out.labels).mean())


def _outputs(case: Case, texts: tuple[str, ...]) -> NDArray[Any]:
    with open_bundle(case.bundle) as bundle, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # texts are cut off on purpose
        variant = bundle.manifest.variant(case.variant)
        inputs: Any = open_preprocessor(bundle)
        tensors = inputs(list(texts))
    # The file as it is, whatever its digest: the metric tells what would happen if nobody looked.
    file = case.bundle / next(iter(variant.graphs.values())).file
    engine = case.target.engine(variant)
    with engine.open_session(Path(file), variant.graphs, threads=1) as session:
        outputs = run_samples(session, tensors)
    return np.asarray(next(iter(outputs.values())), np.float64)
