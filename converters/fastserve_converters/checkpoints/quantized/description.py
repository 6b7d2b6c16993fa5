"""What a checkpoint says of how it is quantized, read without loading anything."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve_converters.checkpoints.quantized.layout import REMEDY, Layout
from fastserve_converters.checkpoints.sentence_transformers import read_json
from fastserve_runtime.errors import UsageError

KEYS = ("quantization_config", "compression_config")
"""Of a config; the second is that of older versions of compressed-tensors."""
_FILE_OF_OLD = "quantize_config.json"
"""Where AutoGPTQ had its settings before they were in the config."""
_LAYOUTS: Mapping[str, str] = {
    "gptq": "gptq_layout",
    "awq": "awq_layout",
    "fp8": "float8_layout",
    "fbgemm_fp8": "float8_layout",
    "compressed-tensors": "compressed_tensors_layout",
    "bitsandbytes": "bitsandbytes_layout",
}


@dataclass(frozen=True)
class Quantization:
    """How a checkpoint is quantized.

    Attributes:
        method: as `quant_method` names it.
        settings: the rest of the `quantization_config`.
        words: a description in a few words.
    """

    method: str
    settings: Mapping[str, Any]
    words: str

    @property
    def layout(self) -> Layout:
        """How its weights are stored."""
        return _layout(self.method)


def find_quantization(folder: Path, config: Mapping[str, Any]) -> Quantization | None:
    """Return how a checkpoint is quantized, or None where its weights are floats.

    Args:
        folder: the checkpoint's.
        config: the content of its `config.json`.

    Raises:
        UsageError: it is quantized in a way that is not supported.
    """
    settings = next((config[key] for key in KEYS if config.get(key) is not None), None)
    old = folder / _FILE_OF_OLD
    if settings is None and old.is_file():
        settings = {"quant_method": "gptq", **_object(read_json(old), old.name)}
    if settings is None:
        return None
    settings = _object(settings, KEYS[0])
    method = _method(settings)
    if method not in _LAYOUTS:
        raise UsageError(
            f"The checkpoint is quantized by '{method}', which is not supported; supported are "
            f"{', '.join(sorted(_LAYOUTS))}.",
            REMEDY,
        )
    return Quantization(method, settings, _layout(method).check(settings))


def _method(settings: Mapping[str, Any]) -> str:
    named = settings.get("quant_method")
    if named is None and (settings.get("load_in_8bit") or settings.get("load_in_4bit")):
        return "bitsandbytes"
    method = str(named).lower()
    return "bitsandbytes" if method.startswith("bitsandbytes") else method


def _layout(method: str) -> Layout:
    layout: Layout = importlib.import_module(f"{__package__}.{_LAYOUTS[method]}")
    return layout


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"The checkpoint's '{name}' is not a JSON object.", "Save the checkpoint again.")
    return value
