"""Checking named tensors against a signature before an engine sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.errors import InputError, UsageError
from fastserve_runtime.manifest import Dim, Signature, TensorSpec

if TYPE_CHECKING:
    from fastserve_runtime.session import Tensor, Tensors


def select_graph(graphs: Mapping[str, Signature], graph: str | None) -> str:
    """Return the name of the graph to run.

    Raises:
        UsageError: the name is unknown, or none was given and there are several.
    """
    if graph is None and len(graphs) == 1:
        return next(iter(graphs))
    if graph is None:
        raise UsageError(f"The model has {len(graphs)} graphs.", f"Name one of: {', '.join(graphs)}.")
    if graph not in graphs:
        raise UsageError(f"The model has no graph '{graph}'.", f"It has: {', '.join(graphs)}.")
    return graph


def checked_inputs(signature: Signature, inputs: Tensors) -> dict[str, Tensor]:
    """Return the inputs in the signature's order, contiguous and of its dtypes; copies only what must be.

    Raises:
        InputError: stating what was given and what is wanted.
    """
    wanted = [spec.name for spec in signature.inputs]
    unknown = sorted(set(inputs) - set(wanted))
    missing = [name for name in wanted if name not in inputs]
    if unknown or missing:
        raise InputError(
            f"The inputs given are {', '.join(sorted(inputs)) or 'none'}; the model takes {', '.join(wanted)}.",
            f"{'Add' if missing else 'Leave out'}: {', '.join(missing or unknown)}.",
        )
    return {spec.name: checked_input(spec, inputs[spec.name]) for spec in signature.inputs}


def checked_input(spec: TensorSpec, value: Tensor) -> Tensor:
    """Return one input, contiguous and of the wanted dtype.

    Raises:
        InputError: rank, shape or dtype is wrong.
    """
    try:
        value = np.asarray(value)
    except ValueError as error:
        raise InputError(f"Input '{spec.name}' is not an array: {error}.") from error
    fits = value.ndim == len(spec.dims) and all(_fits(d, n) for d, n in zip(spec.dims, value.shape, strict=True))
    if not fits:
        raise InputError(
            f"Input '{spec.name}' was given with shape {list(value.shape)}; the model takes {describe_dims(spec.dims)}."
        )
    # Not ascontiguousarray: it makes a scalar an array of one dimension.
    return np.asarray(_converted(spec, value), order="C")


def describe_dims(dims: tuple[Dim, ...]) -> str:
    """Write dimensions as `[1, 64]` or `[1, length 1..64]`."""
    texts = [str(d) if isinstance(d, int) else f"{d.symbol} {d.min}..{d.max}" for d in dims]
    return f"[{', '.join(texts)}]"


def _fits(dim: Dim, size: int) -> bool:
    return size == dim if isinstance(dim, int) else dim.min <= size <= dim.max


def _converted(spec: TensorSpec, value: Tensor) -> Tensor:
    try:
        wanted = np.dtype(spec.dtype)
    except TypeError as error:
        raise InputError(f"Input '{spec.name}' is of the type {spec.dtype}, which numpy does not have.") from error
    if value.dtype == wanted:
        return value
    is_number = value.dtype.kind in "biuf"
    narrows_kind = value.dtype.kind == "f" and wanted.kind != "f"
    if not is_number or narrows_kind or wanted.kind not in "biuf":
        raise InputError(f"Input '{spec.name}' was given as {value.dtype}; the model takes {spec.dtype}.")
    # A float may lose digits, never become infinite; checked here, so numpy need not warn.
    with np.errstate(over="ignore"):
        converted = value.astype(wanted)
    is_exact = bool(np.all(converted == value)) if wanted.kind in "iub" else _stays_finite(value, converted)
    if not is_exact:
        raise InputError(
            f"Input '{spec.name}' was given as {value.dtype} with values that {spec.dtype} cannot hold.",
            f"Give {spec.dtype}.",
        )
    return converted


def _stays_finite(value: Tensor, converted: Tensor) -> bool:
    return bool(np.all(np.isfinite(converted) | ~np.isfinite(value)))
