"""Samples: what texts a model is judged on and calibrated with, made of tables."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from fastserve_converters.data.labels import label_ids
from fastserve_converters.data.plain_text import COLUMN
from fastserve_converters.data.splitting import LEAST_EVALUATION
from fastserve_converters.data.table import Table
from fastserve_runtime.errors import EnvironmentFailure, UsageError

LEAST_TEXTS = 4
DEFAULT_LABEL_COLUMN = "label"
DEFAULT_TEXTS = Path(__file__).parent.parent / "texts" / "default_texts.jsonl"
READERS: Mapping[str, str] = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".json": "json_file",
    ".jsonl": "json_file",
    ".ndjson": "json_file",
    ".parquet": "parquet",
    ".txt": "plain_text",
}
"""Ending of a file's name → the module here that reads it."""


@dataclass(frozen=True)
class Sample:
    """One text, with the id of its label where labels were given."""

    text: str
    label: int | None = None


class Reader(Protocol):
    """What a module of `READERS` offers."""

    def read(self, file: Path) -> Table:
        """Read a file of its kind; a `UsageError` names what is wrong with it and where."""


def read_samples(files: Sequence[Path], *, text_column: str, label_column: str, labels: Sequence[str]) -> list[Sample]:
    """Read texts from data files, in order; see `read_tables` and `samples_of`.

    Args:
        files: none of them: the texts that ship with this package.
        text_column: the column of the text; plain text files have one text a line.
        label_column: the column of the label, by name or id; may be absent.
        labels: the model's class names; empty: labels are not read.

    Raises:
        UsageError: a file cannot be read, lacks the column, has too few texts, or a label is unknown.
    """
    return samples_of(read_tables(files), text_column=text_column, label_column=label_column, labels=labels)


def read_tables(files: Sequence[Path]) -> list[Table]:
    """Read CSV, TSV, JSON, JSON lines, Parquet or plain text files; with no files, none.

    Raises:
        UsageError: a file is missing, of an unknown kind, empty or malformed.
        EnvironmentFailure: a file cannot be opened, or its kind needs a library that is not installed.
    """
    return [_read(file) for file in files]


def samples_of(tables: Sequence[Table], *, text_column: str, label_column: str, labels: Sequence[str]) -> list[Sample]:
    """Make samples of tables, in order; rows whose text is empty are left out.

    Args:
        tables: none of them: the texts that ship with this package are taken.
        text_column: the column of the text.
        label_column: the column of the label, by name or id; only the usual name may be absent everywhere.
        labels: the model's class names; empty: labels are not read.

    Raises:
        UsageError: a column is missing or there twice, there are too few texts, or a label is unknown or missing.
    """
    if not tables:
        return [Sample(text) for text in _read(DEFAULT_TEXTS).texts(COLUMN)]
    _check_label_column(tables, label_column, labels)
    samples = [s for table in tables for s in _samples(table, text_column, label_column, labels)]
    count = len({s.text for s in samples})
    if count < LEAST_TEXTS:
        raise UsageError(
            f"The data has {count} different texts.",
            f"At least {LEAST_TEXTS} are needed, and {LEAST_EVALUATION} or more for a quality that means something.",
        )
    return samples


def _read(file: Path) -> Table:
    if not file.is_file():
        raise UsageError(f"There is no data file '{file}'.", "Check the path.")
    module = READERS.get(file.suffix.lower())
    if module is None:
        raise UsageError(f"The data file '{file.name}' is of an unknown kind.", f"Known are: {', '.join(READERS)}.")
    reader = cast(Reader, importlib.import_module(f"fastserve_converters.data.{module}"))
    try:
        table = None if file.stat().st_size == 0 else reader.read(file)
    except OSError as error:
        raise EnvironmentFailure(
            f"The data file '{file}' cannot be read: {error.strerror}.", "Check its permissions."
        ) from error
    if table is None or not table.numbers:
        raise UsageError(f"The data file '{file.name}' is empty.", "Write a row for each text.")
    return table


def _samples(table: Table, text_column: str, label_column: str, labels: Sequence[str]) -> Iterator[Sample]:
    texts = table.texts(COLUMN if table.is_plain else text_column)
    has_labels = bool(labels) and table.has(label_column)
    ids = label_ids(table, label_column, labels) if has_labels else [None] * len(texts)
    for row, (text, label) in enumerate(zip(texts, ids, strict=True)):
        if not text.strip():
            continue
        if has_labels and label is None:
            raise UsageError(
                f"There is no label in {table.place(row)}.",
                f"Write one there ({', '.join(labels)}), or remove the row.",
            )
        yield Sample(text, label)


def _check_label_column(tables: Sequence[Table], column: str, labels: Sequence[str]) -> None:
    """Refuse a name that was given and that no file has: its labels would be missed in silence."""
    if not labels or column == DEFAULT_LABEL_COLUMN or any(table.has(column) for table in tables):
        return
    names = dict.fromkeys(name for table in tables for name in table.names)
    raise UsageError(
        f"The data has no column '{column}' of labels.", f"It has: {', '.join(names)}. Name one with --label-column."
    )
