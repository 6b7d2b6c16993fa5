"""Passes as users write them: a name, and settings behind it, such as `drop-layers:keep=3`."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, Literal

from fastserve_converters.passes import PASSES, Pass, PassModule
from fastserve_runtime.errors import UsageError

_FLAGS = {"yes": True, "true": True, "no": False, "false": False}
_SAID: Mapping[type, str] = {int: "a whole number", float: "a number", bool: "yes or no", str: "a word"}


@dataclass(frozen=True)
class AskedPass:
    """A pass that was asked for.

    Attributes:
        name: the pass's.
        settings: the pass with its settings.
    """

    name: str
    settings: Pass

    @property
    def module(self) -> PassModule:
        """The module that the pass stands in."""
        found: PassModule = PASSES.load(self.name)
        return found

    @property
    def words(self) -> str:
        """What asks for the same: the name, and the settings that are not the usual ones."""
        given = [
            f"{f.name.replace('_', '-')}={_written(getattr(self.settings, f.name))}"
            for f in fields(self.settings)
            if f.default is MISSING or getattr(self.settings, f.name) != f.default
        ]
        return f"{self.name}:{','.join(given)}" if given else self.name

    def as_document(self) -> dict[str, Any]:
        """Return the name and all settings as JSON."""
        values = {f.name.replace("_", "-"): getattr(self.settings, f.name) for f in fields(self.settings)}
        return {"name": self.name, "settings": values}


def parse_passes(words: Sequence[str]) -> tuple[AskedPass, ...]:
    """Read passes as users write them, in their order.

    Raises:
        UsageError: there is no such pass, it has no such setting, or a value makes no sense.
    """
    return tuple(parse_pass(word) for word in words)


def parse_pass(words: str) -> AskedPass:
    """Read one pass: `name`, `name:setting=value` or `name:setting=value,setting=value`; see `parse_passes`."""
    name, _, rest = words.partition(":")
    given: dict[str, str] = {}
    for part in rest.split(",") if rest else ():
        setting, is_given, value = part.partition("=")
        if not is_given or not setting:
            raise UsageError(f"'{part}' is no setting of the pass '{name}'.", f"Write {name}:setting=value.")
        if setting in given:
            raise UsageError(f"The pass '{name}' was given the setting '{setting}' twice.", "Give it once.")
        given[setting] = value
    return _asked(name, given)


def asked_pass(document: Mapping[str, Any]) -> AskedPass:
    """Return a pass from what `AskedPass.as_document` gave.

    Raises:
        UsageError: there is no such pass, or it has other settings here.
    """
    return _asked(document["name"], {name: _written(value) for name, value in document["settings"].items()})


def _asked(name: str, given: Mapping[str, str]) -> AskedPass:
    module: PassModule = PASSES.load(name)
    known = {f.name.replace("_", "-"): f for f in fields(module.PASS)}
    for setting in given:
        if setting not in known:
            raise UsageError(
                f"The pass '{name}' has no setting '{setting}'.",
                f"It has: {', '.join(known)}." if known else "It has none.",
            )
    needed = [setting for setting, f in known.items() if _is_needed(f) and setting not in given]
    if needed:
        raise UsageError(
            f"The pass '{name}' needs the setting '{needed[0]}'.", f"Write {name}:{needed[0]}={_example(needed[0])}."
        )
    kinds = typing.get_type_hints(module.PASS)
    values = {
        known[setting].name: _value(name, setting, kinds[known[setting].name], text) for setting, text in given.items()
    }
    return AskedPass(name, module.PASS(**values))


def _is_needed(setting: Field[Any]) -> bool:
    return setting.default is MISSING and setting.default_factory is MISSING


def _example(setting: str) -> str:
    return setting.upper().replace("-", "_")


def _value(name: str, setting: str, kind: Any, text: str) -> Any:
    if typing.get_origin(kind) is Literal:
        allowed = [str(word) for word in typing.get_args(kind)]
        if text not in allowed:
            raise UsageError(
                f"The setting '{setting}' of the pass '{name}' is '{text}'.", f"Write one of: {', '.join(allowed)}."
            )
        return text
    try:
        return _FLAGS[text] if kind is bool else kind(text)
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"The setting '{setting}' of the pass '{name}' is '{text}'.", f"It is {_SAID.get(kind, 'something else')}."
        ) from error


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
