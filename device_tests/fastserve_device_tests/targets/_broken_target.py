"""What stands for a target of another package that cannot be used, so that the others still can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from fastserve_device_tests.needs import Needs
from fastserve_runtime.errors import EnvironmentFailure, one_line

if TYPE_CHECKING:
    from fastserve_runtime.bundle.manifest import Variant

REMEDY = "Update the package that brings it, or uninstall it"
_ATTRIBUTES = ("NAME", "PROCESSOR", "EXECUTED_BY", "FORMAT", "BACKEND", "PRECISIONS", "needs", "engine")
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class BrokenTarget:
    """A target (`fastserve_device_tests.targets.Target`) that gives NOT_RUN for every variant of its format.

    Attributes:
        NAME: as users write it.
        problem: one sentence of what is wrong with it.
    """

    NAME: str
    problem: str
    PROCESSOR: str = _UNKNOWN
    EXECUTED_BY: str = _UNKNOWN
    BACKEND: str | None = None
    PRECISIONS: Mapping[str, str] | None = None

    @property
    def FORMAT(self) -> str:  # noqa: N802 -- as other targets call it
        """The format that its name tells of."""
        return self.NAME.partition(":")[0]

    def needs(self) -> Needs:
        """Return nothing: no installation mends it."""
        return Needs()

    def engine(self, variant: Variant) -> NoReturn:  # noqa: ARG002 -- the same for every one
        """Tell what is wrong.

        Raises:
            EnvironmentFailure: always.
        """
        raise EnvironmentFailure(self.problem, f"{REMEDY}.")


def not_importable(name: str, error: BaseException) -> BrokenTarget:
    """Return what stands for a target whose module raises when it is imported."""
    return BrokenTarget(name, f"The target '{name}' cannot be imported: {type(error).__name__}: {one_line(error)}.")


def checked_target(name: str, target: Any) -> Any:
    """Return another package's target if it is one, else what stands for it."""
    lacking = [attribute for attribute in _ATTRIBUTES if not hasattr(target, attribute)]
    if lacking:
        return BrokenTarget(name, f"The target '{name}' lacks {', '.join(lacking)}.")
    if name != target.NAME:
        return BrokenTarget(name, f"The target '{name}' calls itself '{target.NAME}'.")
    try:
        needs = target.needs()
    except Exception as error:  # another package's code may raise anything
        problem = f"The target '{name}' cannot tell what it needs: {type(error).__name__}: {one_line(error)}."
        return BrokenTarget(name, problem)
    if not isinstance(needs, Needs):
        return BrokenTarget(name, f"The target '{name}' tells what it needs as {type(needs).__name__}, not as Needs.")
    return target
