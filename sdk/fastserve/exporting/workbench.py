"""From a recipe to a candidate: its artifact, what a device says of it, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastserve.bundles.manifest_writer import shared_bytes
from fastserve.cache.records import Entry
from fastserve.devices import OUTPUTS, Device
from fastserve.makers import Maker, variant_fields
from fastserve.pipeline.converter_process import stops_all
from fastserve.pipeline.own_quality import OwnQuality
from fastserve.pipeline.runner import Runner
from fastserve.pipeline.step import Step
from fastserve.pipeline.steps import ModelSteps
from fastserve.pipeline.work.judging import quality_of_own
from fastserve.search.candidate import Candidate
from fastserve_converters.artifact import NOT_FINITE_DB
from fastserve_converters.precisions import has_fake_quant_reference
from fastserve_converters.recipe import Recipe
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.errors import DiskFull, EnvironmentFailure, UsageError
from fastserve_runtime.measurement.measurement import parse_measurement

MIN_FAKE_QUANT_SQNR_DB = 10
"""Against the same quantized model elsewhere. Engines round activations in ways of their own (a scale a tensor or a
token), which costs int8 models some 20 dB; a wrong scale, zero point or order of nibbles costs nearly all."""


@dataclass(frozen=True)
class RecipeSteps:
    """What is done for one recipe, in order.

    Attributes:
        artifact: makes it.
        ran: gives its outputs; None where the portable artifact that it is made from does.
        quality: judges them; likewise.
        fake_quant: compares them with the same quantized model elsewhere; None where nothing is quantized.
    """

    artifact: Step
    ran: Step | None = None
    quality: Step | None = None
    fake_quant: Step | None = None

    def in_order(self) -> list[Step]:
        """Return those that there are."""
        return [s for s in (self.artifact, self.ran, self.quality, self.fake_quant) if s is not None]


@dataclass
class Workbench:
    """Makes and judges recipes; what several are made from is made once.

    Attributes:
        runner: does the steps.
        steps: on the model.
        makers: by name.
        device: where artifacts are measured.
        threads: how many one inference may use.
        remeasure: whether what is cached is measured again.
        own_quality: the user's, in the place of the task's. What it gives is not kept: nobody sees it change.
    """

    runner: Runner
    steps: ModelSteps
    makers: Mapping[str, Maker]
    device: Device
    threads: int
    remeasure: bool
    own_quality: OwnQuality | None = None
    _steps: dict[Recipe, RecipeSteps] = field(default_factory=dict)
    _artifacts: dict[Recipe, Step] = field(default_factory=dict)
    _words: dict[str, Recipe] = field(default_factory=dict)
    _failed: dict[Recipe, str] = field(default_factory=dict)
    _candidates: dict[Recipe, Candidate] = field(default_factory=dict)

    def plan(self, recipes: Sequence[Recipe]) -> None:
        """Count the steps of recipes into the progress."""
        self.runner.plan(step for recipe in recipes for step in self.steps_of(recipe).in_order())

    def steps_of(self, recipe: Recipe) -> RecipeSteps:
        """Return what is done for a recipe."""
        if recipe not in self._steps:
            self._steps[recipe] = self._described(recipe)
        return self._steps[recipe]

    def _described(self, recipe: Recipe) -> RecipeSteps:
        artifact, maker, steps = self._artifact(recipe), self.makers[recipe.maker], self.steps
        if maker.target is not None:
            if not maker.has_own_outputs():
                return RecipeSteps(artifact)
            return RecipeSteps(artifact, artifact, self._judging(recipe, artifact))
        ran = steps.measurement(
            recipe, artifact, maker.format, self.device, threads=self.threads, is_fresh=self.remeasure
        )
        is_quantized = has_fake_quant_reference(maker.precisions[recipe.precision])
        compared = steps.fake_quant_comparison(recipe, artifact, ran) if is_quantized else None
        return RecipeSteps(artifact, ran, self._judging(recipe, ran), compared)

    def _judging(self, recipe: Recipe, ran: Step) -> Step | None:
        return self.steps.quality(recipe, ran) if self.own_quality is None else None

    def candidate(self, recipe: Recipe) -> Candidate:
        """Make a recipe and judge it; one that cannot be made or measured says why.

        Raises:
            FastServeError: in a way that would fail every recipe.
        """
        if recipe not in self._candidates:
            is_portable = self.makers[recipe.maker].target is None
            found = self._portable(recipe) if is_portable else self._for_target(recipe)
            is_first = self._words.setdefault(recipe.words, recipe) == recipe
            self._candidates[recipe] = found if is_first else replace(found, suffix=f"-{recipe.digest[:8]}")
        return self._candidates[recipe]

    def failed(self, recipe: Recipe, reason: str) -> Candidate:
        """Return the candidate of a recipe that could not be made."""
        maker = self.makers[recipe.maker]
        return Candidate(recipe, maker.format, target=maker.target, failure=reason)

    def scores(self, maker: str, precision: str) -> Mapping[str, Any]:
        """Score the layers of the model for a mixed precision."""
        scores: Mapping[str, Any] = self.runner.run(self.steps.sensitivity(maker, precision)).result
        return scores

    def size(self, recipe: Recipe) -> int:
        """Return the bytes that a device must hold for a recipe's artifact, which is made for that."""
        return self._size(self.runner.run(self._artifact(recipe)))

    def room(self) -> int:
        """Return the bytes that a device must hold whatever the artifact."""
        return shared_bytes(self.runner.run(self.steps.reference))

    def _artifact(self, recipe: Recipe) -> Step:
        if recipe not in self._artifacts:
            maker = self.makers[recipe.maker]
            base = maker.base(recipe)
            step = maker.artifact(self.steps, recipe, None if base is None else self._artifact(base))
            self._artifacts[recipe] = step
        return self._artifacts[recipe]

    def _made(self, recipe: Recipe) -> Entry | str:
        """Make an artifact and what it is made from; or return why that failed, which is told once in full."""
        base = self.makers[recipe.maker].base(recipe)
        if base is not None and isinstance(self._made(base), str):
            return f"it is made from {base.precision}, which failed"
        if recipe not in self._failed:
            try:
                return self.runner.run(self._artifact(recipe))
            except (EnvironmentFailure, UsageError) as error:
                if stops_all(error):
                    raise
                self._failed[recipe] = f"export failed: {error}"
        return self._failed[recipe]

    def _portable(self, recipe: Recipe) -> Candidate:
        made = self._made(recipe)
        if isinstance(made, str):
            return self.failed(recipe, made)
        candidate = Candidate(
            recipe,
            self.makers[recipe.maker].format,
            folder=made.folder,
            artifact=made.result,
            digests=made.files,
            size=self._size(made),
        )
        steps = self.steps_of(recipe)
        assert steps.ran is not None
        try:
            measured = self.runner.run(steps.ran)
        except DiskFull:
            raise  # the next one could not be written either
        except (EnvironmentFailure, UsageError) as error:
            return replace(candidate, failure=f"measuring failed: {error}")
        candidate = replace(
            candidate,
            measurement=parse_measurement(measured.result),
            outputs=measured.folder / OUTPUTS,
            quality=self._quality(steps),
        )
        if steps.fake_quant is None:
            return candidate
        compared = self.runner.run(steps.fake_quant).result
        return replace(candidate, fake_quant_reference=compared, failure=_fake_quant_failure(compared))

    def _for_target(self, recipe: Recipe) -> Candidate:
        """Make a target's artifact. Nothing is measured of it: the target is not this machine."""
        maker = self.makers[recipe.maker]
        base = maker.base(recipe)
        portable = None if base is None else self.candidate(base)
        if portable is not None and portable.failure is not None:
            return self.failed(recipe, f"it is made from {portable.id}, which failed")
        steps = self.steps_of(recipe)
        try:
            made = self.runner.run(steps.artifact)
            quality = self._quality(steps) if portable is None else portable.quality
        except DiskFull:
            raise
        except (EnvironmentFailure, UsageError) as error:
            return self.failed(recipe, f"compiling failed: {error}")
        versions = dict(maker.compiler())
        told = made.result["recipe"] if portable is None else (portable.artifact or {})["recipe"]
        return Candidate(
            recipe,
            made.result.get("format", maker.format),
            target=maker.target,
            folder=made.folder,
            digests=made.files,
            artifact=variant_fields(made, {**told, "compiler": versions}),
            outputs=made.folder / OUTPUTS if portable is None else portable.outputs,
            quality=quality,
            size=self._size(made),
            compilation={
                "compiler": versions,
                "seconds": made.seconds,
                "outputs_of": made.result["trusted_executor"] if portable is None else _executor(portable),
                "report": made.result["report"],
            },
        )

    def _quality(self, steps: RecipeSteps) -> Quality:
        assert steps.ran is not None
        if self.own_quality is not None:
            needed = (steps.ran, self.steps.reference, self.steps.judged_against)
            return quality_of_own(self.own_quality, *(self.runner.run(step) for step in needed))
        assert steps.quality is not None
        return Quality(**self.runner.run(steps.quality).result)

    def _size(self, artifact: Entry) -> int:
        own: int = sum((artifact.folder / f).stat().st_size for f in artifact.result["files"])
        return own + self.room()


def _executor(portable: Candidate) -> str:
    return f"{portable.id} on {'this machine' if portable.measurement is None else portable.measurement.engine}"


def _fake_quant_failure(compared: Mapping[str, Any]) -> str | None:
    ratio = compared["sqnr_db"]
    if ratio is None or ratio >= MIN_FAKE_QUANT_SQNR_DB:
        return None
    if ratio <= NOT_FINITE_DB:
        return f"it cannot be compared with {compared['executor']}: values of one of them are not finite"
    return (
        f"it does not compute what its weights say: SQNR {ratio:.1f} dB against {compared['executor']}, at "
        f"least {MIN_FAKE_QUANT_SQNR_DB} is wanted"
    )
