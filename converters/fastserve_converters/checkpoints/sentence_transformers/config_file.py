"""A JSON file of a checkpoint, read key by key, so that no key is passed over in silence."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastserve_runtime.errors import UsageError

T = TypeVar("T")


def read_json(file: Path, name: str | None = None) -> Any:
    """Read a JSON file of a checkpoint.

    Args:
        file: where it is.
        name: how messages call it; the file's own name if left out.

    Raises:
        UsageError: it is missing or not JSON.
    """
    shown = name or file.name
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The checkpoint's '{shown}' cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"The checkpoint's '{shown}' is not JSON: {error}.") from error


@dataclass(frozen=True)
class ConfigFile:
    """The content of a config file, and how messages call it.

    Attributes:
        name: relative to the checkpoint: `1_Pooling/config.json`.
        content: the JSON object.
    """

    name: str
    content: Mapping[str, Any]

    def check_keys(self, known: Collection[str]) -> None:
        """Refuse a key that is none of those known.

        Raises:
            UsageError: naming it.
        """
        unknown = self.unknown_keys(known)
        if unknown:
            raise UsageError(
                f"The checkpoint's '{self.name}' has the key '{unknown[0]}', which is not understood.",
                "Remove it if it has no effect; what it does would be missing from the bundle.",
            )

    def unknown_keys(self, known: Collection[str]) -> list[str]:
        """Return the keys that are none of those known, in order."""
        return [key for key in self.content if key not in known]

    def value(self, key: str, kind: type[T], default: T | None = None) -> T:
        """Return a value of a kind; the default where the key is missing.

        Raises:
            UsageError: it is of another kind, or missing without a default.
        """
        if key not in self.content and default is not None:
            return default
        if key not in self.content:
            raise UsageError(f"The checkpoint's '{self.name}' does not give '{key}'.")
        found = self.content[key]
        # JSON's true is a bool, which Python takes for an int.
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise self.wrong(key)
        return found

    def optional(self, key: str, kind: type[T]) -> T | None:
        """Return a value of a kind, or None where the key is missing or null.

        Raises:
            UsageError: it is of another kind.
        """
        return None if self.content.get(key) is None else self.value(key, kind)

    def optional_count(self, key: str) -> int | None:
        """Return a whole number of at least 1, or None where the key is missing or null.

        Raises:
            UsageError: it is something else.
        """
        count = self.optional(key, int)
        if count is not None and count < 1:
            raise self.wrong(key)
        return count

    def wrong(self, key: str, remedy: str | None = None) -> UsageError:
        """Return the refusal of a key's value."""
        shown = json.dumps(self.content.get(key), ensure_ascii=False)
        return UsageError(
            f"The checkpoint's '{self.name}' has {shown:.60} as '{key}', which is not supported.",
            remedy or "Check that file.",
        )


def in_folder(folder: str, name: str) -> str:
    """Return a file's name relative to the checkpoint; the folder is empty for the checkpoint's own."""
    return f"{folder}/{name}" if folder else name


def read_config(root: Path, name: str, *, optional: bool = False) -> ConfigFile:
    """Read a config file of a checkpoint.

    Args:
        root: the checkpoint's directory.
        name: the file, relative to it.
        optional: whether a missing file counts as an empty object.

    Raises:
        UsageError: it is missing, not JSON, or no JSON object.
    """
    file = root / name
    if optional and not file.is_file():
        return ConfigFile(name, {})
    content = read_json(file, name)
    if not isinstance(content, dict):
        raise UsageError(f"The checkpoint's '{name}' is not a JSON object.")
    return ConfigFile(name, content)
