"""Lowerings: what turns a torch program into a target's own artifact; one module each, found by name.

They are named like the targets that they are for, `FORMAT_PROCESSOR`: `executorch_qnn_htp.py` is for
`executorch:qnn-htp`. Third parties add theirs by the entry-point group `fastserve.lowerings`, under the name
`executorch-qnn-htp`. A vendor's compiler that starts from a portable file belongs to the target instead
(`fastserve_device_tests.targets`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fastserve_converters.formats import missing_modules
from fastserve_converters.models.model import TRACED_ALONE
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.plugins import PartFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_converters.artifact import Artifact
    from fastserve_converters.formats import ExportJob
    from fastserve_converters.models.model import Form
    from fastserve_converters.models.outputs import Outputs
    from fastserve_converters.precisions import Precision

LOWERINGS = PartFolder("fastserve_converters.lowerings", "fastserve.lowerings", "lowering")


@dataclass(frozen=True)
class Lowered:
    """What a lowering returns.

    Attributes:
        artifact: as exporters return it; its files lie in the job's folder.
        trusted: the same quantized graph on an executor that is trusted, such as PyTorch: one sample, inputs by name,
            shape [1, ...], texts padded → its outputs by name, shape [1, ...]. The target's simulator or chip is judged
            by what it gives, so it must not be that.
        trusted_executor: what that executor is, for people.
        report: what the compiler tells, JSON: operators that it took and left, bytes, cycles.
    """

    artifact: Artifact
    trusted: Callable[[Mapping[str, NDArray[np.generic]]], Outputs]
    trusted_executor: str
    report: Mapping[str, Any]


class Lowering(Protocol):
    """What a module in `lowerings` offers.

    Attributes:
        TARGET: as users write it, such as `executorch:qnn-htp`.
        FORMAT: of the artifact, such as `executorch`.
        TOOLS: distributions whose versions decide the result.
        MODULES: import names that must be there.
        PRECISIONS: what it has, by name as users write it.

    A module may also offer TAKES_PARTS: the forms of the parts that it takes; see `parts_taken`.
    """

    TARGET: str
    FORMAT: str
    TOOLS: tuple[str, ...]
    MODULES: tuple[str, ...]
    PRECISIONS: Mapping[str, Precision]

    def lower(self, job: ExportJob[Any]) -> Lowered:
        """Write the artifact's files into `job.out`; `job.precision_spec` is the lowering's, `job.base` is None.

        Raises:
            EnvironmentFailure: the compiler refused the model, or is not installed as it must be.
        """


def lowering_targets() -> tuple[str, ...]:
    """Return the targets that a lowering makes artifacts for, as users write them. Imports none of them."""
    return tuple(name.replace("-", ":", 1) for name in (*LOWERINGS.built_in(), *LOWERINGS.third_party()))


def load_lowering(target: str) -> Lowering:
    """Return the lowering for a target.

    Raises:
        UsageError: there is none.
    """
    lowering: Lowering = LOWERINGS.load(target.replace(":", "-", 1))
    return lowering


def parts_taken(lowering: Lowering) -> tuple[Form, ...]:
    """Return the forms of the parts that a lowering takes: its `TAKES_PARTS`, or traced ones alone."""
    return getattr(lowering, "TAKES_PARTS", TRACED_ALONE)


def check_lowering_installed(target: str) -> Lowering:
    """Return a lowering whose modules are there.

    Raises:
        UsageError: there is no lowering for the target.
        EnvironmentFailure: a module is missing.
    """
    lowering = load_lowering(target)
    missing = missing_modules(lowering)
    if missing:
        raise EnvironmentFailure(
            f"The compiler for {target} is not installed: {', '.join(missing)} cannot be found.",
            f"Install what brings it: {', '.join(lowering.TOOLS)}.",
        )
    return lowering
