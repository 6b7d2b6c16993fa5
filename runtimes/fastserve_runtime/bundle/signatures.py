"""Reading and writing what a manifest says of a graph's inputs and outputs, and holding it against a model file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastserve_runtime.bundle.axes import is_valid, named
from fastserve_runtime.bundle.tensor_specs import Dim, Signature, SymbolicDim, TensorSpec, bounds, describe_dims
from fastserve_runtime.errors import BundleError
from fastserve_runtime.parsing import Fields

_MISSTATED_REMEDY = "Export the bundle again, or get it from where it was made."


def signature_document(signature: Signature) -> dict[str, Any]:
    """Return a signature as JSON; `parse_signature` reads it back."""
    return {
        "inputs": [tensor_document(t) for t in signature.inputs],
        "outputs": [tensor_document(t) for t in signature.outputs],
    }


def tensor_document(tensor: TensorSpec) -> dict[str, Any]:
    """Return a tensor's JSON fields."""
    document = {"name": tensor.name, "dtype": tensor.dtype, "dims": [_dim_document(d) for d in tensor.dims]}
    return {**document, "axes": list(tensor.axes)} if len(tensor.axes) == len(tensor.dims) else document


def _dim_document(dim: Dim) -> Any:
    if not isinstance(dim, SymbolicDim):
        return dim
    return {name: value for name, value in asdict(dim).items() if name != "step" or value != 1}


def parse_signature(fields: Fields) -> Signature:
    """Read the inputs and outputs of a graph; known tensors get names for their axes, where they are not told."""
    return named(
        Signature(
            tuple(parse_tensor(t) for t in fields.list_of_objects("inputs")),
            tuple(parse_tensor(t) for t in fields.list_of_objects("outputs")),
        )
    )


def check_stated(stated: Signature, found: Signature) -> None:
    """Compare what a manifest says of a graph with what the model file itself says, as far as both do.

    Raises:
        BundleError: the file has no such input or output, or has it with another type or other dimensions.
    """
    for kind, ours, own in (("input", stated.inputs, found.inputs), ("output", stated.outputs, found.outputs)):
        tensors = {tensor.name: tensor for tensor in own}
        for tensor in ours:
            other = tensors.get(tensor.name)
            if other is None:
                raise _misstated(kind, tensor, f"the model has {', '.join(tensors) or 'none':.200}")
            if not tensor.has_known_dims:
                continue
            is_same = tensor.dtype == other.dtype and len(tensor.dims) == len(other.dims)
            if not is_same or not all(map(_may_be_one, tensor.dims, other.dims)):
                raise _misstated(kind, tensor, f"the model has {other.dtype} {describe_dims(other.dims):.200}")
    names = {tensor.name for tensor in stated.inputs}
    for tensor in found.inputs:
        if tensor.name not in names:
            raise BundleError(
                f"manifest.json leaves out the input '{tensor.name:.80}', which the model has.", _MISSTATED_REMEDY
            )


def _may_be_one(stated: Dim, found: Dim) -> bool:
    (minimum, maximum), (other_min, other_max) = bounds(stated), bounds(found)
    return max(minimum, other_min) <= min(maximum, other_max)


def _misstated(kind: str, tensor: TensorSpec, instead: str) -> BundleError:
    stated = f"{tensor.dtype} {describe_dims(tensor.dims):.200}"
    return BundleError(
        f"manifest.json gives the model the {kind} '{tensor.name:.80}', {stated}; {instead}.", _MISSTATED_REMEDY
    )


def parse_tensor(fields: Fields) -> TensorSpec:
    """Read a tensor.

    Raises:
        BundleError: it lacks a field, a field has the wrong type, or its axes are not those of its dimensions.
    """
    name, dims = fields.text("name"), tuple(_dim(d, fields) for d in fields.list("dims"))
    axes = fields.texts("axes") if fields.has("axes") else ()
    if axes and (len(axes) != len(dims) or not is_valid(axes)):
        raise BundleError(
            f"manifest.json gives '{name:.80}', {describe_dims(dims):.200}, the axes {', '.join(axes):.200}; each "
            "dimension has one of its own.",
            _MISSTATED_REMEDY,
        )
    return TensorSpec(name, fields.text("dtype"), dims, axes)


def _dim(value: Any, fields: Fields) -> Dim:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, dict):
        dim = Fields(value, f"{fields.where}.dims")
        step = dim.count("step") if dim.has("step") else 1
        return SymbolicDim(dim.text("symbol"), dim.count("min"), dim.count("max"), step)
    raise BundleError(f"{fields.where} has the dimension {value!r}, which is neither a size nor a symbol with bounds.")
