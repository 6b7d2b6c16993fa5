"""What is written in a column of labels, as ids of classes, sets of them, numbers, or answers."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from fastserve_converters.data.table import Table, Value
from fastserve_runtime.bundle.raw_inputs import Text
from fastserve_runtime.errors import UsageError

Label: TypeAlias = int | float | tuple[int, ...] | tuple[str, ...]
"""A class's id, a number, of several labels a 1 or a 0 for each class, or answers of which each is right."""
_ID = re.compile(r"(0|[1-9][0-9]*)(\.0+)?")
"""A class's id; tools that know no missing integers write it as `1.0`."""
_FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
"""How a column of its own tells whether a label is right."""
_SEPARATORS = ";|"
_LAST_SEPARATOR = ","
"""Separates labels where none of the others stands there, since names of classes may have it inside."""


class UnknownLabel(ValueError):
    """What is written is no label; its text is what was."""


class LabelKind(Protocol):
    """What a label is, which the model's task says."""

    @property
    def wanted(self) -> str:
        """What may be written, for messages."""

    def label_of(self, value: Value) -> Label | None:
        """Return the label that a value means; None where nothing is written.

        Raises:
            UnknownLabel: it is none.
        """

    def misfit(self, label: Label, content: Text) -> str | None:
        """Return in words why a label cannot be that of a text or a pair; None where it can."""


class OfAnyText:
    """Base of labels that any text can have."""

    def misfit(self, label: Label, content: Text) -> str | None:  # noqa: ARG002
        """Return None."""
        return None


@dataclass(frozen=True)
class ClassLabels(OfAnyText):
    """One of several classes, by its name or id.

    Attributes:
        names: in the order of their ids.
    """

    names: Sequence[str]

    @property
    def wanted(self) -> str:
        """The names."""
        return ", ".join(self.names)

    def label_of(self, value: Value) -> int | None:
        """Return the class's id; see `LabelKind.label_of`."""
        if value is None:
            return None
        text = str(value)
        for spelling in (text, text.strip()):
            if spelling in self.names:
                return self.names.index(spelling)
        if not text.strip():
            return None
        number = _ID.fullmatch(text.strip())
        if number and int(number.group(1)) < len(self.names):
            return int(number.group(1))
        raise UnknownLabel(text.strip())


@dataclass(frozen=True)
class LabelSets(OfAnyText):
    """Any number of several classes: a list, or a text of names or ids between `;`, `|` or commas.

    A list may be JSON in a text. A list of exactly as many zeros and ones as there are classes tells of each whether it
    is right, as the data that Transformers trains on has it. An empty list or text means that none is.

    Attributes:
        names: in the order of their ids.
        has_flags: whether every value is such a list. Of one or two classes the whole column shows it, see `of_column`:
            `0,1` could be the ids of both as well.
    """

    names: Sequence[str]
    has_flags: bool = False

    def of_column(self, values: Sequence[Value]) -> LabelSets:
        """Return how the labels of a column are read: as flags, where all of its values can be."""
        try:
            parts = [self._parts_of(value) for value in values if value is not None and not isinstance(value, dict)]
        except UnknownLabel:
            return self  # which row it is in, is told when that is read
        return replace(self, has_flags=bool(parts) and all(self._can_be_flags(part) for part in parts))

    @property
    def wanted(self) -> str:
        """The names, and how several are written."""
        return f"{', '.join(self.names)}; several as a list, or between ';'"

    def label_of(self, value: Value) -> tuple[int, ...] | None:
        """Return a 1 for each class that is right, shape [classes]; see `LabelKind.label_of`."""
        if value is None:
            return None
        if isinstance(value, dict):
            raise UnknownLabel(json.dumps(value))
        parts = self._parts_of(value)
        if self._are_flags(parts):
            return tuple(int(float(str(part))) for part in parts)
        one = ClassLabels(self.names)
        ids = {found for part in parts if (found := one.label_of(part)) is not None}
        return tuple(int(i in ids) for i in range(len(self.names)))

    def _parts_of(self, value: str | list[Value]) -> list[Value]:
        if isinstance(value, list):
            return value
        text = value
        if text.strip() in self.names:
            return [text]
        if text.strip().startswith("["):
            try:
                found = json.loads(text)
            except ValueError as error:
                raise UnknownLabel(text.strip()) from error
            return [part if isinstance(part, str) else json.dumps(part) for part in found]
        separators = _SEPARATORS if any(sign in text for sign in _SEPARATORS) else _LAST_SEPARATOR
        return [part.strip() for part in re.split(f"[{re.escape(separators)}]", text)]

    def _are_flags(self, parts: Sequence[Value]) -> bool:
        if not self._can_be_flags(parts):
            return False
        spelled = [str(part).strip() for part in parts]
        # Ids would not be there twice.
        return self.has_flags or "." in spelled[0] or len(set(spelled)) < len(spelled)

    def _can_be_flags(self, parts: Sequence[Value]) -> bool:
        spelled = [str(part).strip() for part in parts]
        if len(spelled) != len(self.names) or any(part in self.names for part in spelled):
            return False
        return set(spelled) <= {"0.0", "1.0"} or set(spelled) <= {"0", "1"}


