"""A small sentence encoder as TFLite artifacts of all precisions, and what makes more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastserve_converters.artifact import Artifact
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.formats import tflite
from fastserve_converters.models.encoder_signature import encoder_part
from fastserve_converters.models.exportable_model import ExportableModel, build_exportable_model
from fastserve_converters.quantization.layers import assignment, quantized_weights
from fastserve_converters.quantized_weight import QuantizedWeight

LENGTH = 16


def _exportable_model_of(folder: Path) -> ExportableModel:
    checkpoint = read_checkpoint(folder, task="auto")
    return build_exportable_model(load_model(checkpoint), checkpoint, LENGTH)


def _calibration() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    ids = generator.integers(5, 700, (12, LENGTH)).astype(np.int32)
    tokens = generator.integers(4, LENGTH + 1, 12)
    return {"input_ids": ids, "attention_mask": (np.arange(LENGTH) < tokens[:, None]).astype(np.float32)}


def _export(
    module: ExportableModel,
    precision: str,
    out: Path,
    base: Path | None = None,
    weights: Mapping[str, QuantizedWeight] | None = None,
) -> Artifact:
    out.mkdir()
    precision_spec = tflite.PRECISIONS[precision]
    part = encoder_part(module, LENGTH)
    if weights is None:
        weights = quantized_weights(part, assignment(part, precision_spec))
    job = SimpleNamespace(
        part=part,
        precision=precision,
        precision_spec=precision_spec,
        weights=weights,
        calibration=_calibration(),
        samples=_calibration(),
        range_method="min-max",
        base=base,
        out=out,
    )
    return tflite.export(job)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def exportable_model_of() -> Callable[[Path], ExportableModel]:
    """Load a checkpoint's exportable model of 16 tokens."""
    return _exportable_model_of


@pytest.fixture(scope="session")
def export() -> Callable[..., Artifact]:
    """Export an exportable model in a precision to a new folder."""
    return _export


@pytest.fixture(scope="session")
def calibration() -> dict[str, np.ndarray]:
    """Twelve padded samples."""
    return _calibration()


@pytest.fixture(scope="session")
def bert(
    tiny: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[ExportableModel, Path, dict[str, Artifact]]:
    """A small sentence encoder in fp32 and everything that is made from it."""
    module = _exportable_model_of(tiny("bert", sentence=True))
    folder = tmp_path_factory.mktemp("tflite")
    made = {"fp32": _export(module, "fp32", folder / "fp32")}
    from_base = [p for p in tflite.PRECISIONS if p not in {"fp32", "mixed"}]
    made |= {p: _export(module, p, folder / p, folder / "fp32") for p in from_base}
    return module, folder, made
