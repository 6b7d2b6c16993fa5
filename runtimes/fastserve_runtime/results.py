"""What pipelines give, as JSON, in the same form for every command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastserve_runtime.preprocessors.text_pairs import Text


def result_documents(texts: Sequence[Text], results: Iterable[Any]) -> list[dict[str, Any]]:
    """Return each text with its output: the fields of a classification, or the numbers of an array as nested lists.

    Of a pair the second text stands beside the first as `text_pair`.
    """
    return [{**_named(text), "output": _plain(result)} for text, result in zip(texts, results, strict=True)]


def _named(text: Text) -> dict[str, str]:
    return {"text": text} if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}


def _plain(result: Any) -> Any:
    return asdict(result) if is_dataclass(result) and not isinstance(result, type) else result.tolist()
