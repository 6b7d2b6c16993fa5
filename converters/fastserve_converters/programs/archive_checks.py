"""What no program may hold: anything that loading or tracing it would run which is not an operator of PyTorch.

`torch.export.load` (2.13) takes functions by name from the modules `torch`, `operator` and `math`, reads the sizes of
symbolic shapes with `sympify`, which is `eval`, unpickles weights and constants without `weights_only`, falls back to
that for the example inputs, loads compiled libraries, and leaves source code of guards to be compiled. Each is held to
a list here; what is not on it is an error that names it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fastserve_runtime.errors import UsageError

_MODEL = "models/model.json"
_KEPT = re.compile(
    r"archive_format|archive_version|version|byteorder|\.data/version|\.data/serialization_id|\.format_version"
    r"|\.storage_alignment|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/(weights|constants)/(model_(weights|constants)_config\.json|(weight|tensor)_\d+)|extra/.*"
)
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_OPERATORS = re.compile(r"torch\.ops\.(aten|prims|higher_order)\.[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
_OF_FILES = {"torch.ops.aten.from_file.default", "torch.ops.aten.from_file.out"}
_HIGHER_ORDER = {"cond", "while_loop", "wrap_with_set_grad_enabled", "wrap_with_autocast", "map_impl", "scan"}
_ARITHMETIC = {
    "add", "and_", "eq", "floordiv", "ge", "getitem", "gt", "le", "lt", "mod", "mul", "ne", "neg", "not_", "or_", "pos",
    "pow", "sub", "truediv",
}  # fmt: skip
_OF_SIZES = {
    "torch.sym_float", "torch.sym_int", "torch.sym_ite", "torch.sym_max", "torch.sym_min", "torch.sym_not",
    "torch._sym_sqrt", "math.ceil", "math.floor", "math.trunc",
}  # fmt: skip
_FUNCTIONS = {
    "Symbol", "Integer", "Rational", "Float", "Mul", "Add", "Pow", "Max", "Min", "Mod", "PythonMod", "FloorDiv",
    "CeilDiv", "CleanDiv", "ModularIndexing", "IntTrueDiv", "FloatTrueDiv", "Eq", "Ne", "Equality", "Unequality",
    "GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan", "And", "Or", "Not", "Abs", "TruncToInt",
    "ToFloat", "CeilToInt", "FloorToInt",
}  # fmt: skip
_SYMBOL = re.compile(r"[a-z]{1,4}\d{1,9}")
_METADATA = ("nn_module_stack", "torch_fn", "stack_trace")
_REMEDY = "Export it from its module here, where its source is known."


def checked_members(file: str, members: Mapping[str, bytes], document: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the members that loading needs, the program without source code and foreign notes.

    Pickles that are left must still be read with `weights_only`; see `programs.loading`.

    Args:
        file: its name, for messages.
        members: all of them.
        document: the program, from `models/model.json`.

    Raises:
        UsageError: naming what would be executed.
    """
    others = [name for name in members if not _KEPT.fullmatch(name)]
    if others:
        raise UsageError(
            f"'{file}' holds '{others[0]:.80}', which is no part of a plain program: it could be code.", _REMEDY
        )
    for name in _CONFIGS:
        if name in members:
            _check_payloads(file, json.loads(members[name]))
    for target in _targets(document):
        _check_target(file, target)
    for expression in _expressions(document):
        _check_expression(file, expression)
    kept = {name: content for name, content in members.items() if not name.startswith("extra/")}
    kept[_MODEL] = json.dumps(_without_notes({**document, "guards_code": []})).encode()
    return kept


def _check_payloads(file: str, config: Any) -> None:
    entries = config.get("config") if isinstance(config, dict) else None
    for name, entry in (entries or {}).items():
        if not re.fullmatch(r"(weight|tensor)_\d+", str(entry.get("path_name"))):
            raise UsageError(
                f"'{file}' holds the object '{name:.80}', which is no tensor and would be unpickled.", _REMEDY
            )


def _targets(value: Any) -> Iterator[str]:
    """Give what the program calls: the targets of nodes, of nested graphs too, and operators that are arguments."""
    if isinstance(value, dict):
        if "target" in value and "inputs" in value:
            yield str(value["target"])
        if "as_operator" in value:
            yield str(value["as_operator"])
        for key, part in value.items():
            if key != "metadata":
                yield from _targets(part)
    elif isinstance(value, list):
        for part in value:
            yield from _targets(part)


def _check_target(file: str, target: str) -> None:
    is_operator = _OPERATORS.fullmatch(target) is not None and target not in _OF_FILES
    if is_operator and target.startswith("torch.ops.higher_order."):
        is_operator = target.rpartition(".")[2] in _HIGHER_ORDER
    is_arithmetic = target.startswith("_operator.") and target.removeprefix("_operator.") in _ARITHMETIC
    if not (is_operator or is_arithmetic or target in _OF_SIZES):
        raise UsageError(
            f"'{file}' calls '{target:.120}', which is not one of PyTorch's own operators.",
            "Write the module with operators of PyTorch; custom ones exist on no device.",
        )


def _expressions(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "expr_str":
                yield str(part)
            elif key == "range_constraints" and isinstance(part, dict):
                yield from map(str, part)
                yield from _expressions(part)
            else:
                yield from _expressions(part)
    elif isinstance(value, list):
        for part in value:
            yield from _expressions(part)


def _check_expression(file: str, expression: str) -> None:
    """Refuse a size that is more than arithmetic: it is read by `eval`."""
    if not _is_arithmetic(expression):
        raise UsageError(f"'{file}' has the size '{expression:.120}', which is not plain arithmetic.", _REMEDY)


def _is_arithmetic(expression: str) -> bool:
    try:
        tree = ast.parse(expression, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(map(_is_plain, ast.walk(tree)))


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _FUNCTIONS or _SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return _SYMBOL.fullmatch(node.value) is not None
        return isinstance(node.value, int | float)
    if isinstance(node, ast.keyword):
        return node.arg in {"positive", "integer", "evaluate", "real", "nonnegative"}
    plain = (
        ast.Expression, ast.Load, ast.BinOp, ast.UnaryOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod,
        ast.Pow, ast.USub, ast.UAdd,
    )  # fmt: skip
    return isinstance(node, plain)


def _without_notes(value: Any) -> Any:
    """Return a program whose nodes say of themselves where they come from and no more."""
    if isinstance(value, dict):
        found = {key: _without_notes(part) for key, part in value.items()}
        if "target" in value and "inputs" in value and isinstance(value.get("metadata"), dict):
            found["metadata"] = {name: value["metadata"][name] for name in _METADATA if name in value["metadata"]}
        return found
    return [_without_notes(part) for part in value] if isinstance(value, list) else value
