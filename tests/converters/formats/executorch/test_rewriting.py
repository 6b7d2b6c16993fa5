"""Programs rewritten for XNNPACK compute what they did, from the quantized weights they are given."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fastserve_converters.formats.executorch.batchless import without_batch
from fastserve_converters.formats.executorch.int16 import with_int16_activations
from fastserve_converters.formats.executorch.layers import layer_outputs
from fastserve_converters.formats.executorch.quantized_weights import (
    packed_by_two,
    with_half_embeddings,
    with_quantized_weights,
)
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization.weights import quantize_nearest
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_runtime.errors import UsageError

aten = torch.ops.aten
WIDTH, HEADS, WORDS, LENGTH = 64, 4, 20, 8
LAYERS = ("words", "query", "key")
IDS = torch.tensor([[1, 5, 19, 0, 3]], dtype=torch.int32)


class Attention(torch.nn.Module):
    """Looks words up and lets them attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(WORDS, WIDTH)
        self.query, self.key = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.register_buffer("positions", torch.randn(1, LENGTH, WIDTH))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return shape [1, tokens, width]."""
        hidden = self.words(ids) + self.positions[:, : ids.shape[1]]
        by_head = [layer(hidden).view(1, ids.shape[1], HEADS, -1).transpose(1, 2) for layer in (self.query, self.key)]
        scores = torch.softmax(torch.matmul(by_head[0], by_head[1].transpose(2, 3)) * 0.25, -1)
        mixed = torch.matmul(scores, by_head[1]).transpose(1, 2).reshape(1, ids.shape[1], -1)
        # An operator that the rewriting does not know.
        return self.norm(hidden + mixed).cumsum(1)


@pytest.fixture(scope="module")
def attention() -> SimpleNamespace:
    torch.manual_seed(0)
    module = Attention().eval()
    shapes = {"ids": {1: torch.export.Dim("length", min=2, max=LENGTH)}}
    program = torch.export.export(module, (), {"ids": torch.ones(1, LENGTH, dtype=torch.int32)}, dynamic_shapes=shapes)

    def again(graph_module: torch.fx.GraphModule) -> torch.export.ExportedProgram:
        example = {"ids": torch.ones(1, LENGTH, dtype=torch.int32)}
        return torch.export.export(graph_module, (), example, dynamic_shapes=shapes)

    def rewritten() -> torch.fx.GraphModule:
        return without_batch(program.module(check_guards=False))

    with torch.no_grad():
        return SimpleNamespace(module=module, rewritten=rewritten, again=again, expected=module(IDS).numpy())


def quantized(module: torch.nn.Module, schemes: dict[str, WeightScheme]) -> dict[str, QuantizedWeight]:
    return {n: quantize_nearest(module.get_submodule(n).weight.detach().numpy(), s) for n, s in schemes.items()}


def output(graph_module: torch.fx.GraphModule) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        value = graph_module(ids=IDS)
    return (value if isinstance(value, torch.Tensor) else value[0]).numpy()


def targets(graph_module: torch.fx.GraphModule) -> Counter[str]:
    return Counter(str(n.target) for n in graph_module.graph.nodes if n.op == "call_function")


def test_a_program_without_its_batch_dimension_computes_the_same(attention: SimpleNamespace) -> None:
    graph_module = attention.rewritten()
    used = targets(graph_module)
    assert used["aten.bmm.default"] == 2
    assert used["aten.matmul.default"] == 0
    np.testing.assert_allclose(output(graph_module), attention.expected, atol=1e-5)


@pytest.mark.parametrize(
    ("schemes", "dynamic", "tolerance"),
    [
        (dict.fromkeys(LAYERS, WeightScheme(8)), False, 2e-3),
        (dict.fromkeys(LAYERS, WeightScheme(8)), True, 0.2),
        ({"query": WeightScheme(4, 32), "words": WeightScheme(4, 32, symmetric=False)}, False, 2e-3),
        ({"key": WeightScheme(4), "words": WeightScheme(8, 32)}, False, 2e-3),
    ],
)
def test_layers_read_the_quantized_weights_they_are_given(
    attention: SimpleNamespace, schemes: dict[str, WeightScheme], dynamic: bool, tolerance: float
) -> None:
    weights = quantized(attention.module, schemes)
    graph_module = attention.rewritten()
    with_quantized_weights(graph_module, weights, dynamic_activations=dynamic)
    originals = {name: attention.module.get_submodule(name).weight.detach().clone() for name in weights}
    try:
        for name, weight in weights.items():
            attention.module.get_submodule(name).weight.data = torch.from_numpy(weight.dequantized())
        with torch.no_grad():
            expected, actual = attention.module(IDS).numpy(), output(graph_module)
    finally:
        for name, value in originals.items():
            attention.module.get_submodule(name).weight.data = value
    assert np.abs(actual - expected).max() < tolerance * np.abs(expected).max()
    assert np.abs(actual - attention.expected).max() > 1e-4, "quantized weights were read"


def test_layers_that_read_one_value_share_its_quantized_weights(attention: SimpleNamespace) -> None:
    graph_module = attention.rewritten()
    with_quantized_weights(
        graph_module, quantized(attention.module, dict.fromkeys(LAYERS, WeightScheme(8))), dynamic_activations=True
    )
    assert targets(graph_module)["quantized_decomposed.quantize_per_token.default"] == 1


@pytest.mark.parametrize("scheme", [WeightScheme(8, 32), WeightScheme(4, 16), WeightScheme(8, symmetric=False)])
def test_a_linear_layer_that_xnnpack_cannot_read_is_named(attention: SimpleNamespace, scheme: WeightScheme) -> None:
    with pytest.raises(UsageError, match=f"no linear layer with {scheme.name} weights, which 'query' was given"):
        with_quantized_weights(
            attention.rewritten(), quantized(attention.module, {"query": scheme}), dynamic_activations=True
        )


def test_ranges_of_16_bits_hold_the_values_of_all_samples(attention: SimpleNamespace) -> None:
    samples = [{"ids": np.array([[1, 5, 19]], np.int32)}, {"ids": np.array([[7, 2, 8, 3]], np.int32)}]
    graph_module = attention.rewritten()
    with_quantized_weights(
        graph_module, quantized(attention.module, dict.fromkeys(LAYERS[1:], WeightScheme(8))), dynamic_activations=False
    )
    ranged = with_int16_activations(attention.again(graph_module), samples)
    rounding = torch.ops.quantized_decomposed.quantize_per_tensor.default
    # Both layers read one value.
    (node,) = [n for n in ranged.graph.nodes if n.target is rounding]
    with torch.no_grad():
        words = [attention.module.words(torch.from_numpy(s["ids"])) for s in samples]
        hidden = [w + attention.module.positions[:, : w.shape[1]] for w in words]
    largest = max(float(h.abs().max()) for h in hidden)
    assert node.args[1] == pytest.approx(largest / 32767, rel=1e-3)
    assert node.args[2:] == (0, -32767, 32767, torch.int16)


def test_an_odd_table_cannot_be_packed() -> None:
    with pytest.raises(UsageError, match="'words' of 3 columns cannot have two to a byte"):
        packed_by_two(torch.zeros(2, 3, dtype=torch.int8), "words")
    assert packed_by_two(torch.tensor([[-8, 7, 0, 1]], dtype=torch.int8), "words").tolist() == [[0x0F, 0x89]]


def test_tables_in_half_precision_give_float32(attention: SimpleNamespace) -> None:
    graph_module = attention.rewritten()
    with_half_embeddings(graph_module)
    actual = output(graph_module)
    assert actual.dtype == np.float32
    difference = np.abs(actual - attention.expected).max()
    assert 0 < difference < 0.02


def test_outputs_of_layers_are_those_of_the_modules(attention: SimpleNamespace) -> None:
    seen: dict[str, Any] = {}
    hooks = [
        attention.module.get_submodule(name).register_forward_hook(
            lambda _module, _given, output, name=name: seen.update({name: output.detach().numpy()[0]})
        )
        for name in LAYERS
    ]
    with torch.no_grad():
        attention.module(IDS)
    for hook in hooks:
        hook.remove()
    outputs = layer_outputs(attention.again(attention.rewritten()).module(check_guards=False), LAYERS, {"ids": IDS})
    assert outputs.keys() == seen.keys()
    for name, expected in seen.items():
        np.testing.assert_allclose(outputs[name], expected, atol=1e-5)
