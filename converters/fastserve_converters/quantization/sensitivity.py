"""How much of a part's outputs each layer loses in each scheme, when it alone is quantized.

The score is the part's own loss. Scores of layers may be added as long as they are small: errors of different layers
are taken for independent, as in HAWQ (arXiv 1911.03852). What a part computes before the layer is not computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fastserve_converters.models.layer_groups import LINEAR, LayerGroup, layer_groups, weight_of
from fastserve_converters.models.model import Part
from fastserve_converters.models.samples import Samples, first
from fastserve_converters.precisions import Activations, Choices, WeightScheme
from fastserve_converters.quantization.assignment import Option, Unit
from fastserve_converters.quantization.fake_quant import fake_quantized
from fastserve_converters.quantization.weights import fits, quantize_nearest, stored_bytes
from fastserve_runtime.errors import EnvironmentFailure


def sensitivities(part: Part, choices: Choices, activations: Activations, samples: Samples) -> tuple[Unit, ...]:
    """Score every layer of a part in every scheme that it may have.

    Args:
        part: of the model.
        choices: the schemes.
        activations: what the layers multiply with.
        samples: calibration inputs; at most the part's `max_scored` are run.

    Raises:
        EnvironmentFailure: the model gives values that are not finite.
    """
    scoring = _Scoring(part, activations, first(samples, part.max_scored))
    return tuple(_unit(part, group, choices, scoring) for group in layer_groups(part, samples))


class _Scoring:
    """Runs a part with some of its layers quantized, from the stage of the first of them on."""

    def __init__(self, part: Part, activations: Activations, samples: Samples) -> None:
        self._part, self._activations, self._samples = part, activations, samples
        with torch.no_grad():
            self._states: list[list[Any]] = [list(part.first_states(samples))]
            for stage in part.stages:
                self._states.append([stage(state) for state in self._states[-1]])
            self._truth = part.results(self._states[-1], samples)
        if not all(np.isfinite(values).all() for values in self._truth.values()):
            raise EnvironmentFailure(
                "The model's output on the calibration data has values that are not finite.",
                "Look for the first layer that gives them; such a model cannot be quantized.",
            )

    def loss(self, layers: Sequence[str], scheme: WeightScheme, start: int) -> float:
        part = self._part
        weights = {name: quantize_nearest(weight_of(part.module, name).numpy(), scheme) for name in layers}
        with fake_quantized(part.module, part.expanded(weights), self._activations), torch.no_grad():
            states = self._states[start]
            for stage in part.stages[start:]:
                states = [stage(state) for state in states]
            return part.loss(self._truth, part.results(states, self._samples))


def _unit(part: Part, group: LayerGroup, choices: Choices, scoring: _Scoring) -> Unit:
    shapes = [tuple(weight_of(part.module, name).shape) for name in group.layers]
    options = [
        Option(
            scheme,
            0.0 if scheme is None else scoring.loss(group.layers, scheme, group.stage),
            sum(stored_bytes(shape, scheme) for shape in shapes),
        )
        for scheme in (choices.linear if group.kind == LINEAR else choices.embedding)
        if scheme is None or all(fits(shape, scheme) for shape in shapes)
    ]
    is_looked_up = isinstance(part.module.get_submodule(group.layers[0]), torch.nn.Embedding)
    macs = 0 if is_looked_up else sum(rows * columns for rows, columns in shapes)
    return Unit(group.layers, macs, tuple(options))
