"""Texts for calibration and evaluation: the user's files, or the set that ships with this package.

A kind of file is one module here: `delimited`, `json_file`, `parquet`, `plain_text`. Each gives a `Table` in which
every value is the text that the file spells; nothing is guessed from it. `samples` makes samples of tables.
"""

from fastserve_converters.columns import DEFAULT_LABEL_COLUMN, Columns
from fastserve_converters.data.labels import Answers, ClassLabels, Label, LabelKind, LabelSets, Numbers
from fastserve_converters.data.pairs import unused_texts
from fastserve_converters.data.samples import (
    DEFAULT_TEXTS,
    MIN_EVALUATION,
    MIN_TEXTS,
    Sample,
    read_samples,
    read_tables,
    samples_of,
)
from fastserve_converters.data.splitting import MAX_CALIBRATION, MAX_EVALUATION, Split, split_samples
from fastserve_converters.data.table import Table

__all__ = [
    "DEFAULT_LABEL_COLUMN",
    "DEFAULT_TEXTS",
    "MAX_CALIBRATION",
    "MAX_EVALUATION",
    "MIN_EVALUATION",
    "MIN_TEXTS",
    "Answers",
    "ClassLabels",
    "Columns",
    "Label",
    "LabelKind",
    "LabelSets",
    "Numbers",
    "Sample",
    "Split",
    "Table",
    "read_samples",
    "read_tables",
    "samples_of",
    "split_samples",
    "unused_texts",
]
