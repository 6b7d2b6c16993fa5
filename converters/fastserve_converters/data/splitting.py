"""Which samples are for evaluation and which for calibration."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from fastserve_converters.data.samples import MIN_EVALUATION, Sample

MAX_EVALUATION = 400
MAX_CALIBRATION = 256


@dataclass(frozen=True)
class Split:
    """Samples that never overlap."""

    calibration: tuple[Sample, ...]
    evaluation: tuple[Sample, ...]


def split_samples(samples: Sequence[Sample], seed: int, *, by_query: bool = False) -> Split:
    """Shuffle by the seed and divide into evaluation and calibration.

    Equal texts count once. Evaluation gets 60 %, but at least 200 where there are so many and at most 400; at least a
    tenth stays for calibration.

    Args:
        samples: all of them.
        seed: of the shuffling.
        by_query: keep pairs with the same first text, a query's documents, together and side by side.
    """
    unique = list({sample.content: sample for sample in samples}.values())
    random.Random(seed).shuffle(unique)
    count = len(unique)
    evaluation = min(max(MIN_EVALUATION, count * 6 // 10), MAX_EVALUATION, count - max(1, count // 10))
    if by_query:
        unique, evaluation = _by_query(unique, evaluation)
    return Split(tuple(unique[evaluation : evaluation + MAX_CALIBRATION]), tuple(unique[:evaluation]))


def _by_query(samples: Sequence[Sample], wanted: int) -> tuple[list[Sample], int]:
    """Return the samples with each query's side by side, and how many of whole queries come nearest to those wanted.

    Where no such number leaves both sides something, a query is divided.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.text, []).append(sample)
    ends = list(accumulate(len(group) for group in groups.values()))
    whole = [end for end in ends[:-1] if end <= MAX_EVALUATION]
    joined = [sample for group in groups.values() for sample in group]
    return joined, min(whole, key=lambda end: abs(end - wanted), default=wanted)
