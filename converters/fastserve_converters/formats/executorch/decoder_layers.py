"""Layers of a decoder in operators that XNNPACK has for any number of tokens, so that nothing between them is cut out.

Values have the shape [tokens, width], or [1, tokens, heads, head_dim] as attention wants them. XNNPACK has no mean over
a row and no slice of values of dynamic length, so that sums along rows, and the turned halves of rotary embeddings, are
products with constant matrices. Constants stand in buffers, which are tensors of the program as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from fastserve_converters.formats.executorch.quantized_weights import (
    dequantized,
    embedding_constants,
    linear_constants,
    looked_up,
    rounded_by_token,
)
from fastserve_converters.models.decoder.form import Activation, RmsNorm
from fastserve_converters.models.decoder.reading import gelu_of_tanh
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_runtime.errors import UsageError

_GELU_SLOPE = math.sqrt(8 / math.pi)
_GELU_CUBIC = 0.044715


class _Constants(torch.nn.Module):
    """A module with constants by name."""

    def __init__(self, constants: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        for name, value in constants.items():
            self.register_buffer(name, value.contiguous(), persistent=False)

    def constants(self) -> dict[str, torch.Tensor]:
        """Return them."""
        return dict(self.named_buffers(recurse=False))


class Product(_Constants):
    """A linear layer of floats, or a quantized one that multiplies with values rounded by token.

    Attributes:
        is_integer: whether it is.
    """

    def __init__(self, layer: torch.nn.Linear, weight: QuantizedWeight | None, name: str) -> None:
        """Take a layer's parameters.

        Args:
            layer: the layer.
            weight: its quantized weights; None leaves it in float.
            name: the layer's, for people.

        Raises:
            UsageError: XNNPACK has no kernel for the scheme.
        """
        super().__init__({"weight": layer.weight.detach()} if weight is None else linear_constants(weight, name))
        self.scheme = None if weight is None else weight.scheme
        self.is_integer = weight is not None
        self.bias = None if layer.bias is None else torch.nn.Parameter(layer.bias.detach(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply; `x` is already rounded where the layer is quantized."""
        constants = self.constants()
        weight = constants["weight"] if self.scheme is None else dequantized(_called, constants, self.scheme)
        return functional.linear(x, weight, self.bias)


def products(x: torch.Tensor, *layers: Product) -> tuple[torch.Tensor, ...]:
    """Return what layers make of the same values, which are rounded once for all of them."""
    rounded = rounded_by_token(_called, x) if any(layer.is_integer for layer in layers) else x
    return tuple(layer(rounded if layer.is_integer else x) for layer in layers)


def parts_by_rows(
    layer: torch.nn.Linear, weight: QuantizedWeight | None, name: str, sizes: tuple[int, ...]
) -> list[Product]:
    """Return a linear layer as several, each of which gives so many of its outputs."""
    parts, start = [], 0
    for size in sizes:
        rows = slice(start, start + size)
        part = torch.nn.Linear(layer.in_features, size, bias=layer.bias is not None, device="meta")
        # Copies: the whole storage behind a view would be written.
        part.weight = torch.nn.Parameter(layer.weight.detach()[rows].clone(), requires_grad=False)
        if layer.bias is not None:
            part.bias = torch.nn.Parameter(layer.bias.detach()[rows].clone(), requires_grad=False)
        parts.append(Product(part, None if weight is None else _rows(weight, rows), name))
        start += size
    return parts


class Embedding(_Constants):
    """An embedding of floats or quantized.

    XNNPACK and the kernel of 4-bit tables have two integers to a byte in opposite order. A table that is the head's
    matrix as well is written as XNNPACK has it, so that the bytes are stored once; what is looked up then has each
    pair of columns the other way round, and is turned back.
    """

    def __init__(
        self, values: torch.Tensor, weight: QuantizedWeight | None, name: str, *, is_head: bool = False
    ) -> None:
        """Take a table.

        Args:
            values: float32, shape [entries, width].
            weight: the same, quantized; None leaves it in float.
            name: the layer's, for people.
            is_head: whether XNNPACK multiplies with the same quantized weights.

        Raises:
            UsageError: no kernel has the layout.
        """
        is_swapped = is_head and weight is not None and weight.scheme.bits == 4
        if weight is not None and is_swapped:
            pairs = weight.values.reshape(-1, 2)[:, ::-1]
            weight = replace(weight, values=np.ascontiguousarray(pairs).reshape(weight.values.shape))
        constants = {"weight": values.detach()} if weight is None else embedding_constants(weight, name)
        if is_swapped:
            constants["swap"] = torch.eye(2).flip(0)
        super().__init__(constants)
        self.width, self.is_swapped = values.shape[1], is_swapped
        self.scheme = None if weight is None else weight.scheme

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        """Return rows, shape [indices, width]; indices are int64."""
        constants = self.constants()
        if self.scheme is None:
            rows = functional.embedding(indices, constants["weight"])
        else:
            rows = looked_up(_called, constants, self.scheme, indices)
        if self.is_swapped:
            rows = functional.linear(rows.view(-1, 2), constants["swap"])
        return rows.view(-1, self.width)


