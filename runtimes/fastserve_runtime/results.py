"""What pipelines give, as JSON, in the same form for every command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any


def result_documents(texts: Sequence[str], results: Iterable[Any]) -> list[dict[str, Any]]:
    """Return each text with its output: the fields of a classification, or the numbers of an array as nested lists."""
    return [{"text": text, "output": _plain(result)} for text, result in zip(texts, results, strict=True)]


def _plain(result: Any) -> Any:
    return asdict(result) if is_dataclass(result) and not isinstance(result, type) else result.tolist()
