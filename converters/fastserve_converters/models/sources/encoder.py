"""Encoders of texts: one traced part, the exportable model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.models.checkpoint_source import CheckpointSource

if TYPE_CHECKING:
    from fastserve_converters.models.exportable_model import ExportableModel
    from fastserve_converters.models.model import Form, Model, TracedPart
    from fastserve_converters.models.samples import Samples
    from fastserve_converters.quantized_weight import QuantizedWeight

PARTS: Mapping[str, Form] = {"main": "traced"}

_PROOF_SAMPLES = 16


def open_source(source: Mapping[str, Any]) -> EncoderSource:
    """Return the encoder that a job's `source` names; see `ModelKind`."""
    return EncoderSource(source)


class EncoderSource(CheckpointSource):
    """An encoder's checkpoint; see `ModelSource`."""

    def reference(self, request: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Run the original on evaluation and golden texts; see `ModelSource`."""
        from fastserve_converters.models.reference import build_reference

        loaded, seconds = self.timed_original()
        description = build_reference(out, self.loaded_checkpoint(), self.prepared_inputs(request, out))
        return {**description, "notes": [*loaded.notes, *description["notes"]], "load_seconds": seconds}

    def model(self) -> Model:
        """Return the exportable model as a model; see `ModelSource`."""
        from fastserve_converters.models.model import Model

        return Model({self._part.name: self._part})

    def prove(self, reference: Path) -> float:
        """Compare the exportable model with the reference's outputs; see `ModelSource`."""
        import numpy as np
        import torch

        from fastserve_converters.models.exportable_model import prove_equal
        from fastserve_converters.models.reference import INPUTS, OUTPUTS

        with np.load(reference / INPUTS) as inputs, np.load(reference / OUTPUTS) as outputs:
            # Spread over the evaluation texts, and the goldens at the end with their extremes.
            count = len(inputs["input_ids"])
            rows = sorted({int(i) for i in np.linspace(0, count - 1, _PROOF_SAMPLES)} | set(range(count - 4, count)))
            given, expected = (
                {name: torch.from_numpy(arrays[name][rows]) for name in arrays.files} for arrays in (inputs, outputs)
            )
        return prove_equal(self._exportable_model, given, expected)

    def calibration(self, file: Path) -> Samples:
        """Return padded calibration texts; see `ModelSource`."""
        from fastserve_converters.models import calibration
        from fastserve_converters.models.calibration import check_activations

        samples = calibration.read(file, self.length)
        check_activations(self._part, samples)
        return samples

    def stored_weights(self) -> Mapping[str, QuantizedWeight]:
        """Refuse: integers of a checkpoint's own are kept of decoders alone; see `ModelSource`."""
        from fastserve_converters.models.decoder.own_quantized_weights import no_quantized_weights

        raise no_quantized_weights()

    @cached_property
    def _exportable_model(self) -> ExportableModel:
        from fastserve_converters.models.exportable_model import build_exportable_model

        model = self.original().model
        self.forget_original()  # the exportable model uses it up
        return build_exportable_model(model, self.checkpoint, self.length)

    @cached_property
    def _part(self) -> TracedPart:
        from fastserve_converters.models.encoder_signature import encoder_part

        return encoder_part(self._exportable_model, self.length)
