"""Activations as 16-bit integers with ranges set on calibration data, by torchao's quantization of exported programs.

What linear layers multiply is rounded to 16 bits, symmetrically, with one scale a tensor. On a CPU the rounding is done
by ExecuTorch's own kernels, and XNNPACK multiplies the rounded values with integer weights: it has no products of
16-bit integers. Their 65,535 steps lose so little that ranges are those of the extremes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torchao.quantization.pt2e import MinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

aten = torch.ops.aten
decomposed = torch.ops.quantized_decomposed

_WEIGHTS = frozenset({decomposed.dequantize_per_channel.default, decomposed.dequantize_per_channel_group.default})


def with_int16_activations(
    program: torch.export.ExportedProgram, samples: Iterable[Mapping[str, Any]]
) -> torch.fx.GraphModule:
    """Round what linear layers of integer weights multiply, in ranges that hold all of the samples' values.

    Args:
        program: its integer weights are dequantized already; see `decomposed.with_quantized_weights`.
        samples: inputs by name, shape [1, tokens].

    Returns:
        The quantized program, unlifted.
    """
    prepared: Any = prepare_pt2e(program.module(check_guards=False), _LinearInputs())
    with torch.no_grad():
        for sample in samples:
            prepared(**{name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in sample.items()})
    quantized: torch.fx.GraphModule = convert_pt2e(prepared)
    return quantized


class _LinearInputs(Quantizer):  # type: ignore[misc]
    """Asks for 16 bits in front of the linear layers that read integer weights."""

    def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        maximum = 2**15 - 1
        spec = QuantizationSpec(
            dtype=torch.int16,
            observer_or_fake_quant_ctr=MinMaxObserver,
            quant_min=-maximum,
            quant_max=maximum,
            qscheme=torch.per_tensor_symmetric,
        )
        for node in model.graph.nodes:
            if node.target is aten.linear.default and node.args[1].target in _WEIGHTS:
                node.meta["quantization_annotation"] = QuantizationAnnotation({node.args[0]: spec}, _annotated=True)
        return model

    def validate(self, model: torch.fx.GraphModule) -> None:
        """Refuse nothing: it annotates by what is there."""
