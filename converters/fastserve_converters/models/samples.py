"""Real inputs of a model: samples along the first axis of every array, texts among them padded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fastserve_runtime.sessions.lengths import MASK, own_tokens

Value = TypeVar("Value", bound=np.generic)

Samples = Mapping[str, NDArray[np.generic]]
"""Inputs by name, shape [samples, ...]. Those of texts are `input_ids` (int32), `attention_mask` (float32) and where a
model takes it `token_type_ids` (int32), all of shape [samples, length], padded."""


def single_samples(samples: Samples, *, min_tokens: int | None = None) -> Iterator[dict[str, NDArray[np.generic]]]:
    """Give the samples one by one, shape [1, ...].

    Args:
        samples: all of them.
        min_tokens: cut texts to their own tokens, but that many; None leaves the padding, as does a model without
            a mask.
    """
    is_cut = min_tokens is not None and MASK in samples
    ends = [max(int(own), min_tokens or 0) for own in own_tokens(samples)] if is_cut else None
    for row in range(count(samples)):
        end = None if ends is None else ends[row]
        yield {name: _rows(value[row : row + 1], end) for name, value in samples.items()}


def batches(samples: Samples, size: int) -> Iterator[dict[str, NDArray[np.generic]]]:
    """Give batches of the samples in the order of `batch_order`, texts cut to the longest of each."""
    order = batch_order(samples)
    lengths = own_tokens(samples) if MASK in samples else None
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        end = None if lengths is None else int(lengths[rows].max())
        yield {name: _rows(value[rows], end) for name, value in samples.items()}


def batch_order(samples: Samples) -> NDArray[np.intp]:
    """Return the order in which samples go into batches: texts of like length together, others as they come."""
    if MASK not in samples:
        return np.arange(count(samples))
    return np.argsort(own_tokens(samples), kind="stable")


def first(samples: Mapping[str, NDArray[Value]], count: int) -> dict[str, NDArray[Value]]:
    """Return the first so many samples, or all where there are fewer."""
    return {name: value[:count] for name, value in samples.items()}


def read_samples_file(file: Path) -> dict[str, NDArray[np.generic]]:
    """Read an `.npz` file of arrays by name, without pickles."""
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def count(samples: Samples) -> int:
    """Return how many samples there are; 0 of no inputs."""
    return len(next(iter(samples.values()), ()))


def _rows(value: NDArray[np.generic], end: int | None) -> NDArray[np.generic]:
    return np.ascontiguousarray(value if end is None else value[:, :end])
