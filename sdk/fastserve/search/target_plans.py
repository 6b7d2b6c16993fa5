"""Which targets an export makes artifacts for, and from what: by a vendor's compiler, or from the torch program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastserve_converters.formats import check_installed
from fastserve_converters.lowerings import check_lowering_installed, load_lowering, lowering_targets
from fastserve_converters.precisions import Precision
from fastserve_device_tests.suite.compiling import check_there
from fastserve_device_tests.targets import PROCESSORS, Target, chosen_targets, compiles
from fastserve_runtime.errors import EnvironmentFailure, UsageError


@dataclass(frozen=True)
class TargetPlan:
    """How artifacts for one target are made.

    Attributes:
        target: which.
        base: the format whose portable artifacts its compiler takes; None where the torch program is lowered.
        is_named: whether the user named it, rather than a class of processors.
    """

    target: Target
    base: str | None
    is_named: bool

    @property
    def name(self) -> str:
        """The target's name."""
        return self.target.NAME

    def precisions(self, available: Mapping[str, Mapping[str, Precision]]) -> Mapping[str, Precision]:
        """Return what precisions it can be made in.

        Args:
            available: by format, those it has.
        """
        if self.base is None:
            return load_lowering(self.name).PRECISIONS
        taken = self.target.PRECISIONS
        return {name: plan for name, plan in available[self.base].items() if taken is None or name in taken}


def target_plans(words: Sequence[str], formats: Sequence[str]) -> tuple[list[TargetPlan], list[str]]:
    """Return how the named targets' artifacts are made, and notes on targets for which none is.

    A target that was named must have all that it needs. Of a class (`npu`) or `all`, those that lack something are left
    out, and those that need nothing of their own are not mentioned.

    Args:
        words: names of targets, classes of processors, or `all`.
        formats: those to be exported.

    Raises:
        UsageError: a word is no target, or its compiler takes a format that is not to be exported.
        EnvironmentFailure: a target that was named lacks something on this machine.
    """
    plans, notes = [], []
    lowered = set(lowering_targets())
    for target in chosen_targets(words):
        plan = TargetPlan(target, target.FORMAT if compiles(target) else None, target.NAME in words)
        if plan.base is None and target.NAME not in lowered:
            if plan.is_named:
                notes.append(f"{target.NAME} needs no artifact of its own: it takes the portable {target.FORMAT} ones.")
            continue
        try:
            _check(plan, formats)
        except (UsageError, EnvironmentFailure) as error:
            if plan.is_named:
                raise
            notes.append(f"Nothing was made for {target.NAME}: {error}")
        else:
            plans.append(plan)
    return plans, notes


def check_named(words: Sequence[str] | None, *, generates: bool) -> None:
    """Refuse targets where there can be none.

    Args:
        words: what was asked for; None for nothing.
        generates: whether the model generates text.

    Raises:
        UsageError: the list is empty, or the model generates text.
    """
    if words is None:
        return
    if not words:
        raise UsageError("No target was named.", f"Name some, such as onnx:qnn-htp, or {', '.join(PROCESSORS)}, all.")
    if generates:
        raise UsageError(
            f"--target {','.join(words)} was given for a model that generates text.",
            "Artifacts of a target's own are made of encoders only: leave it out.",
        )


def with_portable_bases(
    plans: Sequence[TargetPlan],
    wanted: Mapping[str, tuple[str, ...]],
    available: Mapping[str, Mapping[str, Precision]],
) -> dict[str, tuple[str, ...]]:
    """Return what each format is exported in: what was wanted, and what the targets' compilers take.

    Args:
        plans: of the targets.
        wanted: precisions by format and by target's name.
        available: by format, those it has.

    Raises:
        UsageError: a target that was named takes none of the precisions.
    """
    for plan in plans:
        if plan.is_named and not wanted[plan.name]:
            raise UsageError(
                f"The target {plan.name} takes none of the precisions that were named.",
                f"It takes: {', '.join(plan.precisions(available))}.",
            )
    made: dict[str, tuple[str, ...]] = {}
    for name, has in available.items():
        needed = {p for plan in plans if plan.base == name for p in wanted[plan.name]}
        made[name] = tuple(p for p in has if p in wanted[name] or p in needed)
    return made


def _check(plan: TargetPlan, formats: Sequence[str]) -> None:
    if plan.base is None:
        check_lowering_installed(plan.name)
    elif plan.base not in formats:
        check_installed(plan.base)
        raise UsageError(
            f"The target {plan.name} is made from {plan.base}, which is not to be exported.",
            f"Add it: --format {','.join((*formats, plan.base))}.",
        )
    check_there(plan.target)
