"""Activations quantized with ranges set on calibration data, by NNCF's post-training quantization of FX graphs.

SmoothQuant (arXiv 2211.10438) and the ranges are NNCF's. XNNPACK's integer layers write integers as well, and a few
layers have outputs with such outliers that one range for all of them ruins the model: those are found by what rounding
does to their outputs on the calibration data, and quantize their inputs by token at run time instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from fastserve_converters.formats.executorch.quantized_weights import rounded_by_token
from fastserve_converters.precisions import RangeMethod

aten = torch.ops.aten

MIN_SQNR = 24.0
"""Layers whose rounded outputs are farther from the real ones than this, in dB, are quantized at run time. In MiniLM
the second layers of the feed-forward blocks have 13 to 20 dB, all others 28 and more."""
_SAMPLES = 64
_JUDGED_SAMPLES = 16


def with_static_ranges(
    program: torch.export.ExportedProgram, samples: Iterable[Mapping[str, Any]], range_method: RangeMethod
) -> tuple[torch.fx.GraphModule, tuple[str, ...]]:
    """Quantize the linear layers of a program.

    Args:
        program: exported with positional inputs.
        samples: inputs, in the program's order, shape [1, tokens].
        range_method: how the ranges of activations are found.

    Returns:
        The quantized program, unlifted, and the names of the nodes that quantize at run time.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

    from fastserve_converters.quantization.nncf_library import import_nncf, range_estimator

    nncf = import_nncf()
    from nncf.experimental.torch.fx import quantize_pt2e

    inputs = [tuple(torch.from_numpy(np.ascontiguousarray(v)) for v in sample.values()) for sample in samples]
    inputs = inputs[:_SAMPLES]
    graph_module: Any = program.module(check_guards=False)
    # They would refuse inputs of other lengths than the example's.
    graph_module._forward_pre_hooks.clear()
    graph_module._forward_pre_hooks_with_kwargs.clear()
    quantizer = XNNPACKQuantizer()
    quantizer.set_operator_type(aten.linear.default, get_symmetric_quantization_config(is_per_channel=True))
    quantized = quantize_pt2e(
        graph_module,
        quantizer,
        nncf.Dataset(inputs),
        subset_size=len(inputs),
        smooth_quant=True,
        fast_bias_correction=None,
        activations_range_estimator_params=range_estimator(range_method),
    )
    worst = [n for n, sqnr in _output_sqnr(quantized, inputs[:_JUDGED_SAMPLES]).items() if sqnr < MIN_SQNR]
    for node in worst:
        _quantize_at_run_time(quantized, node)
    quantized.graph.eliminate_dead_code()
    quantized.graph.lint()
    quantized.recompile()
    return quantized, tuple(node.name for node in worst)


def _output_sqnr(graph_module: Any, inputs: list[tuple[torch.Tensor, ...]]) -> dict[torch.fx.Node, float]:
    """Return the ratio of signal to rounding error, in dB, of the output of every linear layer that is rounded."""
    signal: dict[torch.fx.Node, float] = defaultdict(float)
    noise: dict[torch.fx.Node, float] = defaultdict(float)
    quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default

    class Judging(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            value = super().run_node(n)
            if n.target is quantize and n.args[0].target is aten.linear.default:  # type: ignore[union-attr]
                layer: Any = n.args[0]
                scale, zero = float(n.args[1]), int(n.args[2])  # type: ignore[arg-type]
                real = self.env[layer]
                signal[layer] += float(real.square().sum())
                noise[layer] += float((real - (value.float() - zero) * scale).square().sum())
            return value

    with torch.no_grad():
        for given in inputs:
            Judging(graph_module, garbage_collect_values=False).run(*given, enable_io_processing=False)
    return {node: 10 * float(np.log10(signal[node] / max(noise[node], 1e-30))) for node in signal}


def _quantize_at_run_time(graph_module: Any, node: torch.fx.Node) -> None:
    """Give a statically quantized linear layer float outputs, and inputs quantized by token."""
    for quantize in list(node.users):
        for dequantize in list(quantize.users):
            dequantize.replace_all_uses_with(node)
    dequantized: Any = node.args[0]
    value = dequantized.args[0].args[0]
    graph = graph_module.graph
    with graph.inserting_before(node):
        node.update_arg(0, rounded_by_token(lambda target, *arguments: graph.call_function(target, arguments), value))
