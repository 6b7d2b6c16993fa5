"""What makes a target's own artifacts: its vendor's compiler out of a portable one, or a lowering of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fastserve.cache.keys import tool_versions
from fastserve.pipeline.step import Step
from fastserve.pipeline.steps import ModelSteps
from fastserve_converters.lowerings import load_lowering, parts_taken
from fastserve_converters.models.model import Form
from fastserve_converters.precisions import Precision
from fastserve_converters.recipe import Recipe
from fastserve_device_tests.suite.compiling import compiler_versions
from fastserve_device_tests.targets import Target, compiler_of, parts_compiled


@dataclass(frozen=True)
class TargetMaker:
    """What makes a target's artifacts, as far as all that do are alike; see `Maker`.

    Attributes:
        made_for: the target.
        is_named: whether the user named it, rather than a class of processors.
    """

    made_for: Target
    is_named: bool = field(default=True, kw_only=True)

    @property
    def name(self) -> str:
        """The target's name."""
        return self.made_for.NAME

    @property
    def target(self) -> str:
        """The same."""
        return self.made_for.NAME


@dataclass(frozen=True)
class CompilingMaker(TargetMaker):
    """A target whose compiler starts from a portable artifact; see `Maker`.

    Attributes:
        portable: what its base format has, by name.
    """

    portable: Mapping[str, Precision]

    @property
    def takes_parts(self) -> tuple[Form, ...]:
        """Those that its compiler takes."""
        return parts_compiled(self.made_for)

    @property
    def format(self) -> str:
        """That of its base; the compiler tells what it has made of it."""
        return self.made_for.FORMAT

    @property
    def precisions(self) -> Mapping[str, Precision]:
        """Those of its base format that it takes; what is mixed is worked out for the portable artifact alone."""
        taken = self.made_for.PRECISIONS
        fixed = {name: plan for name, plan in self.portable.items() if plan.choices is None}
        return {name: plan for name, plan in fixed.items() if taken is None or name in taken}

    def base(self, recipe: Recipe) -> Recipe:
        """Return the recipe of the portable artifact."""
        return replace(recipe, maker=self.format)

    def artifact(self, steps: ModelSteps, recipe: Recipe, base: Step | None) -> Step:
        """Describe the compilation."""
        assert base is not None
        return steps.compilation(recipe, compiler_of(self.made_for), self.base(recipe), base)

    def has_own_outputs(self) -> bool:
        """Return False: it is the portable one that runs here, so its outputs are what is expected."""
        return False

    def compiler(self) -> Mapping[str, str | None]:
        """Return the versions of the vendor's compiler."""
        return compiler_versions(compiler_of(self.made_for))


@dataclass(frozen=True)
class LoweringMaker(TargetMaker):
    """A target whose artifacts are lowered from the model; see `Maker`."""

    @property
    def takes_parts(self) -> tuple[Form, ...]:
        """The lowering's."""
        return parts_taken(load_lowering(self.name))

    @property
    def format(self) -> str:
        """The lowering's."""
        return load_lowering(self.name).FORMAT

    @property
    def precisions(self) -> Mapping[str, Precision]:
        """The lowering's."""
        return load_lowering(self.name).PRECISIONS

    def base(self, recipe: Recipe) -> None:  # noqa: ARG002
        """Return None: it is made from the model."""
        return

    def artifact(self, steps: ModelSteps, recipe: Recipe, base: Step | None) -> Step:  # noqa: ARG002
        """Describe the lowering."""
        return steps.lowering(recipe, load_lowering(self.name), self.made_for)

    def has_own_outputs(self) -> bool:
        """Return True: a lowering brings an executor that is trusted."""
        return True

    def compiler(self) -> Mapping[str, str | None]:
        """Return the versions of the lowering's tools."""
        return tool_versions(load_lowering(self.name).TOOLS)