class RowNorm(_Constants):
    """RMSNorm or LayerNorm over the last axis."""

    def __init__(self, norm: torch.nn.Module) -> None:
        """Take a norm of the common form.

        Raises:
            UsageError: it is of neither kind.
        """
        if isinstance(norm, RmsNorm):
            epsilon, bias = norm.epsilon, None
        elif isinstance(norm, torch.nn.LayerNorm):
            epsilon, bias = norm.eps, norm.bias
        else:
            raise UsageError(f"The norm '{type(norm).__name__}' is neither LayerNorm nor RMSNorm.")
        width = norm.weight.shape[0]
        super().__init__({"average": torch.full((1, width), 1 / width), "epsilon": torch.tensor([epsilon])})
        self.is_centred = isinstance(norm, torch.nn.LayerNorm)
        self.weight = torch.nn.Parameter(norm.weight.detach(), requires_grad=False)
        self.bias = None if bias is None else torch.nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the same shape."""
        constants = self.constants()
        if self.is_centred:
            x = x - functional.linear(x, constants["average"])
        mean_square = functional.linear(x * x, constants["average"], constants["epsilon"])
        x = x * torch.rsqrt(mean_square) * self.weight
        return x if self.bias is None else x + self.bias


class Rotation(_Constants):
    """Turns heads by positions (arXiv 2104.09864), as `decoder.form.rotated` does."""

    def __init__(self, dims: int, head_dim: int) -> None:
        """Set up.

        Args:
            dims: how many of a head's dimensions are turned; their halves are the pairs.
            head_dim: how many it has.
        """
        half = dims // 2
        turned = torch.zeros(head_dim, head_dim)
        turned[range(half), range(half, dims)] = -1
        turned[range(half, dims), range(half)] = 1
        super().__init__({"turned": turned})

    def forward(self, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        """Turn values of shape [1, tokens, heads, head_dim]; cosine and sine are [tokens, 1, head_dim]."""
        return x * cosine + functional.linear(x, self.constants()["turned"]) * sine


def rotary_table(values: torch.Tensor, head_dim: int, beyond: float) -> torch.Tensor:
    """Return a form's cosines or sines for both halves of a head, and `beyond` for dimensions that are not turned.

    Args:
        values: shape [context, rotary dimensions / 2].
        head_dim: width of the result.
        beyond: 1 for cosines, 0 for sines.
    """
    rest = torch.full((len(values), head_dim - 2 * values.shape[1]), beyond)
    return torch.cat([values, values, rest], 1)


class Cap(_Constants):
    """`cap * tanh(x / cap)` (arXiv 2408.00118)."""

    def __init__(self, cap: float) -> None:
        super().__init__({"inverse": torch.tensor([1 / cap]), "cap": torch.tensor([cap])})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the same shape."""
        constants = self.constants()
        return torch.tanh(x * constants["inverse"]) * constants["cap"]


class Factor(_Constants):
    """Multiplies by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__({"factor": torch.tensor([factor])})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the same shape."""
        return x * self.constants()["factor"]


class _GeluOfTanh(_Constants):
    """As x * sigmoid(2 z) for x * (1 + tanh(z)) / 2: ExecuTorch's XNNPACK takes any GELU for the exact one."""

    def __init__(self) -> None:
        cubic = _GELU_SLOPE * _GELU_CUBIC
        super().__init__({"slope": torch.tensor([_GELU_SLOPE]), "cubic": torch.tensor([cubic])})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        constants = self.constants()
        return x * torch.sigmoid(x * (x * x * constants["cubic"] + constants["slope"]))


class _Plain(torch.nn.Module):
    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self._activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._activation(x)


def activation_layer(activation: Activation) -> torch.nn.Module:
    """Return the layer of an activation of the common form."""
    if activation is gelu_of_tanh:
        return _GeluOfTanh()
    return _Plain(_silu if activation is functional.silu else activation)


def _silu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


def _rows(weight: QuantizedWeight, rows: slice) -> QuantizedWeight:
    return replace(weight, values=weight.values[rows], scale=weight.scale[rows], zero_point=weight.zero_point[rows])


def _called(operator: Any, *arguments: Any, **keywords: Any) -> Any:
    return operator(*arguments, **keywords)
