"""Sizes of a program's tensors: numbers, or arithmetic over symbols that stand for open axes.

A program writes them as SymPy does, `Mul(Integer(4), Symbol('s89', positive=True, integer=True))`. They were checked to
be no more than that before; here they are computed without SymPy, which is `eval`.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from typing import Any

from fastserve_runtime.bundle.tensor_specs import UNBOUNDED, Dim, SymbolicDim

Bounds = Mapping[str, tuple[int, int]]
"""Symbol → the least and the most that it may be."""

_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "Integer": int,
    "Mul": lambda *values: math.prod(values),
    "Add": lambda *values: sum(values),
    "Max": max,
    "Min": min,
    "Pow": lambda base, exponent: base**exponent if abs(exponent) < 8 else UNBOUNDED,
    "FloorDiv": lambda value, by: value // by,
    "CeilDiv": lambda value, by: -(-value // by),
    "CleanDiv": lambda value, by: value // by,
    "Mod": lambda value, by: value % by,
    "PythonMod": lambda value, by: value % by,
}


def bounds_of(document: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the bounds of a program's symbols; the upper one of an axis without any is `UNBOUNDED`."""
    found = {}
    for name, constraint in document.get("range_constraints", {}).items():
        minimum, maximum = constraint.get("min_val"), constraint.get("max_val")
        found[str(name)] = (int(minimum or 0), UNBOUNDED if maximum is None else min(int(maximum), UNBOUNDED))
    return found


def dim_of_size(size: Mapping[str, Any], bounds: Bounds) -> Dim:
    """Return a size as a dimension; `step` is the number that divides whatever it becomes."""
    if "as_int" in size:
        return int(size["as_int"])
    tree = ast.parse(size["as_expr"]["expr_str"], mode="eval").body
    symbols = sorted(_symbols(tree))
    ends = [_value(tree, {s: bounds.get(s, (0, UNBOUNDED))[end] for s in symbols}) for end in (0, 1)]
    minimum, maximum = (max(0, min(UNBOUNDED, int(value))) for value in (min(ends), max(ends)))
    step = _step(tree)
    name = symbols[0] if len(symbols) == 1 and step is not None else "_".join(symbols) or "size"
    return SymbolicDim(name if step is not None else f"of_{name}", minimum, maximum, step or 1)


def _step(tree: ast.expr) -> int | None:
    """Return k where a size is k times a symbol; None where it is anything else."""
    if _is_symbol(tree):
        return 1
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "Mul":
        others = [part for part in tree.args if not _is_symbol(part)]
        if len(tree.args) - len(others) == 1 and not any(map(_symbols, others)):
            return int(math.prod(_value(part, {}) for part in others))
    return None


def _is_symbol(tree: ast.expr) -> bool:
    return isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "Symbol"


def _symbols(tree: ast.expr) -> set[str]:
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def _value(tree: ast.expr, symbols: Mapping[str, int]) -> Any:
    if isinstance(tree, ast.Constant):
        return symbols[tree.value] if isinstance(tree.value, str) else tree.value
    if isinstance(tree, ast.UnaryOp):
        return -_value(tree.operand, symbols)
    if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)):
        return UNBOUNDED
    if tree.func.id == "Symbol":
        return _value(tree.args[0], symbols)
    function = _FUNCTIONS.get(tree.func.id)
    if function is None:
        return UNBOUNDED
    try:
        return function(*(_value(part, symbols) for part in tree.args))
    except (ArithmeticError, ValueError, TypeError):
        return UNBOUNDED
