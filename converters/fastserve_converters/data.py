"""Texts for calibration and evaluation: the user's files, or the set that ships with this package."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_runtime.errors import UsageError, is_disk_full

LEAST_EVALUATION = 200
MOST_EVALUATION = 400
MOST_CALIBRATION = 256
LEAST_TEXTS = 4
DEFAULT_TEXTS = Path(__file__).parent / "texts" / "default_texts.jsonl"
READERS: Mapping[str, str] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".txt": "text",
}


@dataclass(frozen=True)
class Sample:
    """One text, with the id of its label where labels were given."""

    text: str
    label: int | None = None


@dataclass(frozen=True)
class Split:
    """Samples that never overlap."""

    calibration: tuple[Sample, ...]
    evaluation: tuple[Sample, ...]


def read_samples(files: Sequence[Path], *, text_column: str, label_column: str, labels: Sequence[str]) -> list[Sample]:
    """Read texts from CSV, JSON lines, Parquet or plain text files, in order; empty texts are left out.

    Args:
        files: none of them: the texts that ship with this package.
        text_column: the column of the text; plain text files have one text a line.
        label_column: the column of the label, by name or id; may be absent.
        labels: the model's class names; empty: labels are not read.

    Raises:
        UsageError: a file cannot be read, lacks the column, has too few texts, or a label is unknown.
    """
    if not files:
        return _read(DEFAULT_TEXTS, "text", "", ())
    samples = [s for file in files for s in _read(file, text_column, label_column, labels)]
    if len({s.text for s in samples}) < LEAST_TEXTS:
        raise UsageError(
            f"The data has {len({s.text for s in samples})} different texts.",
            f"At least {LEAST_TEXTS} are needed, and {LEAST_EVALUATION} or more for a quality that means something.",
        )
    return samples


def split_samples(samples: Sequence[Sample], seed: int) -> Split:
    """Shuffle by the seed and divide into evaluation and calibration.

    Equal texts count once. Evaluation gets 60 %, but at least 200 where there are so many and at most 400; at least a
    tenth stays for calibration.
    """
    unique = list({sample.text: sample for sample in samples}.values())
    random.Random(seed).shuffle(unique)
    count = len(unique)
    evaluation = min(max(LEAST_EVALUATION, count * 6 // 10), MOST_EVALUATION, count - max(1, count // 10))
    return Split(tuple(unique[evaluation : evaluation + MOST_CALIBRATION]), tuple(unique[:evaluation]))


def _read(file: Path, text_column: str, label_column: str, labels: Sequence[str]) -> list[Sample]:
    rows = _rows(file)
    if file.suffix.lower() == ".txt":
        text_column = "text"
    if not rows:
        raise UsageError(f"The data file '{file.name}' is empty.")
    if text_column not in rows[0]:
        raise UsageError(
            f"The data file '{file.name}' has no column '{text_column}'.",
            f"It has: {', '.join(map(str, rows[0]))}. Name one with --text-column.",
        )
    has_labels = bool(labels) and label_column in rows[0]
    return [
        Sample(str(row[text_column]), _label(row[label_column], labels, file) if has_labels else None)
        for row in rows
        if row[text_column] is not None and str(row[text_column]).strip()
    ]


def _rows(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise UsageError(f"There is no data file '{file}'.", "Check the path.")
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise UsageError(f"The data file '{file.name}' is of an unknown kind.", f"Known are: {', '.join(READERS)}.")
    if file.stat().st_size == 0:
        return []
    import datasets

    datasets.disable_progress_bars()
    options: dict[str, Any] = {"sep": "\t"} if file.suffix.lower() == ".tsv" else {}
    try:
        with tempfile.TemporaryDirectory() as scratch:
            make = getattr(datasets.Dataset, f"from_{reader}")
            table = make(str(file), cache_dir=scratch, keep_in_memory=True, **options)
            rows: list[dict[str, Any]] = table.to_list()
    except Exception as error:  # the readers below it raise classes of pandas, pyarrow and their own
        if is_disk_full(error):
            raise
        if "corresponds to no data" in str(error):
            return []
        cause = str(error.__cause__ or error).strip().splitlines()
        raise UsageError(
            f"The data file '{file.name}' cannot be read as {reader}: {cause[0] if cause else type(error).__name__}"
        ) from error
    return rows


def _label(value: Any, labels: Sequence[str], file: Path) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    if text in labels:
        return labels.index(text)
    if text.isdecimal() and int(text) < len(labels):
        return int(text)
    raise UsageError(
        f"The data file '{file.name}' has the label '{text}', which the model does not know.",
        f"It knows: {', '.join(labels)}.",
    )
