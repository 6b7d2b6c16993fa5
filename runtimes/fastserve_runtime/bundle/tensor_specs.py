"""What a graph takes and gives: named tensors, with a type, dimensions, and names for these."""

from __future__ import annotations

from dataclasses import dataclass

UNBOUNDED = 2**31 - 1
"""The upper bound of a symbolic dimension of which nothing is known."""


@dataclass(frozen=True)
class SymbolicDim:
    """A dimension that is chosen when the model runs, between two bounds (both included), as a multiple of its step."""

    symbol: str
    min: int
    max: int
    step: int = 1

    def takes(self, size: int) -> bool:
        """Whether the dimension may be of that size."""
        return self.min <= size <= self.max and size % self.step == 0


Dim = int | SymbolicDim


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype name and dimensions of an input, an output or a state tensor.

    Attributes:
        axes: what each dimension is called, such as `batch` or `tokens`; empty where nobody tells. See `bundle.axes`.
        has_known_dims: whether `dims` say anything; not of a tensor inside a model that is given out to be looked at.
    """

    name: str
    dtype: str
    dims: tuple[Dim, ...]
    axes: tuple[str, ...] = ()
    has_known_dims: bool = True


@dataclass(frozen=True)
class Signature:
    """The named inputs and outputs of one graph, in the order of the model file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def describe_dims(dims: tuple[Dim, ...]) -> str:
    """Write dimensions as `[1, 64]` or `[1, length 1..64]`."""
    return f"[{', '.join(map(_described_dim, dims))}]"


def _described_dim(dim: Dim) -> str:
    if isinstance(dim, int):
        return str(dim)
    steps = "" if dim.step == 1 else f" in steps of {dim.step}"
    return f"{dim.symbol} {dim.min}..{dim.max}{steps}"


def bounds(dim: Dim) -> tuple[int, int]:
    """Return the least and the most that a dimension may be."""
    return (dim, dim) if isinstance(dim, int) else (dim.min, dim.max)
