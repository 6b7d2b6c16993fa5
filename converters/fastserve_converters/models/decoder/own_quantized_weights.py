"""Integers that a checkpoint itself has, of a decoder's layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastserve_converters.models.decoder.form import DecoderForm
from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    from fastserve_converters.checkpoints.quantized.weights import StoredLayers
    from fastserve_converters.quantized_weight import QuantizedWeight

_REMEDY = "Name another precision, or a GGUF file of type Q4_0, Q4_1 or Q8_0, or a checkpoint of GPTQ or AWQ."


def own_quantized_weights(form: DecoderForm, source: Path | StoredLayers | None) -> dict[str, QuantizedWeight]:
    """Return the quantized weights of every layer that has some that can be kept.

    Args:
        form: the decoder.
        source: a GGUF file, or the tensors of a checkpoint that another library has quantized, or None.

    Raises:
        UsageError: there are none.
    """
    if source is None:
        raise no_quantized_weights()
    found: dict[str, QuantizedWeight]
    if isinstance(source, Path):
        from fastserve_converters.models.decoder.gguf_weights import gguf_weights

        found, name = gguf_weights(source, form), source.name
    else:
        from fastserve_converters.models.decoder.checkpoint_weights import checkpoint_weights

        found, name = checkpoint_weights(source, form), source.files[0].name
    if not found:
        raise UsageError(f"No layer of '{name}' has quantized weights that can be kept as they are.", _REMEDY)
    return found


def no_quantized_weights() -> UsageError:
    """Return the error that a checkpoint has none of its own."""
    return UsageError(
        "The precision 'source' keeps a checkpoint's own quantized weights; this one has floats.", _REMEDY
    )
