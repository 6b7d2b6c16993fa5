"""A part that is autoregressive: the format decides how it attends and how it keeps its cache.

Today that is a decoder of text with nothing before it. One that also attends to what an encoder gave (T5, Whisper)
would be such a part too, whose form has a second `Attend`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from fastserve_converters.models.decoder.form import Block, DecoderForm, WholeSequence, whole_logits
from fastserve_converters.models.layer_groups import EMBEDDING, quantizable_layers
from fastserve_converters.models.outputs import Outputs, joined_outputs
from fastserve_converters.models.samples import Samples
from fastserve_runtime.conformance.policy import LOG_PROBABILITIES, comparable
from fastserve_runtime.generation import traces

if TYPE_CHECKING:
    from fastserve_converters.precisions import Activations

Weight = TypeVar("Weight")
_TABLE, _HEAD, _POSITIONS = "embedding", "head", "positions"
_COMPARED_TRACES = 4


@dataclass(frozen=True)
class CachedPart:
    """An autoregressive part.

    Its calibration samples are sequences of tokens without padding, `input_ids` of shape [sequences, tokens]. The
    inputs of its references are traces (`fastserve_runtime.generation.traces`), which every variant is made to follow.

    Attributes:
        module: in eval mode; attention is a parameter of it. Its `context` is what the cache must hold.
        batch: how many sequences PyTorch runs at once.
        name: of the part.
    """

    form: ClassVar[Literal["cached"]] = "cached"
    max_scored: ClassVar[int] = 2
    """As many calibration samples are run when layers are scored."""
    also_compared: ClassVar[tuple[Activations, ...]] = ("float32",)
    """What an artifact's layers may multiply with instead of what its precision says: some engines round activations by
    groups of columns, to which floats are nearer than one scale a token."""

    module: DecoderForm
    batch: int = 8
    name: str = "decoder"

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The part over whole sequences, without a cache, as `torch.export` traces it.

        It is what an artifact's values inside are compared with; artifacts are made of the module.
        """
        from fastserve_converters.models.decoder.next_token import whole_program

        return whole_program(self.module)

    def with_axes(self, *, is_open: bool) -> CachedPart:  # noqa: ARG002 -- a traced part needs it
        """Return the part itself: how many tokens it takes is always open."""
        return self

    @cached_property
    def layers(self) -> dict[str, str]:
        """Names of the layers that can be quantized → `linear` or `embedding`, whose scheme of a precision they have.

        A head of its own has the embedding's scheme; one that multiplies with the embedding is none. Learned positions
        stay in float.
        """
        left_out = {_POSITIONS, *([_HEAD] if self.module.is_tied else [])}
        found = {name: kind for name, kind in quantizable_layers(self.module).items() if name not in left_out}
        return {name: EMBEDDING if name == _HEAD else kind for name, kind in found.items()}

    def multiplies(self, layer: str) -> str | None:
        """Return the linear layer that multiplies with a stored weight; None where it is only looked up."""
        if layer == _TABLE:
            return _HEAD if self.module.is_tied else None
        return layer

    def expanded(self, weights: Mapping[str, Weight]) -> Mapping[str, Weight]:
        """Return weights with those of layers that have none of their own: the head's, if the embedding is its."""
        is_shared = self.module.is_tied and _TABLE in weights
        return {**weights, _HEAD: weights[_TABLE]} if is_shared else weights

    @cached_property
    def stages(self) -> tuple[Callable[[Any], Any], ...]:
        """What the part does one after another: it looks tokens up, runs a block after the other, and scores."""
        form = self.module
        blocks = [_block(form, block, number) for number, block in enumerate(form.layers)]
        return (form.embedded, *blocks, lambda states: form.logits(form.norm(states)))

    def first_states(self, samples: Samples) -> list[torch.Tensor]:
        """Return what the first stage takes: ids, a batch of sequences each."""
        ids = samples["input_ids"]
        return [torch.from_numpy(rows) for rows in np.array_split(ids, -(-len(ids) // self.batch))]

    def results(self, states: Iterable[Any], samples: Samples) -> dict[str, NDArray[np.float32]]:  # noqa: ARG002
        """Return log-probabilities of every next token, shape [sequences, tokens, vocabulary].

        Args:
            states: what the last stage gave for each batch.
            samples: all inputs.
        """
        return joined_outputs({traces.LOG_PROBABILITIES: torch.log_softmax(s, -1).numpy()} for s in states)

    def loss(self, truth: Outputs, found: Outputs) -> float:
        """Return how much outputs lost: the mean Kullback-Leibler divergence of the next token's distribution, in nats.

        Args:
            truth: as `results` gives them.
            found: likewise, with layers quantized.
        """
        exact, actual = (torch.from_numpy(side[traces.LOG_PROBABILITIES]) for side in (truth, found))
        return float((exact.exp() * (exact - actual)).sum(-1).mean().clamp(min=0))

    def compared(self, evaluation: int) -> slice:
        """Return which traces of a reference an artifact is compared on: the first golden ones.

        Args:
            evaluation: how many of them are evaluation traces; the golden ones follow.
        """
        return slice(evaluation, evaluation + _COMPARED_TRACES)

    def evaluate(self, inputs: Samples) -> dict[str, NDArray[np.float32]]:
        """Return log-probabilities on traces of a reference, as `by_sample` gives them."""
        outputs = traces.empty_outputs(inputs)
        with torch.no_grad():
            for row, trace in enumerate(traces.traces(inputs)):
                logits = whole_logits(self.module, torch.from_numpy(trace.tokens[None].astype(np.int64))).numpy()
                for position in range(trace.prompt - 1, len(trace.tokens) - 1):
                    traces.record(outputs, row, position, logits[position], trace)
        return self.by_sample(outputs, inputs)

    def by_sample(self, outputs: Mapping[str, NDArray[Any]], inputs: Samples) -> dict[str, NDArray[np.float32]]:
        """Return the log-probabilities of all scored positions, one behind the other, so that they can be compared.

        Args:
            outputs: of traces; further ones are left out.
            inputs: the traces.
        """
        scored = np.asarray(inputs[traces.SCORED], bool)
        name = traces.LOG_PROBABILITIES
        values = np.asarray(outputs[name], np.float32)[scored]
        return {name: np.asarray(comparable(LOG_PROBABILITIES, values), np.float32)}


def _block(form: DecoderForm, block: Block, number: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def run(states: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = block(states, number, WholeSequence(form))
        return result

    return run
