"""A part of a model as a chain of stages, so that what lies before a layer is not computed again.

A part that is traced is one stage; one with a cache looks tokens up, runs a block after the other, and scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.models.samples import Samples

if TYPE_CHECKING:
    import torch


class StagedPart(Protocol):
    """A part, as far as its layers and stages go."""

    @property
    def module(self) -> torch.nn.Module:
        """What is run; layers are named from here."""

    @property
    def layers(self) -> Mapping[str, str]:
        """Names of the layers that can be quantized → `linear` or `embedding`, whose scheme they have."""

    @property
    def stages(self) -> tuple[Callable[[Any], Any], ...]:
        """What the part does one after another, from a state to the next."""

    def first_states(self, samples: Samples) -> Sequence[Any]:
        """Return what the first stage takes, a batch each."""

    def results(self, states: Iterable[Any], samples: Samples) -> dict[str, NDArray[np.float32]]:
        """Return what the last stage gave for each batch as outputs by name, in the order of the samples."""


def run(part: StagedPart, samples: Samples) -> dict[str, NDArray[np.float32]]:
    """Return a part's outputs for all calibration samples, in their order, as its `loss` compares them."""
    import torch

    with torch.no_grad():
        states = part.first_states(samples)
        for stage in part.stages:
            states = [stage(state) for state in states]
        return part.results(states, samples)
