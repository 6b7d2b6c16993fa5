"""The jobs of an export of a decoder; what was loaded and made stays in memory for the next."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.longrope import fix_long_factors, longrope_notes, takes_long_factors
from fastserve_converters.checkpoints.model_loading import LoadedModel, load_with_notes
from fastserve_converters.checkpoints.quantized.weights import StoredLayers, stored_layers
from fastserve_converters.checkpoints.tokenizer_checks import check_vocabulary, embedding_rows
from fastserve_converters.checkpoints.tokenizer_loading import load_tokenizer
from fastserve_converters.formats import DecoderFormat, DecoderJob, check_installed, check_precision, decoder_format
from fastserve_converters.models.checkpoint_source import checkpoint_of, requested_texts
from fastserve_converters.models.decoder.form import DecoderForm, whole_logits
from fastserve_converters.models.decoder.integers import decoder_assignment, decoder_weights
from fastserve_converters.models.decoder.proof import prove_equal
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_converters.models.decoder.reference import build_reference
from fastserve_converters.models.decoder.rounding import DecoderRounder
from fastserve_converters.models.reference import CALIBRATION, INPUTS
from fastserve_converters.models.samples import Samples
from fastserve_converters.precisions import Activations, Precision
from fastserve_converters.quantization import twin
from fastserve_converters.quantization.fake_quant import fake_quantized
from fastserve_converters.quantization.layers import check_finite
from fastserve_converters.quantization.recipe import recipe_document
from fastserve_converters.quantization.weights import QuantizedWeight
from fastserve_converters.recent import Recent
from fastserve_converters.worker.job_requests import (
    ARTIFACT,
    KEPT_WEIGHTS,
    SENSITIVITY,
    SIGNATURE,
    TWIN,
    Handler,
    calibration_place,
)
from fastserve_runtime.conformance.policy import LOG_PROBABILITIES, comparable
from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation import traces

LEAST_CALIBRATION = 4
_PROVEN_TRACES = 2
_TWIN_TRACES = 4
_FLOAT: Activations = "float32"


class DecoderJobs:
    """Does jobs on one decoder; see `fastserve_converters.worker.jobs`."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self._source = source
        self._model: LoadedModel | None = None
        self._known_form: DecoderForm | None = None
        self._rounders: Recent[DecoderRounder] = Recent(1)
        self._weights: Recent[dict[str, QuantizedWeight]] = Recent(KEPT_WEIGHTS)
        self.handlers: Mapping[str, Handler] = {
            "reference": self._reference,
            "program": self._prove_form,
            "sensitivity": self._sensitivity,
            "artifact": self._artifact,
            "twin": self._twin,
        }

    def _reference(self, request: Mapping[str, Any], out: Path) -> Any:
        checkpoint = self._checkpoint
        started = time.perf_counter()
        loaded = self._loaded()
        load_seconds = time.perf_counter() - started
        split = requested_texts(request, checkpoint)
        tokenizer = load_tokenizer(checkpoint)
        vocabulary_note = check_vocabulary(tokenizer, embedding_rows(loaded.model))
        description = build_reference(
            out, checkpoint, loaded.model, tokenizer, checkpoint.generation(), split, self._source["length"]
        )
        notes = [
            *description["notes"],
            *loaded.notes,
            *filter(None, [vocabulary_note]),
            *longrope_notes(checkpoint.config, self._source["length"]),
        ]
        return {**description, "notes": notes, "load_seconds": load_seconds}

    def _prove_form(self, request: Mapping[str, Any], out: Path) -> Any:
        """Read the model into the common form, and prove it equal to the original on the reference's own traces."""
        model = self._loaded().model
        form = self._form()
        found = list(traces.traces(_arrays(Path(request["reference"]) / INPUTS)))
        chosen = [*found[:_PROVEN_TRACES], *sorted(found, key=lambda t: len(t.tokens))[:_PROVEN_TRACES]]
        difference = prove_equal(form, model, [torch.tensor(t.tokens[None].astype(np.int64)) for t in chosen])
        self._model = None
        document = {
            "largest_difference": difference,
            "modules": [[name, type(module).__name__] for name, module in form.named_modules()],
        }
        (out / SIGNATURE).write_text(json.dumps(document))
        return document

    def _sensitivity(self, request: Mapping[str, Any], out: Path) -> Any:
        """Score every layer in the schemes that a format's mixed precision may give it."""
        from fastserve_converters.models.decoder.sensitivity import SEQUENCES, decoder_sensitivities
        from fastserve_converters.quantization.assignment import units_document

        plan = self._plan(request)[1]
        assert plan.choices is not None
        form = self._form()
        check_finite(form)
        ids = self._calibration(request)["input_ids"]
        units = decoder_sensitivities(form, plan.choices, plan.activations, ids)
        layers = {name for unit in units for name in unit.layers} | ({"head"} if form.is_tied else set())
        rest = [p for name, p in form.named_parameters() if name.removesuffix(".weight") not in layers]
        document = {
            "samples": min(len(ids), SEQUENCES),
            "other_bytes": sum(4 * p.numel() for p in rest),
            "units": units_document(units),
        }
        (out / SENSITIVITY).write_text(json.dumps(document))
        return document

    def _artifact(self, request: Mapping[str, Any], out: Path) -> Any:
        decoders, plan = self._plan(request)
        job = DecoderJob(
            form=self._form(),
            precision=request["precision"],
            plan=plan,
            weights=self._quantized(plan, request),
            prompts=request["prompts"],
            out=out,
        )
        samples = len(self._calibration(request)["input_ids"]) if plan.needs_calibration else 0
        document = {
            **decoders.export(job).as_document(),
            "recipe": recipe_document(plan, request["assignment"], samples),
        }
        (out / ARTIFACT).write_text(json.dumps(document))
        return document

    def _twin(self, request: Mapping[str, Any], out: Path) -> Any:
        """Compare an artifact's outputs on golden traces with those of the same quantized model in PyTorch."""
        plan = self._plan(request)[1]
        form = self._form()
        rows = slice(request["evaluation"], request["evaluation"] + _TWIN_TRACES)
        inputs = {n: v[rows] for n, v in _arrays(Path(request["reference"]) / INPUTS).items()}
        actual = _arrays(Path(request["outputs"]))[traces.LOG_PROBABILITIES][rows]
        weights = self._quantized(plan, request)
        if form.is_tied and "embedding" in weights:
            weights = {**weights, "head": weights["embedding"]}
        scored = np.asarray(inputs[traces.SCORED], bool)
        name = traces.LOG_PROBABILITIES
        given = comparable(LOG_PROBABILITIES, actual[scored]).astype(np.float32)
        # Engines round activations by token or by groups of columns: whichever of these is nearer counts.
        twins = [_thoughts(form, weights, kind, inputs)[scored] for kind in dict.fromkeys((plan.activations, _FLOAT))]
        found = [
            twin.comparison(
                {name: comparable(LOG_PROBABILITIES, t).astype(np.float32)},
                {name: given},
                "the same integers in PyTorch",
            )
            for t in twins
        ]
        document = max(found, key=lambda d: np.inf if d["sqnr_db"] is None else d["sqnr_db"])
        (out / TWIN).write_text(json.dumps(document))
        return document

    def _plan(self, request: Mapping[str, Any]) -> tuple[DecoderFormat, Precision]:
        exporter = check_installed(request["format"])
        decoders = decoder_format(exporter)
        if decoders is None:
            raise UsageError(f"The format {exporter.NAME} has no decoders of text.", "Name another with --format.")
        check_precision(exporter.NAME, decoders.PRECISIONS, request["precision"])
        return decoders, decoders.PRECISIONS[request["precision"]]

    def _calibration(self, request: Mapping[str, Any]) -> Samples:
        """Return the calibration sequences that a reference wrote.

        Raises:
            UsageError: they are too few to round by, or to choose.
        """
        samples = _arrays(Path(request["reference"]) / CALIBRATION)
        count, length = samples["input_ids"].shape
        if count < LEAST_CALIBRATION:
            raise UsageError(
                f"There are {count} calibration sequences of {length} tokens; at least {LEAST_CALIBRATION} are needed.",
                "Give more texts with --data: those that are not used to judge quality are used to calibrate.",
            )
        return samples

    def _quantized(self, plan: Precision, request: Mapping[str, Any]) -> dict[str, QuantizedWeight]:
        """Return the integers of a precision; the last few are kept."""
        form = self._form()
        schemes = decoder_assignment(form, plan, request["assignment"])
        key = (plan.rounding, calibration_place(request), frozenset(schemes.items()))

        def made() -> dict[str, QuantizedWeight]:
            rounder = self._rounder(request) if plan.rounding == "gptq" else None
            return decoder_weights(form, schemes, plan, rounder, self._own_integers())

        return self._weights.get(key, made)

    def _rounder(self, request: Mapping[str, Any]) -> DecoderRounder:
        return self._rounders.get(
            calibration_place(request), lambda: DecoderRounder(self._form(), self._calibration(request)["input_ids"])
        )

    def _own_integers(self) -> Path | StoredLayers | None:
        """Return where the checkpoint has integers of its own."""
        checkpoint = self._checkpoint
        if checkpoint.gguf is not None or checkpoint.quantization is None:
            return checkpoint.gguf
        return stored_layers(checkpoint.quantization, checkpoint.path, checkpoint.weights)

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return checkpoint_of(self._source)

    def _loaded(self) -> LoadedModel:
        """Return the model, with its context's rotary factors. The form shares its weights and leaves it as it is."""
        if self._model is None:
            self._model = load_with_notes(self._checkpoint, trust_remote_code=self._source["trust_remote_code"])
            if takes_long_factors(self._checkpoint.config, self._source["length"]):
                fix_long_factors(self._model.model, self._checkpoint.config)
        return self._model

    def _form(self) -> DecoderForm:
        if self._known_form is None:
            self._known_form = read_decoder(self._loaded().model, self._source["length"])
        return self._known_form


def _thoughts(
    form: DecoderForm, weights: Mapping[str, QuantizedWeight], activations: Activations, inputs: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Return what the quantized form thinks of traces, as `log_probabilities` of `generation.traces`."""
    outputs = traces.empty_outputs(inputs)
    with fake_quantized(form, weights, activations), torch.no_grad():
        for row, trace in enumerate(traces.traces(inputs)):
            logits = whole_logits(form, torch.from_numpy(trace.tokens[None].astype(np.int64))).numpy()
            for position in range(trace.prompt - 1, len(trace.tokens) - 1):
                traces.record(outputs, row, position, logits[position], trace)
    return np.asarray(outputs[traces.LOG_PROBABILITIES], np.float32)


def _arrays(file: Path) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
