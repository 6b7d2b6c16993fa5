"""A model file as a transformer network whose numbers and operators can be changed, whatever its format.

Modules are named by the end of their torch name: `layer.3.output.dense`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Matrix:
    """A linear layer.

    Attributes:
        values: floats or int8, shape [outputs, inputs].
        scale: one for each output, shape [outputs]; None for floats.
        bias: shape [outputs].
    """

    values: NDArray[Any]
    scale: Floats | None
    bias: Floats


@dataclass(frozen=True)
class Table:
    """An embedding.

    Attributes:
        values: floats or int8, shape [rows, width].
        scale: one for each row, shape [rows]; None for floats.
    """

    values: NDArray[Any]
    scale: Floats | None


@dataclass(frozen=True)
class Norm:
    """A layer norm: gamma and beta, shape [width], and what is added to the variance."""

    gamma: Floats
    beta: Floats
    epsilon: float


class Operators(Protocol):
    """Operators that can be added to a graph; tensors are by name or index, as the format has them."""

    def constant(self, values: NDArray[np.floating] | float) -> Any:
        """Return a constant."""

    def elementwise(self, name: str, left: Any, right: Any) -> Any:
        """Return `left` combined with `right`, which is spread over it: add, subtract, multiply or minimum."""

    def function(self, name: str, value: Any) -> Any:
        """Return a function of each value: tanh, sigmoid or rsqrt."""

    def mean(self, value: Any) -> Any:
        """Return the mean over the last axis, which stays with size 1."""

    def to_half_and_back(self, value: Any) -> Any:
        """Return values as fp16 has them; what is above 65504 is infinite."""

    def softmax(self, value: Any) -> Any:
        """Return the softmax over the last axis."""

    def transpose(self, value: Any, rank: int) -> Any:
        """Return a value with its last two axes exchanged, which have the same size."""

    def linear(self, value: Any, matrix: Floats) -> Any:
        """Return `value @ matrix`; the matrix is square."""


class Network(Protocol):
    """An opened model file. What it does not have raises `NotHere`.

    Attributes:
        layers: number of transformer layers.
        heads: number of heads.
    """

    layers: int
    heads: int

    def matrix(self, module: str) -> Matrix:
        """Return a linear layer."""

    def put_matrix(self, module: str, matrix: Matrix) -> None:
        """Replace a linear layer's numbers."""

    def table(self) -> Table:
        """Return the embedding of words."""

    def put_table(self, table: Table) -> None:
        """Replace it."""

    def rows(self, kind: str) -> Floats:
        """Return the rows that are added for `position`, shape [length, width], or `token_type`, shape [1, width]."""

    def put_rows(self, kind: str, rows: Floats) -> None:
        """Replace them."""

    def norm(self, module: str) -> Norm:
        """Return a layer norm."""

    def put_norm(self, module: str, norm: Norm) -> None:
        """Replace a layer norm's numbers, of this one alone."""

    def penalty(self) -> float:
        """Return what is added to the attention scores of padding."""

    def put_penalty(self, value: float) -> None:
        """Replace it."""

    def gelu(self, layer: int) -> tuple[Any, Any]:
        """Return the tensors before and behind a layer's GELU."""

    def residual(self, layer: int) -> tuple[Any, Any]:
        """Return a layer's last residual, and the sum that takes it in."""

    def context(self, layer: int) -> Any:
        """Return what a layer's attention gives, before the dense layer."""

    def scores(self, layer: int) -> tuple[Any, Any]:
        """Return a layer's attention scores before the mask is added, and the softmax of those with the mask."""

    def pooling(self) -> tuple[Any, Any, Any]:
        """Return the mask as pooling uses it, the pooled vector before it is normalised, and the output."""

    def norm_tensors(self, module: str) -> tuple[Any, Any]:
        """Return the tensors before and behind a layer norm."""

    def divert(self, tensor: Any, make: Callable[[Operators, Any], Any]) -> None:
        """Let everything that reads a tensor read another one, which is made of it.

        Args:
            tensor: which one. It keeps its name, so that all else in the graph and outside stays.
            make: gets operators and the tensor as it was; returns what it becomes.
        """

    def save(self, path: Path) -> None:
        """Write the file."""


def blend(network: Network, tensor: Any, strength: float, make: Callable[[Operators, Any], Any]) -> None:
    """Mix a wrong tensor into a right one: right + strength · (wrong - right)."""

    def mixed(operators: Operators, right: Any) -> Any:
        wrong = make(operators, right)
        difference = operators.elementwise("subtract", wrong, right)
        share = operators.elementwise("multiply", difference, operators.constant(strength))
        return operators.elementwise("add", right, share)

    network.divert(tensor, mixed)
