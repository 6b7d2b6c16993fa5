"""Samples: what texts a model is judged on and calibrated with, made of tables."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from fastserve_converters.columns import DEFAULT_LABEL_COLUMN, Columns
from fastserve_converters.data.labels import ClassLabels, Label, LabelKind, has_labels, labels_of
from fastserve_converters.data.pairs import pairs_of
from fastserve_converters.data.plain_text import COLUMN
from fastserve_converters.data.table import Table
from fastserve_runtime.bundle.raw_inputs import Text
from fastserve_runtime.errors import EnvironmentFailure, UsageError

MIN_TEXTS = 4
MIN_EVALUATION = 200
"""Fewer judge a model too roughly; see `splitting`."""
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
    """One text, or a pair of texts, with its label where labels were given."""

    text: str
    label: Label | None = None
    pair: str | None = None

    @property
    def content(self) -> Text:
        """The text or the pair, as the model is given it."""
        return self.text if self.pair is None else (self.text, self.pair)


class Reader(Protocol):
    """What a module of `READERS` offers."""

    def read(self, file: Path) -> Table:
        """Read a file of its kind; a `UsageError` names what is wrong with it and where."""


def read_samples(
    files: Sequence[Path],
    columns: Columns | None = None,
    labels: LabelKind | Sequence[str] | None = None,
    *,
    text_column: str = COLUMN,
    pair_column: str | None = None,
    label_column: str = DEFAULT_LABEL_COLUMN,
    takes_pairs: bool = False,
) -> list[Sample]:
    """Read texts from data files, in order; see `read_tables` and `samples_of`.

    Args:
        files: none of them: the texts that ship with this package are taken.
        columns: which are read; those that the next three name if left out.
        labels: what labels are, or the names of classes in the order of their ids; none: labels are not read.
        text_column: see `Columns.text`.
        pair_column: see `Columns.pair`.
        label_column: see `Columns.label`.
        takes_pairs: whether the model takes pairs of texts.

    Raises:
        UsageError: a file cannot be read, lacks a column, has too few texts, or a label is unknown.
    """
    read = Columns(text_column, pair_column, label_column) if columns is None else columns
    kind = (ClassLabels(tuple(labels)) if labels else None) if isinstance(labels, Sequence) else labels
    return samples_of(read_tables(files), read, kind, takes_pairs=takes_pairs)


def read_tables(files: Sequence[Path]) -> list[Table]:
    """Read CSV, TSV, JSON, JSON lines, Parquet or plain text files; with no files, none.

    Raises:
        UsageError: a file is missing, of an unknown kind, empty or malformed.
        EnvironmentFailure: a file cannot be opened, or its kind needs a library that is not installed.
    """
    return [_read(file) for file in files]


def samples_of(
    tables: Sequence[Table], columns: Columns, labels: LabelKind | None, *, takes_pairs: bool = False
) -> list[Sample]:
    """Make samples of tables, in order; rows with an empty text are left out.

    Args:
        tables: none of them: the texts that ship with this package are taken.
        columns: which are read.
        labels: what labels are; None: they are not read.
        takes_pairs: whether the model takes pairs of texts.

    Raises:
        UsageError: a column is missing, not named or there twice, there are too few texts, or a label is unknown or
            missing.
    """
    if not tables:
        texts = _read(DEFAULT_TEXTS).texts(COLUMN)
        return [Sample(a, pair=b) for a, b in pairs_of(texts)] if takes_pairs else [Sample(text) for text in texts]
    _check_pair_column(tables, columns, takes_pairs=takes_pairs)
    _check_label_column(tables, columns, labels)
    samples = [s for table in tables for s in _samples(table, columns, labels)]
    count = len({s.content for s in samples})
    if count < MIN_TEXTS:
        raise UsageError(
            f"The data has {count} different {'pairs of texts' if takes_pairs else 'texts'}.",
            f"At least {MIN_TEXTS} are needed, and {MIN_EVALUATION} or more for a quality that means something.",
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


def _samples(table: Table, columns: Columns, kind: LabelKind | None) -> Iterator[Sample]:
    texts = table.texts(COLUMN if table.is_plain else columns.text)
    pairs: Sequence[str | None] = (
        [None] * len(texts) if columns.pair is None else table.texts(columns.pair, "--text-pair-column")
    )
    known = kind if kind is not None and has_labels(table, columns.label, kind) else None
    labels = [None] * len(texts) if known is None else labels_of(table, columns.label, known)
    for row, (text, pair, label) in enumerate(zip(texts, pairs, labels, strict=True)):
        if not text.strip() or (pair is not None and not pair.strip()):
            continue
        if known is not None and label is None:
            raise UsageError(
                f"There is no label in {table.place(row)}.",
                f"Write one there ({known.wanted}), or remove the row.",
            )
        sample = Sample(text, label, pair)
        misfit = None if known is None or label is None else known.misfit(label, sample.content)
        if misfit is not None:
            raise UsageError(f"In {table.place(row)}, {misfit}.", "Correct it, or remove the row.")
        yield sample


def _check_pair_column(tables: Sequence[Table], columns: Columns, *, takes_pairs: bool) -> None:
    if columns.pair is not None and columns.pair.strip() == columns.text.strip():
        raise UsageError(f"The column '{columns.pair}' is named for both texts of a pair.", "Name two columns.")
    if not takes_pairs:
        return
    plain = next((table for table in tables if table.is_plain), None)
    if plain is not None:
        raise UsageError(
            f"The data file '{plain.file.name}' has one text a line, and the model takes pairs of texts.",
            "Give a table with a column for each of the two, and name them with --text-column and --text-pair-column.",
        )
    if columns.pair is None:
        names = ", ".join(dict.fromkeys(name for table in tables for name in table.names))
        raise UsageError(
            "The model takes pairs of texts, and no column was named for the second one.",
            f"The data has: {names}. Name it with --text-pair-column.",
        )


def _check_label_column(tables: Sequence[Table], columns: Columns, labels: LabelKind | None) -> None:
    """Refuse a name that was given and that no file has: its labels would be missed in silence."""
    column = columns.label
    if labels is None or column == columns.usual_label or any(table.has(column) for table in tables):
        return
    names = dict.fromkeys(name for table in tables for name in table.names)
    raise UsageError(
        f"The data has no column '{column}' of labels.", f"It has: {', '.join(names)}. Name one with --label-column."
    )
