"""Quantized weights in groups of columns, as GPTQ, AWQ and compressed-tensors store them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class GroupedWeight:
    """A weight matrix of a linear layer, [outputs, inputs]: real = (integer - zero) x scale.

    Attributes:
        values: shape [rows, columns], counted from 0.
        scale: float32, shape [rows, groups].
        zero: of the same kind as `values`, shape [rows, groups].
        group_of: the group of each column, shape [columns].
        bits: of one integer.
    """

    values: NDArray[np.uint8]
    scale: NDArray[np.float32]
    zero: NDArray[np.uint8]
    group_of: NDArray[np.intp]
    bits: int

    def dequantized(self) -> NDArray[np.float32]:
        """Return the reals that the quantized weights stand for, float32, shape [rows, columns]."""
        distance = self.values.astype(np.float32) - self.zero.astype(np.float32)[:, self.group_of]
        return distance * self.scale[:, self.group_of]


def groups_of(columns: int, groups: int, size: int | None) -> NDArray[np.intp]:
    """Return the group of each column, where groups are neighbours; all of one size but perhaps the last.

    Raises:
        ValueError: they are not as many as the size makes of the columns.
    """
    size = columns if size is None or size <= 0 else size
    if -(-columns // size) != groups:
        raise ValueError(f"{columns} columns in groups of {size} were given {groups} scales")
    return np.arange(columns) // size


def unpacked(words: NDArray[np.int32], bits: int, count: int) -> NDArray[np.uint8]:
    """Return the integers that rows of words hold, one behind the other from the lowest bit, shape [rows, count].

    Args:
        words: shape [rows, words].
        bits: of one integer, which may lie across two words.
        count: so many are in a row.

    Raises:
        ValueError: the words are not as many as so many integers take.
    """
    rows, width = words.shape
    if width != -(-count * bits // 32):
        raise ValueError(f"{count} integers of {bits} bits were given {width} words of 32 bits")
    stored = np.ascontiguousarray(words, "<i4").view(np.uint8).reshape(rows, -1)
    if bits == 8:
        return stored[:, :count]
    if bits == 4:
        return np.stack([stored & 0x0F, stored >> 4], axis=-1).reshape(rows, -1)[:, :count]
    single = np.unpackbits(stored, axis=1, count=count * bits, bitorder="little").reshape(rows, count, bits)
    return np.packbits(single, axis=-1, bitorder="little")[..., 0]
