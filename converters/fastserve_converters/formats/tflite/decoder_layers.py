"""The layers of a decoder as TFLite operators: norms, linear layers, and what lies between them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fastserve_converters.formats.tflite.operators import Operators
from fastserve_converters.formats.tflite.writing import Value
from fastserve_converters.models.decoder.form import Activation, FeedForward, GatedFeedForward, RmsNorm
from fastserve_converters.models.decoder.reading import gelu_of_tanh
from fastserve_converters.quantized_weight import QuantizedWeight


class LayerWriter:
    """Adds layers to a graph; values have the shape [tokens, width]."""

    def __init__(self, ops: Operators, weights: Mapping[str, QuantizedWeight]) -> None:
        self.ops, self.weights = ops, weights

    def linear(self, layer: torch.nn.Linear, x: Value, name: str, *, weight_name: str | None = None) -> Value:
        """Return a linear layer's product.

        Args:
            layer: the layer.
            x: what is multiplied.
            name: the layer's.
            weight_name: that of the layer whose weights it multiplies with, where these are another's.
        """
        bias = None if layer.bias is None else self.constant(layer.bias, f"{name}.bias")
        owner = weight_name or name
        return self.ops.linear(x, self.matrix(layer.weight, owner), bias, is_integer=owner in self.weights)

    def matrix(self, parameter: torch.Tensor, name: str) -> Value:
        """Return a layer's weights: quantized ones where it has some."""
        if name in self.weights:
            return self.ops.graph.quantized_weight(f"{name}.weight", self.weights[name])
        return self.constant(parameter, f"{name}.weight")

    def constant(self, parameter: torch.Tensor, name: str) -> Value:
        """Return a parameter in float32."""
        return self.ops.graph.constant(name, parameter.detach().numpy())

    def norm(self, norm: torch.nn.Module, x: Value, name: str) -> Value:
        """Return an RMSNorm or LayerNorm over the last axis."""
        ops, bias = self.ops, None
        if isinstance(norm, RmsNorm):
            epsilon = norm.epsilon
        else:
            assert isinstance(norm, torch.nn.LayerNorm)
            epsilon, bias = norm.eps, norm.bias
            x = ops.subtract(x, ops.reduce("MEAN", x))
        variance = ops.reduce("MEAN", ops.multiply(x, x))
        factor = ops.unary("RSQRT", ops.add(variance, ops.scalar(epsilon)))
        result = ops.multiply(ops.multiply(x, factor), self.constant(norm.weight, f"{name}.weight"))
        return result if bias is None else ops.add(result, self.constant(bias, f"{name}.bias"))

    def feed_forward(self, module: torch.nn.Module, x: Value, name: str) -> Value:
        """Return what feed-forward layers give."""
        if isinstance(module, GatedFeedForward):
            gate = self._activated(module.activation, self.linear(module.gate, x, f"{name}.gate"))
            inner = self.ops.multiply(gate, self.linear(module.up, x, f"{name}.up"))
        else:
            assert isinstance(module, FeedForward)
            inner = self._activated(module.activation, self.linear(module.up, x, f"{name}.up"))
        return self.linear(module.down, inner, f"{name}.down")

    def capped(self, x: Value, cap: float) -> Value:
        """Return `cap * tanh(x / cap)`."""
        ops = self.ops
        return ops.multiply(ops.unary("TANH", ops.multiply(x, ops.scalar(1 / cap))), ops.scalar(cap))

    def _activated(self, activation: Activation, x: Value) -> Value:
        if activation is torch.nn.functional.silu:
            return self.ops.multiply(x, self.ops.unary("LOGISTIC", x))
        if activation is torch.nn.functional.relu:
            return self.ops.unary("RELU", x)
        assert activation in (gelu_of_tanh, torch.nn.functional.gelu)
        return self.ops.unary("GELU", x, "GeluOptions", approximate=activation is gelu_of_tanh)
