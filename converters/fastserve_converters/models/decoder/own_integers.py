"""Integers that a checkpoint itself has, of a decoder's layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastserve_converters.models.decoder.form import DecoderForm
from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    from fastserve_converters.checkpoints.quantized.weights import StoredLayers
    from fastserve_converters.quantization.weights import QuantizedWeight

_REMEDY = "Name another precision, or a GGUF file of type Q4_0, Q4_1 or Q8_0, or a checkpoint of GPTQ or AWQ."


def own_integers(form: DecoderForm, source: Path | StoredLayers | None) -> dict[str, QuantizedWeight]:
    """Return the integers of every layer that has them on a grid that can be kept.

    Args:
        form: the decoder.
        source: a GGUF file, or the tensors of a checkpoint that another library has quantized, or None.

    Raises:
        UsageError: there are none.
    """
    if source is None:
        raise no_integers()
    found: dict[str, QuantizedWeight]
    if isinstance(source, Path):
        from fastserve_converters.models.decoder.gguf_grids import gguf_grids

        found, name = gguf_grids(source, form), source.name
    else:
        from fastserve_converters.models.decoder.checkpoint_grids import checkpoint_grids

        found, name = checkpoint_grids(source, form), source.files[0].name
    if not found:
        raise UsageError(f"No layer of '{name}' has integers that can be kept as they are.", _REMEDY)
    return found


def no_integers() -> UsageError:
    """Return the error that a checkpoint has none of its own."""
    return UsageError("The precision 'source' keeps a checkpoint's own integers; this one has floats.", _REMEDY)
