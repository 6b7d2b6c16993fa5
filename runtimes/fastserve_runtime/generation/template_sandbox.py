"""Jinja's sandbox, measured: each operation of a template that can take long or make much asks a `Meter` first.

Jinja's own sandbox keeps a template away from Python's internals but lets it run and grow without end. Here

- loops and all calls, filters and tests look at the clock; what lies between two looks is as long as the source;
- every string or container is accounted for where it is made, before it is made where it may be much larger than what
  it is made of;
- nothing is computed while a template is compiled;
- only known filters, functions, and methods of plain values can be used.

This module needs jinja2, so it is imported by `chat_template` alone, when a template is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.ext import loopcontrols
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.tests import TESTS
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from fastserve_runtime.generation.template_functions import (
    FILTERS,
    METHODS,
    GenerationTag,
    OpaqueNamespace,
    dictionary,
    raise_exception,
    strftime_now,
    tojson,
)
from fastserve_runtime.generation.template_limits import LimitReached, current_meter

_GROWING = frozenset(["center", "indent", "replace"])
_SMALL_ARGUMENTS = frozenset(["batch", "round", "slice", "tojson"])
_PASSING = frozenset(["attr", "d", "default", "first", "get", "last", "max", "min"])
"""Filters and methods that make nothing: they return what there was."""
_KEPT_BY_OUTPUT = 16
"""Bytes that a block's buffer may take for each piece of output, which the piece itself does not count."""


class MeteredEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's environment for chat templates, with what Transformers offers to them, measured."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[GenerationTag, loopcontrols],
            optimized=False,
            finalize=_written,
            cache_size=0,
        )
        self.filters = {name: _metered_filter(name, JINJA_FILTERS[name]) for name in FILTERS}
        self.filters |= {
            "tojson": _metered_filter("tojson", tojson),
            "_stepped": _stepped,
            "_made": _made,
            "_concatenated": _concatenated,
        }
        self.tests = {name: _metered_test(test) for name, test in TESTS.items()}
        self.globals = {
            "range": self.globals["range"],
            "dict": dictionary,
            "namespace": OpaqueNamespace,
            "raise_exception": raise_exception,
            "strftime_now": strftime_now,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template: nodes.Template = _Instrumented().visit(Parser(self, source, name, filename).parse())
        template.set_environment(self)
        return template

    def concat(self, pieces: Iterable[str]) -> str:
        """Join what a block of a template has written."""
        kept = list(pieces)
        current_meter().spend(sum(map(len, kept)))
        return "".join(kept)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may use an attribute."""
        if not super().is_safe_attribute(obj, attr, value):
            return False
        if isinstance(obj, (LoopContext, Macro, Namespace, Undefined)):
            return True
        return any(isinstance(obj, kind) and attr in names for kind, names in METHODS.items())

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return the measured form of a string's `format` method, None for everything else."""
        text = getattr(value, "__self__", None)
        if getattr(value, "__name__", None) != "format" or not isinstance(text, str):
            return None

        def measured_format(*args: Any, **kwargs: Any) -> str:
            return _MeteredFormatter(self).vformat(text, args, kwargs)

        return measured_format

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call a function, macro or method for a template."""
        meter = current_meter()
        meter.tick()
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", None)
        if isinstance(owner, str) and name == "join":
            args = (meter.check_join(owner, *args),)
        elif isinstance(owner, str) and isinstance(name, str):
            meter.check_call(name, owner, args, kwargs)
        result = super().call(__context, __obj, *args, **kwargs)
        return result if isinstance(owner, dict) and name in _PASSING else meter.made(result)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute an operator for a template."""
        meter = current_meter()
        meter.check_operator(operator, left, right)
        return meter.made(super().call_binop(context, operator, left, right))


class _Instrumented(NodeTransformer):
    """Puts measuring filters around loops and around what makes containers and strings without a call."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        pieces = sum(len(output.nodes) for output in node.find_all(nodes.Output))
        node.iter = _filtered(node.iter, "_stepped", nodes.Const(pieces * _KEPT_BY_OUTPUT))
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return _filtered(self.generic_visit(node), "_made")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return _filtered(self.generic_visit(node), "_made")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "_made") if node.ctx == "load" else node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.Tuple(node.nodes, "load", lineno=node.lineno), "_concatenated")

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "_made") if isinstance(node.arg, nodes.Slice) else node


def _filtered(node: nodes.Node, name: str, *arguments: nodes.Const) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)


class _Steps:
    """Measures each step through a loop's items; keeps their length for `loop.length`."""

    def __init__(self, items: Any, cost: int) -> None:
        self._items = items
        self._cost = cost

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        meter = current_meter()
        for item in self._items:
            meter.step(self._cost)
            yield item


# All filters take the context: those that do are never computed while a template is compiled.


@pass_context
def _stepped(_: Context, items: Any, cost: int) -> Any:
    return _Steps(items, cost)


@pass_context
def _made(_: Context, value: Any) -> Any:
    return current_meter().made(value)


@pass_context
def _concatenated(_: Context, values: Sequence[Any]) -> str:
    meter = current_meter()
    meter.spend(sum(map(meter.weight, values)))
    return "".join(map(str, values))


@pass_context
def _written(_: Context, value: Any) -> Any:
    return value if isinstance(value, str) else current_meter().made(value)


def _metered_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @pass_context
    def metered(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        meter = current_meter()
        meter.tick()
        given = [*args, *kwargs.values()]
        if name == "join":
            separators = [text for text in given if isinstance(text, str)]
            value = meter.check_join(max(separators, key=len, default=""), value)
        elif name == "sum":
            if any(isinstance(start, (str, list, tuple)) for start in [*args[1:], kwargs.get("start")]):
                raise LimitReached("adds up what are no numbers")
        elif name == "format":
            meter.check_format(str(value), given)
        elif name in _SMALL_ARGUMENTS:
            meter.check_small(name, given)
        meter.weight(value)
        if name in _GROWING:
            meter.check_call(name, str(value), args, kwargs)
        result = function(*_passed(function, context), value, *args, **kwargs)
        return result if name in _PASSING else meter.made(result)

    return metered


def _metered_test(function: Any) -> Callable[..., Any]:
    @pass_context
    def metered(context: Context, *args: Any, **kwargs: Any) -> Any:
        current_meter().tick()
        return function(*_passed(function, context), *args, **kwargs)

    return metered


def _passed(function: Callable[..., Any], context: Context) -> tuple[Any, ...]:
    """Return what Jinja passes to a filter or test before its value."""
    wanted = getattr(function, "jinja_pass_arg", None)
    name = wanted.name if wanted is not None else ""
    by_name = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
    return (by_name[name],) if name else ()


class _MeteredFormatter(SandboxedFormatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        meter = current_meter()
        meter.check_field(format_spec)
        meter.spend(meter.weight(value))
        text: str = super().format_field(value, format_spec)
        return text
