"""Which samples are for evaluation and which for calibration."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastserve_converters.data.samples import Sample

LEAST_EVALUATION = 200
MOST_EVALUATION = 400
MOST_CALIBRATION = 256


@dataclass(frozen=True)
class Split:
    """Samples that never overlap."""

    calibration: tuple[Sample, ...]
    evaluation: tuple[Sample, ...]


def split_samples(samples: Sequence[Sample], seed: int) -> Split:
    """Shuffle by the seed and divide into evaluation and calibration.

    Equal texts count once. Evaluation gets 60 %, but at least 200 where there are so many and at most 400; at least a
    tenth stays for calibration.
    """
    unique = list({sample.text: sample for sample in samples}.values())
    random.Random(seed).shuffle(unique)
    count = len(unique)
    evaluation = min(max(LEAST_EVALUATION, count * 6 // 10), MOST_EVALUATION, count - max(1, count // 10))
    return Split(tuple(unique[evaluation : evaluation + MOST_CALIBRATION]), tuple(unique[:evaluation]))
