"""Activations of scales set beforehand, by ai-edge-quantizer, where their ranges allow it.

Only linear layers are made static: attention, GELU and LayerNorm lose more in integers than they gain. An 8-bit scale
for a whole tensor serves some outputs badly, those that feed the residual sum with a few huge channels (LLM.int8, arXiv
2208.07339); calibration tells which, and they quantize their input as it comes instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_converters.formats.tflite.file import narrowed_int64, operators, read_model, tensor_name, write_model
from fastserve_converters.formats.tflite.layers import layer_reader, layer_tensors
from fastserve_converters.formats.tflite.quantized_weights import round_inputs_with_zero_points
from fastserve_converters.formats.tflite.ranges import find_ranges
from fastserve_converters.models.dynamic_shapes import MIN_TOKENS
from fastserve_converters.models.samples import single_samples
from fastserve_converters.precisions import RangeMethod

_SIGNATURE = "serving_default"
_CALIBRATION_SAMPLES = 96
_RANGE_SAMPLES = 32
MIN_RATIO = 20.0
"""dB of signal to rounding noise below which a layer's output does not get one scale for all its channels. MiniLM's
layers have 24 to 38, but for those behind GELU, which have 1 to 13."""


def quantize_static(
    source: Path, out: Path, calibration: Mapping[str, NDArray[Any]], bits: int, range_method: RangeMethod = "min-max"
) -> tuple[str, ...]:
    """Write a model with int8 weights whose linear layers take and give integers.

    Args:
        source: the float model.
        out: the file to write.
        calibration: inputs by name, shape [samples, length], padded.
        bits: of activations, 8 or 16.
        range_method: how the ranges of activations are found.

    Returns:
        Torch names of the layers that quantize their input as it comes.
    """
    from ai_edge_quantizer import qtyping, quantizer, recipe_manager

    samples = [narrowed_int64(sample) for sample in single_samples(calibration, min_tokens=MIN_TOKENS)]
    dynamic = tuple(n for n, r in output_ratios(source, samples[:_RANGE_SAMPLES], bits).items() if r < MIN_RATIO)
    recipe = recipe_manager.RecipeManager()
    linear = qtyping.TFLOperationName.FULLY_CONNECTED
    recipe.add_dynamic_config(regex=".*", operation_name=qtyping.TFLOperationName.ALL_SUPPORTED, num_bits=8)
    recipe.add_static_config(".*", linear, bits, 8)
    for name in dynamic:
        recipe.add_dynamic_config(f"layer/{re.escape(name)};", linear, 8)
    tool = quantizer.Quantizer(str(source))
    tool.load_quantization_recipe(recipe.get_quantization_recipe())
    samples = samples[:_CALIBRATION_SAMPLES]
    ranges = tool.calibrate({_SIGNATURE: samples}, num_threads=1)
    if range_method != "min-max":
        # The tool looks for narrower ranges of weights only.
        names = [name for name in activations_of_layers(source) if name in ranges]
        read = layer_reader(source, {name: name for name in names})
        for name, (low, high) in find_ranges(read, samples, range_method, bits).items():
            known = ranges[name]
            ranges[name] = {"min": np.full_like(known["min"], low), "max": np.full_like(known["max"], high)}
    tool.quantize(ranges).export_model(str(out), overwrite=True)
    model = read_model(out)
    _name_float_outputs(model, read_model(source))
    round_inputs_with_zero_points(model)
    write_model(model, out)
    return dynamic


def _name_float_outputs(model: Any, source: Any) -> None:
    """Let a quantized model's signatures name its outputs, where the tool left them at the integers behind.

    So it does with an output that is also used inside: only the graph's own list has the float one then.
    """
    for ours, theirs in zip(model.signatureDefs or (), source.signatureDefs or (), strict=True):
        (before, after) = (m.subgraphs[ours.subgraphIndex].outputs for m in (source, model))
        places = {output.name: list(before).index(output.tensorIndex) for output in theirs.outputs}
        for output in ours.outputs:
            output.tensorIndex = int(after[places[output.name]])


def activations_of_layers(path: Path) -> tuple[str, ...]:
    """Return the names of the tensors that linear layers of a file take and give."""
    found = {
        tensor_name(graph.tensors[index]): None
        for graph, operator, kind in operators(read_model(path))
        if kind == "FULLY_CONNECTED"
        for index in (operator.inputs[0], operator.outputs[0])
    }
    return tuple(found)


def output_ratios(source: Path, samples: list[dict[str, NDArray[Any]]], bits: int) -> dict[str, float]:
    """Return layer → signal-to-noise ratio in dB that its output has left when one scale rounds all of it."""
    tensors = layer_tensors(source)
    read = layer_reader(source, tensors)
    runs = [read(sample) for sample in samples]
    return {layer: rounding_ratio(np.concatenate([run[layer] for run in runs]), bits) for layer in tensors}


def rounding_ratio(values: NDArray[np.float32], bits: int) -> float:
    """Return the ratio of a tensor's variance in the median channel to the noise of rounding it to a uniform grid.

    The median, since a few huge channels say nothing of what becomes of the others.
    """
    step = float(values.max() - values.min()) / (2**bits - 1)
    noise = step * step / 12
    signal = float(np.median(values.var(axis=0)))
    return float(10 * np.log10(signal / noise)) if noise > 0 and signal > 0 else np.inf
