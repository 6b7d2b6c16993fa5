"""What is needed to make an artifact again from a model: the identity of a variant, before it is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastserve_converters.precisions import RANGE_METHODS, RangeMethod, WeightScheme
from fastserve_runtime.bundle.canonical_json import digest

_BETWEEN = re.compile(r"[^\w.]+")
"""What stands between the words of a pass, and in no file's name."""
Assignment = tuple[tuple[str, "WeightScheme | None"], ...]
"""Layer and scheme (None: kept in float), in the order of the layers' names."""


@dataclass(frozen=True)
class Recipe:
    """How an artifact is made.

    Attributes:
        maker: what makes it: a format, or a target with an artifact of its own, such as `onnx:qnn-htp`.
        precision: one of the maker's.
        passes: what changed the checkpoint before, in order, as users write them.
        assignment: the scheme of each layer of a mixed precision; None of others.
        range_method: how the ranges of activations are found, where they are set beforehand.
    """

    maker: str
    precision: str
    passes: tuple[str, ...] = ()
    assignment: Assignment | None = None
    range_method: RangeMethod = RANGE_METHODS[0]

    @property
    def words(self) -> str:
        """The id that users see, such as `onnx-int8-dynamic`."""
        after = "".join(f"-after-{_BETWEEN.sub('-', words)}" for words in self.passes)
        return f"{self.maker.replace(':', '-')}-{self.precision}{after}"

    @property
    def digest(self) -> str:
        """A digest that is equal for equal recipes."""
        return digest(self.as_document())

    @property
    def schemes(self) -> dict[str, Any] | None:
        """The assignment as a job and a manifest have it: layer → the fields of its scheme, or None."""
        if self.assignment is None:
            return None
        return {layer: None if scheme is None else scheme.as_document() for layer, scheme in self.assignment}

    def as_document(self) -> dict[str, Any]:
        """Return the recipe as JSON."""
        return {
            "passes": list(self.passes),
            "maker": self.maker,
            "precision": self.precision,
            "assignment": self.schemes,
            "range_method": self.range_method,
        }


def assignment_of(schemes: Mapping[str, WeightScheme | None]) -> Assignment:
    """Return layer → scheme as a recipe has it."""
    return tuple(sorted(schemes.items()))


def parse_assignment(document: Mapping[str, Any] | None) -> Assignment | None:
    """Read an assignment from a manifest's recipe."""
    if document is None:
        return None
    schemes = {layer: None if fields is None else WeightScheme(**fields) for layer, fields in document.items()}
    return assignment_of(schemes)
