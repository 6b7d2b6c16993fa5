"""What each layer of a decoder costs in each scheme, when it alone is quantized: divergence from the form's own tokens.

The score is the mean Kullback-Leibler divergence of the next token's distribution, in nats. Scores of layers may be
added as long as they are small, since their errors are taken for independent, as in HAWQ (arXiv 1911.03852). What lies
before a layer is not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fastserve_converters.models.decoder.form import DecoderForm, WholeSequence
from fastserve_converters.models.decoder.integers import EMBEDDING, HEAD
from fastserve_converters.models.decoder.rounding import first_states, layers_by_input
from fastserve_converters.precisions import Activations, Choices, WeightScheme
from fastserve_converters.quantization.assignment import Option, Unit
from fastserve_converters.quantization.fake_quant import fake_quantized
from fastserve_converters.quantization.layers import weight_of
from fastserve_converters.quantization.weights import fits, quantize_nearest, stored_bytes

SEQUENCES = 2

_Loss = Callable[[Sequence[str], WeightScheme, int], float]
"""What some layers cost in a scheme; the blocks before the one of that number are not affected (-1: all are)."""


def decoder_sensitivities(
    form: DecoderForm, choices: Choices, activations: Activations, tokens: NDArray[np.generic]
) -> tuple[Unit, ...]:
    """Score every layer of a decoder in every scheme that it may have.

    Args:
        form: the decoder.
        choices: the schemes.
        activations: what the layers multiply with.
        tokens: calibration sequences, shape [sequences, tokens]; the first `SEQUENCES` are run.
    """
    with torch.no_grad():
        states = [first_states(form, torch.from_numpy(tokens[:SEQUENCES]))]
        for index, block in enumerate(form.layers):
            states.append(block(states[-1], index, WholeSequence(form)))
        truth = torch.log_softmax(_head(form, states[-1]), -1)

        def loss(names: Sequence[str], scheme: WeightScheme, start: int) -> float:
            weights = {name: quantize_nearest(weight_of(form, name).numpy(), scheme) for name in names}
            with fake_quantized(form, weights, activations):
                x = states[start] if start >= 0 else first_states(form, torch.from_numpy(tokens[:SEQUENCES]))
                for index in range(max(start, 0), len(form.layers)):
                    x = form.layers[index](x, index, WholeSequence(form))
                found = torch.log_softmax(_head(form, x), -1)
            return float((truth.exp() * (truth - found)).sum(-1).mean().clamp(min=0))

        return tuple(_units(form, choices, loss))


def _units(form: DecoderForm, choices: Choices, loss: _Loss) -> Iterator[Unit]:
    tables = [EMBEDDING, HEAD] if form.is_tied else [EMBEDDING]
    groups: list[tuple[list[str], int, tuple[WeightScheme | None, ...]]] = [(tables, -1, choices.embedding)]
    if not form.is_tied:
        groups.append(([HEAD], len(form.layers), choices.embedding))
    for index, block in enumerate(form.layers):
        groups += [(names, index, choices.linear) for names in layers_by_input(block, index) if names]
    for names, start, schemes in groups:
        stored = names[:1] if names == tables else names
        shapes = [tuple(weight_of(form, name).shape) for name in stored]
        options = [
            Option(s, 0.0 if s is None else loss(names, s, start), sum(stored_bytes(shape, s) for shape in shapes))
            for s in schemes
            if s is None or all(fits(shape, s) for shape in shapes)
        ]
        products = 0 if start < 0 else sum(rows * columns for rows, columns in shapes)
        yield Unit(tuple(stored), products, tuple(options))


def _head(form: DecoderForm, states: torch.Tensor) -> torch.Tensor:
    return form.logits(form.norm(states))
