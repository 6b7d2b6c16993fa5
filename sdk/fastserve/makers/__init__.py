"""Makers: what makes an artifact of a model, or of another artifact.

A format exports the model; a lowering turns its torch program into a target's own artifact; a vendor's compiler makes
that of a portable artifact. Formats, lowerings and targets are found by name and by entry points, and each is one file;
here they become one thing for whoever makes variants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fastserve.cache.records import Entry
from fastserve.pipeline.step import Step
from fastserve.pipeline.steps import ModelSteps
from fastserve_converters.models.model import Form
from fastserve_converters.precisions import Precision
from fastserve_converters.recipe import Recipe


class Maker(Protocol):
    """What makes artifacts."""

    @property
    def name(self) -> str:
        """As recipes have it: a format or a target."""

    @property
    def format(self) -> str:
        """The format of what it makes, as far as that is known before."""

    @property
    def target(self) -> str | None:
        """The one target that its artifacts are for; None where they are portable."""

    @property
    def takes_parts(self) -> tuple[Form, ...]:
        """The forms of the model's parts that it takes."""

    @property
    def precisions(self) -> Mapping[str, Precision]:
        """What it makes, by name."""

    def base(self, recipe: Recipe) -> Recipe | None:
        """Return the recipe of the artifact that one is made from; None where it is made from the model."""

    def artifact(self, steps: ModelSteps, recipe: Recipe, base: Step | None) -> Step:
        """Describe making it.

        Args:
            steps: on the model.
            recipe: of what is made.
            base: makes what it is made from, where `base` names a recipe.
        """

    def has_own_outputs(self) -> bool:
        """Whether the artifact's step gives its outputs too, those of an executor that is trusted."""

    def compiler(self) -> Mapping[str, str | None]:
        """Return the versions of what makes a target's artifact, by distribution; empty for portable ones."""


def variant_fields(entry: Entry, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a manifest's variant that an artifact's step gave, with a recipe."""
    left_out = {"report", "format", "trusted_executor"}
    return {**{name: value for name, value in entry.result.items() if name not in left_out}, "recipe": dict(recipe)}
