"""GPTQ for decoders: block by block, so that each block runs a few times and not once for every layer before it.

Layers are rounded as in `quantization.gptq`: those that run on one input together, each seeing what those before it,
already rounded, give. The states between blocks are kept, which is what makes the cost that of a few passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fastserve_converters.models.decoder.form import Block, DecoderForm, WholeSequence
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization.gptq import round_layer, watched_inputs
from fastserve_converters.quantization.weights import QuantizedWeight
from fastserve_converters.recent import Recent
from fastserve_runtime.errors import EnvironmentFailure

_BATCH = 8
"""Sequences that run at once."""
_KEPT = 2
"""So many precisions' blocks stay in memory."""


@dataclass(frozen=True)
class _RoundedBlocks:
    """The blocks' layers as integers, and the second moments of what the head is then given."""

    weights: Mapping[str, QuantizedWeight]
    head_moments: NDArray[np.float64]


class DecoderRounder:
    """Rounds a decoder's layers. What it found for the blocks serves every precision that is the same there."""

    def __init__(self, form: DecoderForm, tokens: NDArray[np.generic]) -> None:
        """Take a decoder and calibration sequences, ids, shape [sequences, tokens]."""
        self._form = form
        self._tokens = tokens
        self._known: Recent[_RoundedBlocks] = Recent(_KEPT)

    def round(self, schemes: Mapping[str, WeightScheme]) -> dict[str, QuantizedWeight]:
        """Round linear layers of blocks, and the head; the form's weights are put back at the end.

        Args:
            schemes: layer → scheme. `embedding` stands for the head where both are one table: rounding by what the
                head is given serves the head, where errors cost most; a look-up has no such moments.

        Raises:
            EnvironmentFailure: a layer's input is not finite, with its name.
        """
        form = self._form
        head = "embedding" if form.is_tied else "head"
        inner = {name: scheme for name, scheme in schemes.items() if name != head}
        key = frozenset(inner.items())
        blocks = self._known.get(key, lambda: _round_blocks(form, inner, self._tokens))
        found = dict(blocks.weights)
        if head in schemes:
            weight = form.get_submodule(head).weight.detach().numpy()  # type: ignore[operator]
            found[head] = round_layer(weight, blocks.head_moments, schemes[head])
        return found


def _round_blocks(
    form: DecoderForm, schemes: Mapping[str, WeightScheme], tokens: NDArray[np.generic]
) -> _RoundedBlocks:
    found: dict[str, QuantizedWeight] = {}
    originals = {name: form.get_submodule(name).weight for name in schemes}
    try:
        with torch.no_grad():
            states = [
                first_states(form, torch.from_numpy(b)) for b in np.array_split(tokens, -(-len(tokens) // _BATCH))
            ]
            for index, block in enumerate(form.layers):
                for names in layers_by_input(block, index):
                    wanted = [name for name in names if name in schemes]
                    if not wanted:
                        continue
                    moments = _moments(form, index, wanted[0], states)
                    for name in wanted:
                        weight = form.get_submodule(name).weight.detach().numpy()  # type: ignore[operator]
                        found[name] = round_layer(weight, moments, schemes[name])
                        _set_weight(form, name, found[name].dequantized())
                states = [block(x, index, WholeSequence(form)) for x in states]
            return _RoundedBlocks(found, _mean_moments([form.norm(x) for x in states], "head"))
    finally:
        for name, original in originals.items():
            form.get_submodule(name).weight = original


def first_states(form: DecoderForm, tokens: torch.Tensor) -> torch.Tensor:
    """Return what the first block is given for sequences of ids, shape [sequences, tokens, width]."""
    x: torch.Tensor = form.embedding(tokens.long())
    if form.embedding_scale != 1.0:
        x = x * form.embedding_scale
    return x if form.positions is None else x + form.positions(torch.arange(tokens.shape[1]))


def layers_by_input(block: Block, index: int) -> list[list[str]]:
    """Return the names of a block's linear layers in the order in which they run, those of one input together."""
    names = [f"blocks.{index}.{n}" for n, m in block.named_modules() if isinstance(m, torch.nn.Linear)]
    order = (
        ("attention.qkv",),
        ("attention.output",),
        ("feed_forward.gate", "feed_forward.up"),
        ("feed_forward.down",),
    )
    return [[n for n in names if n.endswith(endings)] for endings in order]


class _Seen(Exception):
    """Ends a block's run behind the layer that is looked at."""


def _moments(form: DecoderForm, index: int, name: str, states: list[torch.Tensor]) -> NDArray[np.float64]:
    """Return the second moments of a layer's input in a block, shape [columns, columns]."""
    inputs: list[torch.Tensor] = []

    def see(_: str, value: torch.Tensor) -> None:
        inputs.append(value)
        raise _Seen

    with watched_inputs(form, [name], see):
        for x in states:
            with suppress(_Seen):
                form.layers[index](x, index, WholeSequence(form))
    return _mean_moments(inputs, name)


def _mean_moments(inputs: list[torch.Tensor], name: str) -> NDArray[np.float64]:
    rows = torch.cat([x.reshape(-1, x.shape[-1]) for x in inputs])
    if not bool(torch.isfinite(rows).all()):
        raise EnvironmentFailure(
            f"The input of the layer '{name}' has values that are not finite on calibration data.",
            "Such a model cannot be quantized; look for the first layer that gives them.",
        )
    moments: NDArray[np.float64] = (rows.T @ rows).double().numpy() / len(rows)
    return moments


def _set_weight(form: DecoderForm, name: str, values: NDArray[np.float32]) -> None:
    form.get_submodule(name).weight = torch.nn.Parameter(torch.from_numpy(values), requires_grad=False)
