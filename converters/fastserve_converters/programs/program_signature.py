"""The named inputs and outputs of a program, from its archive alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastserve_converters.programs.archive import ProgramArchive
from fastserve_converters.programs.sizes import Bounds, bounds_of, dim_of_size
from fastserve_runtime.bundle.axes import AXIS_NAME, BATCH, is_valid, numbered_axes
from fastserve_runtime.bundle.tensor_specs import UNBOUNDED, Signature, SymbolicDim, TensorSpec, describe_dims
from fastserve_runtime.errors import UsageError

DTYPES: Mapping[int, str] = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 12: "bool",
    13: "bfloat16", 28: "uint16", 34: "uint32", 35: "uint64",
}  # fmt: skip
"""Code of `torch._export.serde.schema.ScalarType` → numpy's name."""
TAKEN_DTYPES = ("float32", "int32", "int64", "bool", "uint8", "int8")
"""What inputs may be of: types that all three formats have."""
OUTPUT = "output"
_OF_VALUES = re.compile(r"Symbol\('u\d+'")
"""A size that `torch.export` learns only when the program runs; those of open axes are called `s0`, `s1`."""
_VIEWS = {
    "alias", "as_strided", "detach", "diagonal", "expand", "flatten", "narrow", "permute", "reshape", "select", "slice",
    "squeeze", "t", "transpose", "unflatten", "unsqueeze", "view", "view_as",
}  # fmt: skip


def signature_of_program(archive: ProgramArchive) -> Signature:
    """Return what a program takes and gives, with names for all axes.

    Raises:
        UsageError: an input is no tensor, is of a type or a shape that no format takes, or the program keeps state.
    """
    module = archive.document["graph_module"]
    values, bounds = module["graph"]["tensor_values"], bounds_of(archive.document)
    names = _user_inputs(module)
    _check_stateless(module)
    outputs = dict(zip(_output_names(module), _user_outputs(module), strict=True))
    axes = archive.description.get("axes", {})
    unknown = sorted(set(axes) - set(names) - set(outputs))
    if unknown:
        raise UsageError(
            f"Axes were named of '{unknown[0]}', which the program has not.",
            f"It has {', '.join([*names, *outputs])}.",
        )
    inputs = [_spec(name, values[name], bounds, axes.get(name)) for name in names]
    for spec in inputs:
        _check_input(spec)
    for name, value in outputs.items():
        _check_output(name, values[value])
    found = tuple(_spec(name, values[value], bounds, axes.get(name)) for name, value in outputs.items())
    symbols = _symbol_names(inputs)
    return Signature(
        tuple(_with_symbols(spec, symbols) for spec in inputs),
        tuple(_with_symbols(spec, symbols) for spec in _renamed(found, inputs)),
    )


def _symbol_names(inputs: Sequence[TensorSpec]) -> dict[str, str]:
    """Return what open dimensions are called: as the first axis that has each, where no other has that name."""
    names: dict[str, str] = {}
    for spec in inputs:
        for axis, dim in zip(spec.axes, spec.dims, strict=True):
            if isinstance(dim, SymbolicDim) and dim.symbol not in names:
                names[dim.symbol] = axis if axis not in names.values() else f"{axis}_of_{spec.name}"
    return names


def _with_symbols(spec: TensorSpec, names: Mapping[str, str]) -> TensorSpec:
    dims = (d if isinstance(d, int) else replace(d, symbol=names.get(d.symbol, d.symbol)) for d in spec.dims)
    return replace(spec, dims=tuple(dims))


def _user_inputs(module: Mapping[str, Any]) -> list[str]:
    names = []
    for spec in module["signature"]["input_specs"]:
        is_tensor = "as_tensor" in spec.get("user_input", {}).get("arg", {})
        if "constant_input" in spec or ("user_input" in spec and not is_tensor):
            raise UsageError(
                "The program takes a number, a text or nothing in the place of a tensor.",
                "Fix it inside the module, or make it a tensor.",
            )
        if is_tensor:
            names.append(str(spec["user_input"]["arg"]["as_tensor"]["name"]))
    if not names:
        raise UsageError("The program takes no tensor.", "Export a module whose forward has inputs.")
    return names


def _user_outputs(module: Mapping[str, Any]) -> list[str]:
    names = []
    for spec in module["signature"]["output_specs"]:
        if "user_output" in spec:
            argument = spec["user_output"]["arg"]
            if "as_tensor" not in argument:
                raise UsageError(
                    "The program gives a number or nothing in the place of a tensor.", "Let it give tensors alone."
                )
            names.append(str(argument["as_tensor"]["name"]))
        elif "buffer_mutation" in spec or "user_input_mutation" in spec:
            raise _stateful()
    return names


