"""Which columns of the data are read: what a task and a user say of them, apart from what reads them."""

from __future__ import annotations

from dataclasses import dataclass, replace

DEFAULT_LABEL_COLUMN = "label"


@dataclass(frozen=True)
class Columns:
    """Which columns of the data are read.

    Attributes:
        text: of the text; plain text files have one text a line.
        pair: of the second text, for a model that takes pairs of texts.
        label: of the label.
        usual_label: what that is usually called: a column of this name alone may be absent everywhere.
    """

    text: str = "text"
    pair: str | None = None
    label: str = DEFAULT_LABEL_COLUMN
    usual_label: str = DEFAULT_LABEL_COLUMN

    def named(self, text: str | None, pair: str | None, label: str | None) -> Columns:
        """Return a task's columns with those that the user names."""
        return replace(self, text=text or self.text, pair=pair or self.pair, label=label or self.label)
