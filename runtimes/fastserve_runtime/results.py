"""What pipelines give, as JSON and as tables, in the same form for every command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from fastserve_runtime.bundle.raw_inputs import Text

Tone = Literal["good", "doubtful", "bad", "absent"]


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings.

    Attributes:
        headings: of the columns.
        rows: as many cells each.
        numbers: headings of the columns that hold numbers.
        title: what stands above it.
        tones: of each row, what it says; none for a table that says nothing good or bad.
        toned: the heading of the column that shows the tone; None for the whole row.
        of_texts: whether cells are the user's own texts, which may be as long as they like.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...] = ()
    title: str = ""
    tones: tuple[Tone | None, ...] = ()
    toned: str | None = None
    of_texts: bool = False


@dataclass(frozen=True)
class Results:
    """What a pipeline gave for the words of a command line.

    Attributes:
        documents: as JSON.
        tables: how they are shown.
    """

    documents: list[dict[str, Any]]
    tables: tuple[Table, ...]


def shown_score(value: float) -> str:
    """Return a score as people are shown it."""
    return f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.3g}"


def result_documents(texts: Sequence[Text], results: Iterable[Any]) -> list[dict[str, Any]]:
    """Return each text with its output: the fields of a classification, or the numbers of an array as nested lists.

    Of a pair the second text stands beside the first as `text_pair`.
    """
    return [{**_named(text), "output": _plain(result)} for text, result in zip(texts, results, strict=True)]


def result_table(
    documents: Sequence[dict[str, Any]],
    headings: Sequence[str],
    cells: Iterable[Sequence[str]],
    numbers: Sequence[str] = (),
) -> Table:
    """Return the table of what `result_documents` gave: each text, or both texts of a pair, and cells of its output.

    Args:
        documents: at least one.
        headings: of the cells.
        cells: of each document, as many.
        numbers: headings of those that are numbers.
    """
    ways = [name for name in ("text", "text_pair") if name in documents[0]]
    rows = tuple((*(d[way] for way in ways), *own) for d, own in zip(documents, cells, strict=True))
    named = ("text", "second text")[: len(ways)]
    return Table((*named, *headings), rows, tuple(numbers), of_texts=True)


def _named(text: Text) -> dict[str, str]:
    return {"text": text} if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}


def _plain(result: Any) -> Any:
    return asdict(result) if is_dataclass(result) and not isinstance(result, type) else result.tolist()
