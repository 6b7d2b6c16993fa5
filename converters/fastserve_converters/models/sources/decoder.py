"""Decoders of text: one cached part, the common form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.models.checkpoint_source import CheckpointSource
from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    import torch

    from fastserve_converters.checkpoints.model_loading import LoadedModel
    from fastserve_converters.models.cached_part import CachedPart
    from fastserve_converters.models.model import Form, Model
    from fastserve_converters.models.samples import Samples
    from fastserve_converters.quantized_weight import QuantizedWeight

PARTS: Mapping[str, Form] = {"decoder": "cached"}

MIN_CALIBRATION = 4
_PROVEN_TRACES = 2


def open_source(source: Mapping[str, Any]) -> DecoderSource:
    """Return the decoder that a job's `source` names; see `ModelKind`."""
    return DecoderSource(source)


class DecoderSource(CheckpointSource):
    """A decoder's checkpoint; see `ModelSource`."""

    def reference(self, request: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Run the original on traces and golden prompts; see `ModelSource`."""
        from fastserve_converters.checkpoints.longrope import longrope_notes
        from fastserve_converters.models.decoder.reference import build_reference

        loaded, seconds = self.timed_original()
        description = build_reference(out, self.loaded_checkpoint(), self.prepared_inputs(request, out))
        notes = [
            *description["notes"],
            *loaded.notes,
            *longrope_notes(self.checkpoint.config, self.length),
        ]
        return {**description, "notes": notes, "load_seconds": seconds}

    def model(self) -> Model:
        """Return the common form as a model; see `ModelSource`."""
        from fastserve_converters.models.model import Model

        return Model({self._part.name: self._part})

    def prove(self, reference: Path) -> float:
        """Compare the common form with the original on the reference's traces; see `ModelSource`."""
        from fastserve_converters.models.decoder.proof import prove_equal

        difference = prove_equal(self._part.module, self.original().model, _sequences(reference))
        self.forget_original()
        return difference

    def calibration(self, file: Path) -> Samples:
        """Return calibration sequences; see `ModelSource`."""
        from fastserve_converters.models.samples import read_samples_file

        samples = read_samples_file(file)
        count, length = samples["input_ids"].shape
        if count < MIN_CALIBRATION:
            raise UsageError(
                f"There are {count} calibration sequences of {length} tokens; at least {MIN_CALIBRATION} are needed.",
                "Give more texts with --data: those that are not used to judge quality are used to calibrate.",
            )
        return samples

    def stored_weights(self) -> Mapping[str, QuantizedWeight]:
        """Return the quantized weights of a GGUF file, or of a checkpoint that another library has quantized."""
        from fastserve_converters.checkpoints.quantized.weights import stored_layers
        from fastserve_converters.models.decoder.own_quantized_weights import own_quantized_weights

        checkpoint = self.checkpoint
        if checkpoint.gguf is not None or checkpoint.quantization is None:
            return own_quantized_weights(self._part.module, checkpoint.gguf)
        layers = stored_layers(checkpoint.quantization, checkpoint.path, checkpoint.weights)
        return own_quantized_weights(self._part.module, layers)

    def load(self) -> LoadedModel:
        """Load the model, with its context's rotary factors. The form shares its weights and leaves it as it is."""
        from fastserve_converters.checkpoints.longrope import fix_long_factors, takes_long_factors

        loaded = super().load()
        if takes_long_factors(self.checkpoint.config, self.length):
            fix_long_factors(loaded.model, self.checkpoint.config)
        return loaded

    @cached_property
    def _part(self) -> CachedPart:
        from fastserve_converters.models.cached_part import CachedPart
        from fastserve_converters.models.decoder.reading import read_decoder

        return CachedPart(read_decoder(self.original().model, self.length))


def _sequences(reference: Path) -> Iterator[torch.Tensor]:
    """Give the first traces of a reference, and its shortest, as ids of shape [1, tokens]."""
    import numpy as np
    import torch

    from fastserve_converters.models.reference import INPUTS
    from fastserve_converters.models.samples import read_samples_file
    from fastserve_runtime.generation import traces

    found = list(traces.traces(read_samples_file(reference / INPUTS)))
    shortest = sorted(found, key=lambda trace: len(trace.tokens))[:_PROVEN_TRACES]
    for trace in (*found[:_PROVEN_TRACES], *shortest):
        yield torch.tensor(trace.tokens[None].astype(np.int64))
