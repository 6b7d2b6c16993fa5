"""What pipelines give, as JSON, in the same form for every command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastserve_runtime.bundle.raw_inputs import Text


@dataclass(frozen=True)
class Results:
    """What a pipeline gave for the words of a command line.

    Attributes:
        documents: as JSON.
        headings: of the columns that show them.
        rows: as many cells each.
        numbers: headings of the columns that hold numbers.
    """

    documents: list[dict[str, Any]]
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...] = ()


def shown_score(value: float) -> str:
    """Return a score as people are shown it."""
    return f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.3g}"


def result_documents(texts: Sequence[Text], results: Iterable[Any]) -> list[dict[str, Any]]:
    """Return each text with its output: the fields of a classification, or the numbers of an array as nested lists.

    Of a pair the second text stands beside the first as `text_pair`.
    """
    return [{**_named(text), "output": _plain(result)} for text, result in zip(texts, results, strict=True)]


def _named(text: Text) -> dict[str, str]:
    return {"text": text} if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}


def _plain(result: Any) -> Any:
    return asdict(result) if is_dataclass(result) and not isinstance(result, type) else result.tolist()