def _check_stateless(module: Mapping[str, Any]) -> None:
    """Refuse a program that writes into its buffers, weights or inputs, or into views of them."""
    kept = {str(a["as_tensor"]["name"]) for a in module["graph"]["inputs"] if "as_tensor" in a}
    for node in module["graph"]["nodes"]:
        operator = str(node["target"]).removeprefix("torch.ops.aten.").partition(".")[0]
        first = node["inputs"][0]["arg"].get("as_tensor", {}).get("name") if node["inputs"] else None
        if first not in kept:
            continue
        if operator in _VIEWS:
            kept.update(str(o["as_tensor"]["name"]) for o in node["outputs"] if "as_tensor" in o)
        elif operator.endswith("_") and not operator.endswith("__"):
            raise _stateful()


def _stateful() -> UsageError:
    return UsageError(
        "The program changes a buffer or an input of its own: it keeps state between calls.",
        "Give the state in and out as tensors.",
    )


def _output_names(module: Mapping[str, Any]) -> list[str]:
    """Return names for outputs: their keys and fields, `output_0`, … in a tuple, and `output` for one alone."""
    call = module["module_call_graph"][0]["signature"]
    _, tree = json.loads(call["out_spec"])
    return ["_".join(path) if path else OUTPUT for path in _paths(tree, ())]


def _paths(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if tree["type"] is None:
        yield path
        return
    keys = json.loads(tree["context"]) if tree["type"].endswith(("dict", "OrderedDict")) else None
    for number, child in enumerate(tree["children_spec"]):
        key = str(keys[number]) if isinstance(keys, list) and number < len(keys) else str(number)
        own = (*path, key) if path or keys is not None else (OUTPUT, key)
        yield from _paths(child, own)


def _spec(name: str, value: Mapping[str, Any], bounds: Bounds, axes: Sequence[str] | None) -> TensorSpec:
    dims = tuple(dim_of_size(size, bounds) for size in value["sizes"])
    if axes is not None and (len(axes) != len(dims) or not is_valid(axes)):
        raise UsageError(
            f"'{name}' has the shape {describe_dims(dims)} and was given the axes {', '.join(axes)}.",
            f"Give each dimension a name of its own, such as {BATCH}.",
        )
    has_batch = bool(dims) and (dims[0] == 1 or not isinstance(dims[0], int))
    given = tuple(axes) if axes is not None else numbered_axes(dims, BATCH if has_batch else None)
    return TensorSpec(name, DTYPES.get(int(value["dtype"]), "unknown"), dims, given)


def _check_input(spec: TensorSpec) -> None:
    if spec.dtype not in TAKEN_DTYPES:
        raise UsageError(
            f"The input '{spec.name}' is of the type {spec.dtype}; models are exported for {', '.join(TAKEN_DTYPES)}.",
            "Convert it inside the module.",
        )
    for axis, dim in zip(spec.axes, spec.dims, strict=True):
        if isinstance(dim, SymbolicDim) and dim.max >= UNBOUNDED // dim.step:
            raise UsageError(
                f"The axis '{axis}' of the input '{spec.name}' is open without an upper bound.",
                f"Say how large it may be when it is exported, such as torch.export.Dim('{axis}', max=512).",
            )
        if isinstance(dim, SymbolicDim) and dim.symbol.startswith("of_"):
            raise UsageError(
                f"The axis '{axis}' of the input '{spec.name}' is worked out from others.",
                "Leave axes open by themselves or as a multiple, such as 4 * torch.export.Dim('height').",
            )


def _check_output(name: str, value: Mapping[str, Any]) -> None:
    """Refuse an output whose size is known only after the model ran, as that of `torch.nonzero`."""
    sizes = [str(size.get("as_expr", {}).get("expr_str", "")) for size in value["sizes"]]
    if any(_OF_VALUES.search(size) for size in sizes):
        raise UsageError(
            f"The output '{name}' has a size that depends on the values of the inputs.",
            "Give an output of a fixed size, such as a mask, or the best k by torch.topk.",
        )


def _renamed(outputs: tuple[TensorSpec, ...], inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return outputs whose names differ from the inputs', as formats want it."""
    taken = {spec.name for spec in inputs}
    found: list[TensorSpec] = []
    for spec in outputs:
        name = spec.name if AXIS_NAME.fullmatch(spec.name) else f"{OUTPUT}_{len(found)}"
        while name in taken:
            name = f"{name}_out"
        taken.add(name)
        found.append(TensorSpec(name, spec.dtype, spec.dims, spec.axes))
    return tuple(found)
