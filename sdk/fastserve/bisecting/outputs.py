"""What the golden says of a search's outputs: those of the shipped file, and those of the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastserve_device_tests.suite.recording import Recording
from fastserve_runtime.bundle.golden import Golden
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.conformance.metrics import sqnr_db
from fastserve_runtime.conformance.recorded_samples import OUTPUT, sample_file, sample_files
from fastserve_runtime.conformance.verification import judge_golden
from fastserve_runtime.generation import traces
from fastserve_runtime.generation.shared_cache import LOGITS

Array: TypeAlias = NDArray[Any]

MIN_REFERENCE_SQNR_DB = 60.0
"""Between what the bundle's golden says of the reference and what the named model gives."""


def reference_note(golden: Golden, trace: Path, distinct: int) -> str | None:
    """Compare what the model gives with what the golden says of it.

    Args:
        golden: of the variant.
        trace: a folder with what the model gives on each sample.
        distinct: how many samples were run, without those that keep their padding.

    Returns:
        A sentence where they differ, else None.
    """
    ratios = []
    for number in range(min(distinct, len(golden.texts))):
        with np.load(sample_file(trace, number), allow_pickle=False) as sample:
            ratios += [
                sqnr_db(np.asarray(told, np.float64), np.asarray(given, np.float64))
                for told, given in _told_and_given(golden, number, sample)
            ]
    if ratios and min(ratios) < MIN_REFERENCE_SQNR_DB:
        return (
            f"The reference gives other outputs than the bundle's golden says (SQNR {min(ratios):.1f} dB): it is "
            "another model, or its libraries compute it in another way."
        )
    return None


def _told_and_given(golden: Golden, number: int, sample: Mapping[str, Array]) -> Iterator[tuple[Array, Array]]:
    """Yield what the golden says of a sample's outputs with what the model gives; of a trace, behind its last token."""
    if traces.PROMPT in golden.inputs:
        rows = {name: value[number : number + 1] for name, value in golden.inputs.items()}
        (trace,) = traces.traces(rows)
        position = len(traces.fed_at_once(trace)) - 1
        if position < rows[traces.SCORED].shape[1] and rows[traces.SCORED][0, position]:
            outputs = traces.empty_outputs(rows)
            traces.record(outputs, 0, position, np.asarray(sample[f"{OUTPUT}{LOGITS}"], np.float32)[0, -1], trace)
            for name, values in outputs.items():
                yield golden.reference[name][number, position], values[0, position]
        return
    for name, expected in golden.reference.items():
        actual = sample[f"{OUTPUT}{name}"]
        yield expected[number : number + 1][tuple(slice(d) for d in actual.shape)], actual


def wrong_outputs(
    task: str, variant: Variant, target: str, golden: Golden, plain: Recording, distinct: int
) -> Iterator[str]:
    """Judge the outputs of the shipped file on the golden samples as the suite does; yield what is wrong in sentences.

    Args:
        task: of the bundle.
        variant: which was run, of the precision that the target computes it in.
        target: where it ran.
        golden: of the variant.
        plain: what it gave.
        distinct: how many samples were run, without those that keep their padding; nothing is judged where these are
            fewer than the golden's.
    """
    total = len(golden.texts)
    if distinct < total:
        return
    files = sample_files(plain.folder)
    outputs = {}
    for name, expected in golden.reference.items():
        rows = []
        for number in range(total):
            with np.load(files[number], allow_pickle=False) as sample:
                value = sample[f"{OUTPUT}{name}"]
            behind = [(0, full - own) for full, own in zip(expected.shape[1:], value.shape[1:], strict=True)]
            rows.append(np.pad(value, [(0, 0), *behind]))
        outputs[name] = np.concatenate(rows)
    for verdict in judge_golden(task, variant, golden, outputs, target):
        if verdict.outcome.is_failure:
            yield f"{verdict.check}: {verdict.message}"
