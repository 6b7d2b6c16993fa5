"""What chat templates may use: the filters, methods and functions that Transformers offers to them.

This module needs jinja2; see `template_sandbox`.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.utils import Namespace

from fastserve_runtime.generation.template_limits import current_meter


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FILTERS = _names(
    """abs attr batch capitalize center count d default dictsort e escape first float forceescape format groupby indent
    int items join last length list lower map max min reject rejectattr replace reverse round safe select selectattr
    slice sort string sum title trim truncate unique upper urlencode wordcount"""
)
"""Jinja's filters that templates may use, beside `tojson`."""
METHODS: dict[type, frozenset[str]] = {
    str: _names(
        """capitalize casefold center count endswith find format index isalnum isalpha isascii isdecimal isdigit
        islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix replace
        rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title upper
        zfill"""
    ),
    dict: frozenset(["copy", "get", "items", "keys", "values"]),
    list: frozenset(["copy", "count", "index"]),
    tuple: frozenset(["count", "index"]),
    float: frozenset(["is_integer"]),
}
"""Methods that templates may use, by the type of the value."""


class TemplateRefusal(Exception):
    """What a template says itself through `raise_exception`."""


class GenerationTag(Extension):
    """Transformers' `{% generation %}`, which marks an assistant's words for training, and here means nothing."""

    tags = {"generation"}  # noqa: RUF012 -- as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what stands inside the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class OpaqueNamespace(Namespace):
    """A namespace that does not show what it holds: it may hold itself, or grow after it was measured."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise TypeError(f"A namespace of a chat template cannot have an attribute {name!r}.")
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def dictionary(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    """Return a dictionary without offering the methods of its class."""
    return dict(*args, **kwargs)


def raise_exception(message: object) -> None:
    """Refuse the conversation with a sentence."""
    raise TemplateRefusal(str(message))


def strftime_now(pattern: str) -> str:
    """Return this machine's date and time in the pattern of `strftime`."""
    current_meter().check_small("strftime_now", [pattern])
    return datetime.now().strftime(pattern)


def tojson(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 -- the filter's signature in Transformers
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """Return a value as JSON, unlike Jinja's own filter without escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
