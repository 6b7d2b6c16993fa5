"""How much of a part's outputs each layer loses in each scheme, when it alone is quantized.

The score is the part's own loss. Scores of layers may be added as long as they are small: errors of different layers
are taken for independent, as in HAWQ (arXiv 1911.03852).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastserve_converters.models.model import TracedPart
from fastserve_converters.models.samples import Samples, first
from fastserve_converters.precisions import Activations, Choices, WeightScheme
from fastserve_converters.quantization.assignment import Option, Unit
from fastserve_converters.quantization.fake_quant import fake_quantized
from fastserve_converters.quantization.gptq import layers_by_input
from fastserve_converters.quantization.layers import LINEAR, quantizable_layers, weight_of
from fastserve_converters.quantization.weights import fits, quantize_nearest, stored_bytes
from fastserve_runtime.errors import EnvironmentFailure

MOST_SAMPLES = 64


def sensitivities(part: TracedPart, choices: Choices, activations: Activations, samples: Samples) -> tuple[Unit, ...]:
    """Score every layer of a part in every scheme that it may have.

    Args:
        part: of the model.
        choices: the schemes.
        activations: what the layers multiply with.
        samples: calibration inputs; at most `MOST_SAMPLES` are run.

    Raises:
        EnvironmentFailure: the model gives values that are not finite.
    """
    module = part.module
    few = first(samples, MOST_SAMPLES)
    truth = part.run(few)
    if not all(np.isfinite(values).all() for values in truth.values()):
        raise EnvironmentFailure(
            "The model's output on the calibration data has values that are not finite.",
            "Look for the first layer that gives them; such a model cannot be quantized.",
        )
    kinds = quantizable_layers(module)
    together = layers_by_input(module, [n for n, kind in kinds.items() if kind == LINEAR], few)
    alone = [[name] for name, kind in kinds.items() if kind != LINEAR]

    def loss(names: Sequence[str], scheme: WeightScheme) -> float:
        weights = {name: quantize_nearest(weight_of(module, name).numpy(), scheme) for name in names}
        with fake_quantized(module, weights, activations):
            return part.loss(truth, part.run(few))

    units = []
    for names in (*alone, *together):
        shapes = [tuple(weight_of(module, name).shape) for name in names]
        wanted = choices.linear if kinds[names[0]] == LINEAR else choices.embedding
        options = [
            Option(scheme, 0.0 if scheme is None else loss(names, scheme), sum(stored_bytes(s, scheme) for s in shapes))
            for scheme in wanted
            if scheme is None or all(fits(shape, scheme) for shape in shapes)
        ]
        products = 0 if kinds[names[0]] != LINEAR else sum(rows * columns for rows, columns in shapes)
        units.append(Unit(tuple(names), products, tuple(options)))
    return tuple(units)