@dataclass(frozen=True)
class Numbers(OfAnyText):
    """A number: what a regression should give, or how relevant a document is.

    Attributes:
        minimum: no number is less.
    """

    minimum: float = -math.inf

    @property
    def wanted(self) -> str:
        """The range."""
        return "a number" if math.isinf(self.minimum) else f"a number of at least {self.minimum:g}"

    def label_of(self, value: Value) -> float | None:
        """Return the number; see `LabelKind.label_of`."""
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        text = value.strip() if isinstance(value, str) else json.dumps(value)
        try:
            number = float(text)
        except ValueError as error:
            raise UnknownLabel(text) from error
        if not math.isfinite(number) or number < self.minimum or "_" in text:
            raise UnknownLabel(text)
        return number


@dataclass(frozen=True)
class Answers:
    """Right answers to a question, each as it stands in the context: none of them where the context has none.

    A list of texts; objects with a `text`, as SQuAD's own files have them; an object with a list `text`, as the Hub's
    data sets do; any of these as JSON in a text; or a text, which is the answer. Where an answer begins is not needed.
    """

    @property
    def wanted(self) -> str:
        """How answers are written."""
        return "texts of the context, or an empty list where it has no answer"

    def label_of(self, value: Value) -> tuple[str, ...] | None:
        """Return the answers; see `LabelKind.label_of`."""
        if isinstance(value, str):
            texts = _answer_texts(_json_of(value))
            return texts if texts is not None else ((value,) if value.strip() else None)
        if value is None or (isinstance(value, dict) and value.get("text", "") is None):
            return None
        texts = _answer_texts(value)
        if texts is None:
            raise UnknownLabel(f"{json.dumps(value, ensure_ascii=False):.60}")
        return texts

    def misfit(self, label: Label, content: Text) -> str | None:
        """Return which answer does not stand in the context."""
        context = content if isinstance(content, str) else content[1]
        answers = label if isinstance(label, tuple) else ()
        missing = next((answer for answer in answers if str(answer) not in context), None)
        return None if missing is None else f"the answer {missing!r:.60} does not stand in the context"


def _json_of(text: str) -> Any:
    """Return the list or the object that a text is in JSON; None where it is none."""
    if text.strip()[:1] in ("[", "{"):
        with contextlib.suppress(ValueError):
            return json.loads(text)
    return None


def _answer_texts(value: Any) -> tuple[str, ...] | None:
    """Return the texts of a list of answers, or of an object that has one; None where it is neither."""
    if isinstance(value, dict):
        value = value.get("text")
        value = [value] if isinstance(value, str) else value
    if not isinstance(value, list):
        return None
    texts = [part.get("text") if isinstance(part, dict) else part for part in value]
    known = [text for text in texts if isinstance(text, str)]
    return tuple(text for text in known if text.strip()) if len(known) == len(texts) else None


def has_labels(table: Table, column: str, kind: LabelKind) -> bool:
    """Whether a table has labels: a column of them, or of several labels a column for each, named as it is."""
    return table.has(column) or (isinstance(kind, LabelSets) and all(table.has(name) for name in kind.names))


def labels_of(table: Table, column: str, kind: LabelKind) -> list[Label | None]:
    """Return a table's labels, one a row; None where nothing is written.

    Args:
        table: the data.
        column: its column of labels; where it has none, `has_labels` found one for each.
        kind: what they are.

    Raises:
        UsageError: a label is none that the model knows.
    """
    if not table.has(column) and isinstance(kind, LabelSets):
        return _labels_of_columns(table, kind)
    values = table.values(column)
    own = kind.of_column(values) if isinstance(kind, LabelSets) else kind
    return [_label(value, own, table, row) for row, value in enumerate(values)]


def _labels_of_columns(table: Table, kind: LabelSets) -> list[Label | None]:
    """Return the labels of a table with a column of zeros and ones for each."""
    columns = [table.values(name) for name in kind.names]
    found: list[Label | None] = []
    for row, flags in enumerate(zip(*columns, strict=True)):
        odd = next((n for n, flag in zip(kind.names, flags, strict=True) if str(flag).strip() not in _FLAGS), None)
        if odd is not None:
            raise UsageError(
                f"The column '{odd}' of labels has {columns[kind.names.index(odd)][row]!r:.40} in {table.place(row)}.",
                "Write 1 where the label is right, and 0 where it is not.",
            )
        found.append(tuple(_FLAGS[str(flag).strip()] for flag in flags))
    return found


def _label(value: Value, kind: LabelKind, table: Table, row: int) -> Label | None:
    try:
        return kind.label_of(value)
    except UnknownLabel as error:
        raise UsageError(
            f"The data file '{table.file.name}' has the label '{error}' in {table.unit} {table.numbers[row]}, "
            "which the model does not know.",
            f"It knows: {kind.wanted}.",
        ) from error
