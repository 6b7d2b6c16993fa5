"""What a search found: the layers that were compared, and those that are suspected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastserve.bisecting.layer_judgement import Layer


@dataclass(frozen=True)
class Suspect:
    """A layer that is worse than its precision explains.

    Attributes:
        layer: its errors, its torch module and its tensor.
        reason: why it is suspected.
        confirmed_alone: whether it is as bad where nothing but it and what it is computed from was read; None where
            that was not looked at.
        alone_sqnr_db: SQNR of its own error there.
    """

    layer: Layer
    reason: str
    confirmed_alone: bool | None = None
    alone_sqnr_db: float | None = None

    @property
    def module(self) -> str:
        """The torch module."""
        return self.layer.module

    @property
    def operator(self) -> str:
        """What the file calls the operator."""
        return self.layer.exported

    @property
    def tensor(self) -> str:
        """The tensor of the file."""
        return self.layer.tensor

    @property
    def local_sqnr_db(self) -> float:
        """Signal over the error that the layer added, in dB."""
        return self.layer.local_sqnr_db

    @property
    def cumulative_sqnr_db(self) -> float:
        """Signal over all error that has come together by then, in dB."""
        return self.layer.cumulative_sqnr_db

    @property
    def worst_sample(self) -> int | None:
        """The number of the sample where its own error is worst."""
        return self.layer.worst_sample

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "module": self.module,
            "modules": list(self.layer.modules),
            "operator": self.operator,
            "torch_operator": self.layer.operator,
            "tensor": self.tensor,
            "local_sqnr_db": self.local_sqnr_db,
            "cumulative_sqnr_db": self.cumulative_sqnr_db,
            "worst_sample": self.worst_sample,
            "channel": self.layer.channel,
            "reason": self.reason,
            "confirmed_alone": self.confirmed_alone,
            "alone_sqnr_db": self.alone_sqnr_db,
        }


@dataclass(frozen=True)
class Bisection:
    """What a search found.

    Attributes:
        variant: the artifact that was searched.
        target: where it ran.
        suspects: layers that are worse than their precision explains, in the order of execution; the first is blamed.
        layers: all that were compared, in the order of execution.
        output_sqnr_db: of the model's output against the reference, all samples together.
        wrong_outputs: what the suite would say against the model's outputs, in sentences.
        samples: how many were run.
        texts: number of a sample → its text, where it is known.
        unread: tensors of the layer map that could not be read.
        notes: what the user should know, in sentences.
        peak_memory: process → bytes that it held at most, where that is known.
    """

    variant: str
    target: str
    suspects: tuple[Suspect, ...]
    layers: tuple[Layer, ...]
    output_sqnr_db: float
    wrong_outputs: tuple[str, ...]
    samples: int
    texts: Mapping[int, str]
    unread: tuple[str, ...]
    notes: tuple[str, ...]
    peak_memory: Mapping[str, int] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether nothing is wrong: no layer is suspected, and the outputs are as good as they should be."""
        return not self.suspects and not self.wrong_outputs

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "variant": self.variant,
            "target": self.target,
            "agrees": self.agrees,
            "suspects": [s.as_document() for s in self.suspects],
            "layers": [layer.as_document() for layer in self.layers],
            "output_sqnr_db": self.output_sqnr_db,
            "wrong_outputs": list(self.wrong_outputs),
            "samples": self.samples,
            "unread": list(self.unread),
            "notes": list(self.notes),
            "peak_memory": dict(self.peak_memory),
        }
