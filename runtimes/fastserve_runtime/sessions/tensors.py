"""Checking named tensors against a signature before an engine sees them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from fastserve_runtime.bundle.tensor_specs import Dim, Signature, TensorSpec, describe_dims
from fastserve_runtime.errors import InputError, UsageError

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor, Tensors


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
    if len(inputs) == len(wanted) and all(_is_exact(spec, inputs.get(spec.name)) for spec in signature.inputs):
        return {name: inputs[name] for name in wanted}
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
        InputError: rank, shape or dtype is wrong, or the model takes a type that is not one of numpy's.
    """
    _numpy_type(spec)  # of a list of tensors, or of text, neither shape nor values can be looked at
    try:
        value = np.asarray(value)
    except ValueError as error:
        raise InputError(f"Input '{spec.name}' is not an array: {error}.") from error
    if not _has_shape(spec, value):
        raise InputError(
            f"Input '{spec.name}' was given with shape {list(value.shape)}; the model takes {describe_dims(spec.dims)}."
        )
    # Not ascontiguousarray: it makes a scalar an array of one dimension.
    return np.asarray(_converted(spec, value), order="C")


def _is_exact(spec: TensorSpec, value: Tensor | None) -> bool:
    """Whether a value needs no further look: the check that all calls but careless ones end with, so a quick one."""
    return (
        type(value) is np.ndarray
        and value.dtype == _dtype(spec.dtype)
        and value.flags.c_contiguous
        and value.shape == spec.dims
    )


def _fits(dim: Dim, size: int) -> bool:
    return size == dim if isinstance(dim, int) else dim.takes(size)


def _converted(spec: TensorSpec, value: Tensor) -> Tensor:
    wanted = _numpy_type(spec)
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


def zero_inputs(signature: Signature) -> dict[str, Tensor]:
    """Return zeros for every input; a symbolic dimension has its smallest size, at least 1.

    Raises:
        InputError: an input's type is not one of numpy's.
    """
    shapes = {spec.name: [d if isinstance(d, int) else max(d.min, 1) for d in spec.dims] for spec in signature.inputs}
    return {spec.name: np.zeros(shapes[spec.name], _numpy_type(spec)) for spec in signature.inputs}


def zero_buffers(signature: Signature, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return zeros of these shapes for some inputs.

    Raises:
        InputError: a shape does not fit its input, or belongs to none.
    """
    check_shapes(signature, shapes)
    return {s.name: np.zeros(shapes[s.name], _numpy_type(s)) for s in signature.inputs if s.name in shapes}


def check_shapes(signature: Signature, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse shapes that inputs cannot have.

    Raises:
        InputError: a shape does not fit its input, or belongs to none.
    """
    _refuse_unknown("Input", signature.inputs, shapes)
    for spec in signature.inputs:
        shape = shapes.get(spec.name)
        if shape is not None and not _is_shape(spec, shape):
            raise InputError(
                f"Input '{spec.name}' was given the shape {list(shape)}; the model takes {describe_dims(spec.dims)}."
            )


def bound_buffers(
    signature: Signature, inputs: Tensors, outputs: Tensors
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return an array for every input and every output: those given, and new ones where the shape is known.

    Raises:
        InputError: an array does not fit exactly, or one is missing whose shape is not fixed.
    """
    sizes: dict[str, int] = {}
    read = _buffers("Input", signature.inputs, inputs, sizes)
    return read, _buffers("Output", signature.outputs, outputs, sizes)


def check_buffers(signature: Signature, inputs: Tensors) -> None:
    """Refuse arrays that a binding cannot read some inputs from.

    Raises:
        InputError: one does not fit exactly, or belongs to no input.
    """
    specs = tuple(spec for spec in signature.inputs if spec.name in inputs)
    _refuse_unknown("Input", signature.inputs, inputs)
    for spec in specs:
        _check_buffer("Input", spec, inputs[spec.name])


def _refuse_unknown(kind: str, specs: tuple[TensorSpec, ...], given: Mapping[str, object]) -> None:
    unknown = sorted(set(given) - {spec.name for spec in specs})
    if unknown:
        raise InputError(f"{kind} '{unknown[0]}' was given; the graph has {', '.join(s.name for s in specs)}.")


def _buffers(kind: str, specs: tuple[TensorSpec, ...], given: Tensors, sizes: dict[str, int]) -> dict[str, Tensor]:
    _refuse_unknown(kind, specs, given)
    for spec in specs:
        if spec.name in given:
            _check_buffer(kind, spec, given[spec.name])
            symbols = zip(spec.dims, given[spec.name].shape, strict=True)
            sizes.update({d.symbol: n for d, n in symbols if not isinstance(d, int)})
    return {spec.name: given[spec.name] if spec.name in given else _new_buffer(kind, spec, sizes) for spec in specs}


def _check_buffer(kind: str, spec: TensorSpec, value: Tensor) -> None:
    is_array = isinstance(value, np.ndarray)
    if not is_array or value.dtype != _numpy_type(spec) or not value.flags.c_contiguous or not _has_shape(spec, value):
        given = f"{value.dtype} with shape {list(value.shape)}" if is_array else type(value).__name__
        wanted = f"a contiguous array of {spec.dtype} with shape {describe_dims(spec.dims)}"
        scattered = ", not contiguous" if is_array and not value.flags.c_contiguous else ""
        raise InputError(f"{kind} '{spec.name}' was given as {given}{scattered}; a binding takes {wanted}.")
    if kind == "Output" and not value.flags.writeable:
        raise InputError(f"Output '{spec.name}' was given as a read-only array; a binding writes to it.")


def _new_buffer(kind: str, spec: TensorSpec, sizes: Mapping[str, int]) -> Tensor:
    shape = [d if isinstance(d, int) else sizes.get(d.symbol, -1) for d in spec.dims]
    if -1 in shape:
        raise InputError(
            f"{kind} '{spec.name}' has the shape {describe_dims(spec.dims)}, which is not fixed.",
            "Give an array for it.",
        )
    return np.zeros(shape, _numpy_type(spec))


def _has_shape(spec: TensorSpec, value: Tensor) -> bool:
    return _is_shape(spec, value.shape)


def _is_shape(spec: TensorSpec, shape: tuple[int, ...]) -> bool:
    return len(shape) == len(spec.dims) and all(_fits(d, n) for d, n in zip(spec.dims, shape, strict=True))


def _numpy_type(spec: TensorSpec) -> np.dtype[np.generic]:
    found = _dtype(spec.dtype)
    if found is None:
        raise InputError(f"'{spec.name}' is of the type {spec.dtype}, which numpy does not have.")
    return found


@cache
def _dtype(name: str) -> np.dtype[np.generic] | None:
    try:
        return np.dtype(name)
    except TypeError:
        return None
