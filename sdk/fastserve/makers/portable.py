"""Formats as makers: portable artifacts, exported from the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

from fastserve.pipeline.step import Step
from fastserve.pipeline.steps import ModelSteps
from fastserve_converters.formats import FORMATS, Format, precisions_of
from fastserve_converters.models.model import Form
from fastserve_converters.precisions import Precision
from fastserve_converters.recipe import Recipe


@dataclass(frozen=True)
class PortableMaker:
    """A format, with the precisions that it has for a task; see `Maker`."""

    name: str
    precisions: Mapping[str, Precision]
    target: None = None

    @property
    def format(self) -> str:
        """The format itself."""
        return self.name

    @property
    def takes_parts(self) -> tuple[Form, ...]:
        """Those for which the format has precisions."""
        exporter: Format = FORMATS.load(self.name)
        return tuple(form for form in get_args(Form) if precisions_of(exporter, form))

    def base(self, recipe: Recipe) -> Recipe | None:
        """Return the recipe of the precision that this one is made from."""
        base = self.precisions[recipe.precision].base
        return None if base is None else replace(recipe, precision=base, assignment=None)

    def artifact(self, steps: ModelSteps, recipe: Recipe, base: Step | None) -> Step:
        """Describe the export."""
        return steps.export(recipe, base)

    def has_own_outputs(self) -> bool:
        """Return False: a device gives them."""
        return False

    def compiler(self) -> Mapping[str, str | None]:
        """Return nothing."""
        return {}
