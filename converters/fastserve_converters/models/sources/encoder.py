"""Encoders of texts: one traced part, the edge form."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.model_loading import LoadedModel, load_with_notes
from fastserve_converters.models.checkpoint_source import checkpoint_of, requested_texts
from fastserve_converters.models.edge_form import EdgeForm, build_edge_form, prove_equal
from fastserve_converters.models.encoder_signature import encoder_part
from fastserve_converters.models.model import Model
from fastserve_converters.models.reference import INPUTS, OUTPUTS, build_reference
from fastserve_converters.models.samples import Samples
from fastserve_converters.quantization import calibration

_PROOF_SAMPLES = 16


def open_source(source: Mapping[str, Any]) -> EncoderSource:
    """Return the encoder that a job's `source` names; see `ModelKind`."""
    return EncoderSource(source)


class EncoderSource:
    """An encoder's checkpoint; see `ModelSource`."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self._source = source
        self._loaded: LoadedModel | None = None

    def reference(self, request: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Run the original on evaluation and golden texts; see `ModelSource`."""
        started = time.perf_counter()
        loaded = self._original()
        load_seconds = time.perf_counter() - started
        split = requested_texts(request, self._checkpoint)
        description = build_reference(out, self._checkpoint, loaded.model, split, self._length)
        return {**description, "notes": [*loaded.notes, *description["notes"]], "load_seconds": load_seconds}

    def model(self) -> Model:
        """Return the edge form as a model; see `ModelSource`."""
        return self._model

    def prove(self, reference: Path) -> float:
        """Compare the edge form with the reference's outputs; see `ModelSource`."""
        with np.load(reference / INPUTS) as inputs, np.load(reference / OUTPUTS) as outputs:
            # Spread over the evaluation texts, and the goldens at the end with their extremes.
            count = len(inputs["input_ids"])
            rows = sorted({int(i) for i in np.linspace(0, count - 1, _PROOF_SAMPLES)} | set(range(count - 4, count)))
            given, expected = (
                {name: torch.from_numpy(arrays[name][rows]) for name in arrays.files} for arrays in (inputs, outputs)
            )
        return prove_equal(self._edge_form, given, expected)

    def calibration(self, reference: Path) -> Samples:
        """Return padded calibration texts; see `ModelSource`."""
        return calibration.read(reference, self._length)

    @property
    def _length(self) -> int:
        length: int = self._source["length"]
        return length

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return checkpoint_of(self._source)

    def _original(self) -> LoadedModel:
        """Return the untouched model. Making the edge form uses it up."""
        if self._loaded is None:
            self._loaded = load_with_notes(self._checkpoint, trust_remote_code=self._source["trust_remote_code"])
        return self._loaded

    @cached_property
    def _edge_form(self) -> EdgeForm:
        model, self._loaded = self._original().model, None
        return build_edge_form(model, self._checkpoint, self._length)

    @cached_property
    def _model(self) -> Model:
        part = encoder_part(self._edge_form, self._length)
        return Model({part.name: part})
