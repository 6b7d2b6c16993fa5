"""The samples that a search runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_runtime.bundle.axes import TOKENS, dim_of
from fastserve_runtime.bundle.evaluation import evaluation_of
from fastserve_runtime.bundle.generation_description import cache_tensors
from fastserve_runtime.bundle.golden import Golden
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.bundle.raw_inputs import Text
from fastserve_runtime.bundle.reader import Bundle
from fastserve_runtime.generation import traces
from fastserve_runtime.sessions.lengths import MASK, own_tokens

_PADDED_SAMPLES = 2


@dataclass(frozen=True)
class Samples:
    """Inputs of a model: golden ones, evaluation samples behind them, and a few once more whose padding stays.

    Attributes:
        inputs: by name, shape [samples, ...].
        texts: number of a sample → its text, where it is known.
        padded: numbers of those that keep their padding.
    """

    inputs: Mapping[str, NDArray[Any]]
    texts: Mapping[int, str]
    padded: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many there are, with the padded ones."""
        return len(next(iter(self.inputs.values())))

    @property
    def distinct(self) -> int:
        """How many there are without the padded ones."""
        return self.count - len(self.padded)

    def write(self, file: Path) -> None:
        """Write the inputs to an `.npz` file."""
        np.savez(file, **self.inputs)  # type: ignore[arg-type]  # its keyword arguments are the arrays


def samples_of(bundle: Bundle, variant: Variant, golden: Golden, wanted: int) -> Samples:
    """Return samples of a bundle: those of the golden first, then evaluation samples. A decoder's are traces.

    Args:
        bundle: has the evaluation samples.
        variant: which inputs are needed.
        golden: of the variant.
        wanted: how many; fewer are returned where the bundle has no more.
    """
    if cache_tensors(variant):
        names = list(traces.INPUTS)
    else:
        names = [spec.name for spec in next(iter(variant.graphs.values())).signature.inputs]
    inputs: dict[str, NDArray[Any]] = {name: golden.inputs[name][:wanted] for name in names}
    texts = {number: _shown(text) for number, text in enumerate(golden.samples[:wanted])}
    more = wanted - len(texts)
    evaluation = evaluation_of(bundle) if more > 0 else None
    if evaluation is not None:
        first = evaluation.first(more).inputs
        inputs = {name: np.concatenate([inputs[name], first[name]]) for name in names}
    return _with_padded(variant, inputs, texts)


def _shown(text: Text) -> str:
    return text if isinstance(text, str) else " | ".join(text)


def _with_padded(variant: Variant, inputs: Mapping[str, NDArray[Any]], texts: Mapping[int, str]) -> Samples:
    """Return the inputs with the shortest ones once more behind them, whose padding stays: masks count there."""
    masks = [t for graph in variant.graphs.values() for t in graph.signature.inputs if t.name == MASK]
    if not masks or isinstance(dim_of(masks[0], TOKENS), int) or MASK not in inputs:
        return Samples(inputs, texts, ())
    count = len(inputs[MASK])
    shortest = np.argsort(own_tokens(inputs), kind="stable")[:_PADDED_SAMPLES]
    padded = tuple(range(count, count + len(shortest)))
    return Samples({name: np.concatenate([v, v[shortest]]) for name, v in inputs.items()}, texts, padded)
