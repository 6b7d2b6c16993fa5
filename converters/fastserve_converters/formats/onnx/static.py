"""Static quantization with QuantizeLinear and DequantizeLinear of ai.onnx alone: what NPUs take.

`a16w8`: 16-bit activations by ONNX Runtime's tool. `int8-static`: 8-bit activations by NNCF. Both calibrate on padded
samples, which is what a graph of a fixed length gets. Embeddings are left to `layers.quantize_embeddings`, with a
scale a row: one for the whole table loses too much.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.models.calibration import MIN_SAMPLES
from fastserve_converters.models.samples import Samples, count, first, single_samples

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastserve_converters.formats.onnx.keeping_in_float import KeptInFloat
    from fastserve_converters.models.model import TracedPart
    from fastserve_converters.precisions import RangeMethod

_SAMPLES = 128
_MIN_JUDGING, _MAX_JUDGING = 4, 64
_IN_FLOAT = {"Gather", "Cast", "Clip", "Sqrt"}


def quantize_a16w8(file: Path, calibration: Samples) -> ir.Model:
    """Quantize activations to unsigned 16 bits and weights to int8 per channel, ranges by least and largest value.

    Args:
        file: the portable fp32 model.
        calibration: inputs by name, shape [samples, length].
    """
    import onnx_ir as ir
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    nodes = list(ir.load(file).graph)
    kinds = sorted({node.op_type for node in nodes} - _IN_FLOAT)
    # Weights that the tool makes 8-bit even here. Qualcomm's HTP has no kernel for int8 ones beside 16-bit activations.
    norms = {str(node.inputs[1].name) for node in nodes if node.op_type == "LayerNormalization" and node.inputs[1]}
    with TemporaryDirectory() as folder:
        written = Path(folder) / "model.onnx"
        # The tool warns of every norm, whose weights have no second axis.
        logger = logging.getLogger()
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            quantize_static(
                str(file),
                str(written),
                _Reader(calibration),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=kinds,
                per_channel=True,
                activation_type=QuantType.QUInt16,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={
                    "TensorQuantOverrides": {n: [{"quant_type": QuantType.QInt16, "symmetric": True}] for n in norms}
                },
            )
        finally:
            logger.setLevel(level)
        model: ir.Model = ir.from_proto(_read(written))
    return model


def quantize_int8(
    file: Path, part: TracedPart, calibration: Samples, range_method: RangeMethod, modules: Mapping[str, str]
) -> tuple[ir.Model, KeptInFloat]:
    """Quantize activations and weights to 8 bits: SmoothQuant, bias correction, the worst operators left in float.

    Some samples set no ranges: by them it is judged whether operators must be left in float.

    Args:
        file: the portable fp32 model.
        part: what it was exported from.
        calibration: inputs by name, shape [samples, ...].
        range_method: how the ranges of activations are found.
        modules: tensor → torch module.

    Returns:
        The model, and which operators were left in float.
    """
    import onnx_ir as ir

    from fastserve_converters.formats.onnx import keeping_in_float, quantizers
    from fastserve_converters.quantization.nncf_library import exact_sessions, import_nncf, quiet, range_estimator

    nncf = import_nncf()
    for_ranges, held_out = _split(calibration)
    items = list(single_samples(for_ranges))
    with quiet(), exact_sessions():
        quantized = nncf.quantize(
            _read(file),
            nncf.Dataset(items),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(items),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(types=["Gather"], validate=False),  # not all models have some
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=range_estimator(range_method),
                backend_params={"compress_weights": False},
            ),
        )
    model: ir.Model = ir.from_proto(quantized)
    quantizers.limit_pairs(model)
    kept_in_float = keeping_in_float.keep_in_float(model, ir.load(file), part, held_out, modules)
    quantizers.fold_weights(model)
    quantizers.scale_channels_behind_matmul(model)
    return model, kept_in_float


def _split(calibration: Samples) -> tuple[Samples, Samples]:
    """Return the samples that set ranges and the last ones, which judge them; of very few, some do both."""
    total = count(calibration)
    judging = min(max(total // 4, _MIN_JUDGING), _MAX_JUDGING)
    setting = min(max(total - judging, MIN_SAMPLES), _SAMPLES)
    return first(calibration, setting), {name: value[total - judging :] for name, value in calibration.items()}


class _Reader:
    """Gives calibration samples to ONNX Runtime's tool one by one."""

    def __init__(self, calibration: Samples) -> None:
        self._samples: Iterator[Mapping[str, NDArray[np.generic]]] = single_samples(first(calibration, _SAMPLES))

    def get_next(self) -> Mapping[str, NDArray[np.generic]] | None:
        """Return the next sample, or None after the last."""
        return next(self._samples, None)


def _read(file: Path) -> Any:
    import onnx

    return onnx.load(str(file))
