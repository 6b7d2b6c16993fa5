"""Which scheme each layer of a decoder gets, and its weights as integers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastserve_converters.checkpoints.quantized.weights import StoredLayers
from fastserve_converters.models.decoder.form import DecoderForm
from fastserve_converters.models.decoder.own_integers import own_integers
from fastserve_converters.models.decoder.rounding import DecoderRounder
from fastserve_converters.precisions import Precision, WeightScheme
from fastserve_converters.quantization.layers import Assignment, assignment, check_finite, weight_of
from fastserve_converters.quantization.weights import QuantizedWeight, fits, quantize_nearest

EMBEDDING, HEAD, POSITIONS = "embedding", "head", "positions"


def decoder_assignment(form: DecoderForm, plan: Precision, given: Mapping[str, Any] | None = None) -> Assignment:
    """Return the scheme of every layer that a precision quantizes; see `quantization.layers.assignment`.

    The head has the embedding's scheme unless it was given its own, and no entry where both are one table. Learned
    positions stay in float.
    """
    schemes = dict(assignment(form, plan, given))
    schemes.pop(POSITIONS, None)
    if form.is_tied or given is None:
        schemes.pop(HEAD, None)
    if not form.is_tied and given is None and EMBEDDING in schemes:
        wanted = schemes[EMBEDDING]
        schemes[HEAD] = wanted if fits(tuple(weight_of(form, HEAD).shape), wanted) else WeightScheme(8)
    return schemes


def decoder_weights(
    form: DecoderForm,
    schemes: Assignment,
    plan: Precision,
    rounder: DecoderRounder | None,
    source: Path | StoredLayers | None,
) -> dict[str, QuantizedWeight]:
    """Return the integers of every layer in an assignment.

    Args:
        form: the decoder.
        schemes: of `decoder_assignment`.
        plan: the precision; its `rounding` may also be `source`: the checkpoint's own integers where it has them.
        rounder: does GPTQ, where the precision wants it.
        source: where the checkpoint has integers of its own, if it has; see `own_integers`.

    Raises:
        EnvironmentFailure: a weight is not finite, with the layer's name.
        UsageError: the checkpoint has no integers of its own, and they are wanted.
    """
    check_finite(form)
    found: dict[str, QuantizedWeight] = {}
    if plan.rounding == "gptq":
        assert rounder is not None
        fine = {name: s for name, s in schemes.items() if s.bits < 8 and (name != EMBEDDING or form.is_tied)}
        found = rounder.round(fine) if fine else {}
    elif plan.rounding == "source":
        found = own_integers(form, source)
    return {
        name: found[name] if name in found else quantize_nearest(weight_of(form, name).numpy(), scheme)
        for name, scheme in schemes.items()
    }
