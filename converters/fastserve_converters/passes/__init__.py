"""Passes: what makes another checkpoint of a checkpoint, such as one with fewer layers, before anything is exported.

One module each, found by name and imported when used; third parties add theirs by the entry-point group
`fastserve.passes`. What a pass writes is an ordinary folder that Transformers loads, so passes follow each other in any
order, and everything behind them works on their result as on any checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.data import Sample
from fastserve_runtime.plugins import PartFolder

PASSES = PartFolder("fastserve_converters.passes", "fastserve.passes", "pass")


@dataclass(frozen=True)
class PassJob:
    """What a pass works on.

    Attributes:
        checkpoint: what is changed.
        samples: the user's, but for those that quality is judged on; empty unless the pass asks for them.
        length: tokens that the model is wanted for.
        seed: of whatever is drawn by chance.
        out: an empty folder for the new checkpoint.
    """

    checkpoint: Checkpoint
    samples: Sequence[Sample]
    length: int
    seed: int
    out: Path


@dataclass(frozen=True)
class PassReport:
    """What a pass did.

    Attributes:
        notes: what the user should know, in sentences.
        figures: what it counted or measured, JSON.
    """

    notes: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)


class Pass(Protocol):
    """A pass with its settings: a frozen dataclass whose fields are the settings, by which users name them.

    Fields are of `int`, `float`, `bool`, `str` or a `Literal` of words; those without a default must be given. A value
    that makes no sense is refused where the dataclass is made.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def check(self, checkpoint: Checkpoint) -> None:
        """Refuse checkpoints that the pass does not take, by what their files say. Nothing is loaded.

        Raises:
            UsageError: what is not taken, and what to do.
        """

    def apply(self, job: PassJob) -> PassReport:
        """Write the new checkpoint into `job.out`; see `checkpoints.writing`.

        Raises:
            FastServeError: it cannot be made.
        """


class PassModule(Protocol):
    """What a module in `passes` offers. It can be imported without PyTorch.

    Attributes:
        PASS: the pass.
        TOOLS: distributions whose versions decide what it writes, beside PyTorch and Transformers.
        READS_SAMPLES: whether it looks at the user's samples.
    """

    PASS: type[Pass]
    TOOLS: tuple[str, ...]
    READS_SAMPLES: bool
