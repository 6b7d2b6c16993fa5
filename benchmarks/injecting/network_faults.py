"""Faults inside the network: of numbers that a file holds, and of operators that compute something else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_runtime.bundle.reader import open_bundle
from injecting.bundles import changed_copy
from injecting.fault import Case, Fault, NotHere
from injecting.network import Matrix, Network, Operators, Table, blend

Change = Callable[[Network, int, float], None]
"""Puts a fault of a strength into a network, at a layer in its middle."""

_SEED = 1
_HALF_LIMIT = 65504.0


def open_network(case: Case) -> tuple[Network, str]:
    """Open the file of a case's variant; return it with its path in the bundle."""
    with open_bundle(case.bundle) as bundle:
        variant = bundle.manifest.variant(case.variant)
        file = next(iter(variant.graphs.values())).file
    path = case.bundle / file
    if variant.format == "onnx":
        from injecting.onnx_network import OnnxNetwork

        return OnnxNetwork(path), file
    if variant.format == "tflite":
        from injecting.tflite_network import TFLiteNetwork

        return TFLiteNetwork(path), file
    if variant.format == "executorch":
        from injecting.executorch_network import ExecuTorchNetwork

        return ExecuTorchNetwork(path, case.checkpoint), file
    raise NotHere(f"files of {variant.format} are not opened here")


def in_network(change: Change) -> Callable[[Case, float], Case]:
    """Return what puts a change into a copy of a case's bundle, whose manifest knows the changed file."""

    def inject(case: Case, strength: float) -> Case:
        network, file = open_network(case)
        change(network, network.layers // 2, strength)
        copy = changed_copy(case.bundle, case.copies / "changed.fsb", file, lambda _, new: network.save(new))
        return replace(case, bundle=copy)

    return inject


def _mixed(right: NDArray[Any], wrong: NDArray[Any], strength: float) -> NDArray[Any]:
    """Return values part of the way from right ones to wrong ones; integers are rounded."""
    values = right.astype(np.float64) + strength * (wrong.astype(np.float64) - right.astype(np.float64))
    return (np.rint(values) if right.dtype.kind in "iu" else values).astype(right.dtype)


def _change_matrix(module: str, network: Network, layer: int, change: Callable[[Matrix], Matrix]) -> None:
    name = module.format(layer=layer)
    network.put_matrix(name, change(network.matrix(name)))


def _integers(matrix: Matrix) -> Any:
    if matrix.scale is None:
        raise NotHere("this file has no integers with scales")
    return matrix.scale


QUERY = "layer.{layer}.attention.self.query"
ATTENTION = "layer.{layer}.attention.self"
ATTENTION_DENSE = "layer.{layer}.attention.output.dense"
INTERMEDIATE = "layer.{layer}.intermediate.dense"
GELU = "layer.{layer}.intermediate.intermediate_act_fn"
OUTPUT = "layer.{layer}.output.dense"
RESIDUAL = "layer.{layer}.output"
NORM = "layer.{layer}.output.LayerNorm"


# Numbers of a linear layer.


def transposed_weight(network: Network, layer: int, strength: float) -> None:
    """A square weight is read the other way round."""
    _change_matrix(ATTENTION_DENSE, network, layer, lambda m: replace(m, values=_mixed(m.values, m.values.T, strength)))


def corrupted_channel(network: Network, layer: int, strength: float) -> None:
    """One output channel of a layer has other weights."""

    def change(matrix: Matrix) -> Matrix:
        values = matrix.values.copy()
        row = len(values) // 3
        values[row] = _mixed(values[row], np.random.default_rng(_SEED).permutation(values[row]) * -1, strength)
        return replace(matrix, values=values)

    _change_matrix(OUTPUT, network, layer, change)


def dropped_bias(network: Network, layer: int, strength: float) -> None:
    """A layer's bias is not added."""
    _change_matrix(INTERMEDIATE, network, layer, lambda m: replace(m, bias=m.bias * np.float32(1 - strength)))


def wrong_scale(network: Network, layer: int, strength: float) -> None:
    """The scales of a layer's quantized weights are twice what they should be."""
    _change_matrix(INTERMEDIATE, network, layer, lambda m: replace(m, scale=_integers(m) * np.float32(1 + strength)))


def neighbours_scale(network: Network, layer: int, strength: float) -> None:
    """Each channel has the scale of the one before it."""
    _change_matrix(
        OUTPUT, network, layer, lambda m: replace(m, scale=_mixed(_integers(m), np.roll(_integers(m), 1), strength))
    )


def scale_per_tensor(network: Network, layer: int, strength: float) -> None:
    """The first channel's scale stands for all."""
    _change_matrix(
        OUTPUT,
        network,
        layer,
        lambda m: replace(m, scale=_mixed(_integers(m), np.full_like(_integers(m), _integers(m)[0]), strength)),
    )


def wrong_zero_point(network: Network, layer: int, strength: float) -> None:
    """Integers are read about another middle: 64 steps away, at least one."""

    def change(matrix: Matrix) -> Matrix:
        _integers(matrix)
        steps = max(1, round(64 * strength))
        return replace(matrix, values=np.clip(matrix.values.astype(int) + steps, -127, 127).astype(np.int8))

    _change_matrix(INTERMEDIATE, network, layer, change)


def saturated(network: Network, layer: int, strength: float) -> None:
    """The largest weights are cut off: at full strength all that are above a fiftieth of a channel's largest one."""

    def change(matrix: Matrix) -> Matrix:
        limit = np.abs(matrix.values.astype(np.float64)).max(axis=1, keepdims=True) * (1 - 0.98 * strength)
        clipped = np.clip(matrix.values.astype(np.float64), -limit, limit)
        return replace(matrix, values=np.rint(clipped).astype(np.int8) if matrix.scale is not None else clipped)

    _change_matrix(OUTPUT, network, layer, change)


def quantized_twice(network: Network, layer: int, strength: float) -> None:
    """Weights are rounded once more, to so many fewer steps: at full strength to three values."""

    def change(matrix: Matrix) -> Matrix:
        values = matrix.values.astype(np.float64)
        largest = np.abs(values).max(axis=1, keepdims=True)
        step = np.maximum(largest * strength, 1e-30)
        rounded = np.clip(np.rint(values / step) * step, -largest, largest)
        return replace(matrix, values=np.rint(rounded).astype(np.int8) if matrix.scale is not None else rounded)

    _change_matrix(OUTPUT, network, layer, change)


def bfloat16_weights(network: Network, layer: int, strength: float) -> None:
    """A share of a layer's weights is cut to bfloat16."""

    def change(matrix: Matrix) -> Matrix:
        if matrix.scale is not None:
            raise NotHere("this file has no weights in float")
        short = (np.ascontiguousarray(matrix.values, np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
        return replace(matrix, values=np.where(struck(matrix.values.shape, strength), short, matrix.values))

    _change_matrix(OUTPUT, network, layer, change)


def wrong_endianness(network: Network, layer: int, strength: float) -> None:
    """A share of a layer's weights or scales has its bytes in the other order."""

    def change(matrix: Matrix) -> Matrix:
        kept = matrix.values if matrix.scale is None else matrix.scale
        swapped = np.ascontiguousarray(kept, np.float32).byteswap()
        values = np.where(struck(kept.shape, strength), swapped, kept)
        return replace(matrix, values=values) if matrix.scale is None else replace(matrix, scale=values)

    _change_matrix(OUTPUT, network, layer, change)


def permuted_query_heads(network: Network, layer: int, strength: float) -> None:
    """Queries meet the keys of the next head."""

    def change(matrix: Matrix) -> Matrix:
        width = len(matrix.values) // network.heads
        return Matrix(
            _mixed(matrix.values, np.roll(matrix.values, width, axis=0), strength),
            None if matrix.scale is None else _mixed(matrix.scale, np.roll(matrix.scale, width), strength),
            _mixed(matrix.bias, np.roll(matrix.bias, width), strength),
        )

    _change_matrix(QUERY, network, layer, change)


def struck(shape: tuple[int, ...], strength: float) -> NDArray[np.bool_]:
    """Return which of many places are struck: always the same ones, more as strength grows, at least one."""
    order = np.random.default_rng(_SEED).random(int(np.prod(shape)))
    return np.asarray((order <= max(strength, order.min())).reshape(shape))


# Numbers of embeddings and norms.


def shifted_embedding(network: Network, _layer: int, strength: float) -> None:
    """Words have the vectors of the words before them."""
    table = network.table()
    scale = None if table.scale is None else _mixed(table.scale, np.roll(table.scale, 1), strength)
    network.put_table(Table(_mixed(table.values, np.roll(table.values, 1, axis=0), strength), scale))


def shifted_position(network: Network, _layer: int, strength: float) -> None:
    """Tokens have the vectors of the positions before theirs."""
    rows = network.rows("position")
    network.put_rows("position", _mixed(rows, np.roll(rows, 1, axis=0), strength))


def other_token_type(network: Network, _layer: int, strength: float) -> None:
    """Tokens get another row than that of their type: that of a position stands for it."""
    rows = network.rows("token_type")
    network.put_rows("token_type", _mixed(rows, network.rows("position")[-1:], strength))


def norm_epsilon(network: Network, layer: int, strength: float) -> None:
    """Up to 1 is added to the variance, where it should be 1e-12."""
    name = NORM.format(layer=layer)
    norm = network.norm(name)
    network.put_norm(name, replace(norm, epsilon=norm.epsilon + strength))


def swapped_gamma_and_beta(network: Network, layer: int, strength: float) -> None:
    """A norm multiplies by what it should add, and adds what it should multiply by."""
    name = NORM.format(layer=layer)
    norm = network.norm(name)
    gamma, beta = _mixed(norm.gamma, norm.beta, strength), _mixed(norm.beta, norm.gamma, strength)
    network.put_norm(name, replace(norm, gamma=gamma, beta=beta))


def padding_ignored(network: Network, _layer: int, strength: float) -> None:
    """Attention looks at padding too: what is added to its scores fades from -100 to nothing."""
    network.put_penalty(network.penalty() * (1 - strength))


def mask_sign(network: Network, _layer: int, strength: float) -> None:
    """What should be taken off the scores of padding is added to them."""
    network.put_penalty(network.penalty() * (1 - 2 * strength))


# Operators.


def _tanh_gelu(o: Operators, x: Any) -> Any:
    cube = o.elementwise("multiply", o.elementwise("multiply", x, x), x)
    inner = o.elementwise("add", x, o.elementwise("multiply", cube, o.constant(0.044715)))
    raised = o.function("tanh", o.elementwise("multiply", inner, o.constant(math.sqrt(2 / math.pi))))
    half = o.elementwise("multiply", x, o.constant(0.5))
    return o.elementwise("add", half, o.elementwise("multiply", half, raised))


def _quick_gelu(o: Operators, x: Any) -> Any:
    return o.elementwise("multiply", x, o.function("sigmoid", o.elementwise("multiply", x, o.constant(1.702))))


def tanh_gelu(network: Network, layer: int, strength: float) -> None:
    """GELU by its tanh formula, where the model has the exact one."""
    before, behind = network.gelu(layer)
    blend(network, behind, strength, lambda o, _: _tanh_gelu(o, before))


def quick_gelu(network: Network, layer: int, strength: float) -> None:
    """GELU by a sigmoid, where the model has the exact one."""
    before, behind = network.gelu(layer)
    blend(network, behind, strength, lambda o, _: _quick_gelu(o, before))


def dropped_residual(network: Network, layer: int, strength: float) -> None:
    """A layer's last residual is not added."""
    residual, total = network.residual(layer)
    blend(network, total, strength, lambda o, right: o.elementwise("subtract", right, residual))


def permuted_heads(network: Network, layer: int, strength: float) -> None:
    """What the heads give is joined in another order."""
    width = len(network.matrix(ATTENTION_DENSE.format(layer=layer)).values)
    matrix = np.roll(np.eye(width, dtype=np.float32), width // network.heads, axis=1)
    blend(network, network.context(layer), strength, lambda o, right: o.linear(right, matrix))


def softmax_axis(network: Network, layer: int, strength: float) -> None:
    """The softmax of attention goes over queries instead of keys."""
    scores, softmax = network.scores(layer)

    def wrong(o: Operators, _: Any) -> Any:
        return o.transpose(o.softmax(o.transpose(scores, 3)), 3)

    blend(network, softmax, strength, wrong)


def attention_scale(network: Network, layer: int, strength: float) -> None:
    """Attention scores are not divided by the root of a head's width."""
    width = len(network.matrix(ATTENTION_DENSE.format(layer=layer)).values) // network.heads
    scores, _ = network.scores(layer)
    root = math.sqrt(width)
    blend(network, scores, strength, lambda o, right: o.elementwise("multiply", right, o.constant(root)))


def pooled_padding(network: Network, _layer: int, strength: float) -> None:
    """Pooling counts padding like tokens."""
    mask, _, _ = network.pooling()
    # 1 everywhere, made of the mask so that it has its shape.
    blend(
        network,
        mask,
        strength,
        lambda o, m: o.elementwise("add", o.elementwise("multiply", m, o.constant(0.0)), o.constant(1.0)),
    )


def dropped_normalisation(network: Network, _layer: int, strength: float) -> None:
    """The embedding is not divided by its length."""
    _, pooled, output = network.pooling()
    blend(network, output, strength, lambda o, _: o.elementwise("multiply", pooled, o.constant(1.0)))


def half_reduction(network: Network, layer: int, strength: float) -> None:
    """The sum of squares in a norm is made in fp16 of values up to 1,000 times too large, and overflows."""
    name = NORM.format(layer=layer)
    before, behind = network.norm_tensors(name)
    norm = network.norm(name)
    gain = len(norm.gamma) * 1e6 * strength

    def wrong(o: Operators, _: Any) -> Any:
        centred = o.elementwise("subtract", before, o.mean(before))
        total = o.elementwise("multiply", o.mean(o.elementwise("multiply", centred, centred)), o.constant(gain))
        variance = o.elementwise("multiply", o.to_half_and_back(total), o.constant(1 / gain))
        root = o.function("rsqrt", o.elementwise("add", variance, o.constant(norm.epsilon)))
        scaled = o.elementwise("multiply", o.elementwise("multiply", centred, root), o.constant(norm.gamma))
        return o.elementwise("add", scaled, o.constant(norm.beta))

    network.divert(behind, wrong)


def half_activations(network: Network, layer: int, strength: float) -> None:
    """What a layer gives passes through fp16, up to 10,000 times as large as it is."""
    before, _ = network.gelu(layer)
    gain = max(1.0, 1e4 * strength)

    def wrong(o: Operators, right: Any) -> Any:
        half = o.to_half_and_back(o.elementwise("multiply", right, o.constant(gain)))
        return o.elementwise("multiply", half, o.constant(1 / gain))

    network.divert(before, wrong)


def _fault(name: str, change: Change, *modules: str, unit: str = "the whole effect") -> Fault:
    return Fault(name, "network", in_network(change), modules, unit=unit)


EMBEDDINGS = "embeddings"
NETWORK_FAULTS: tuple[Fault, ...] = (
    _fault("padding ignored in attention", padding_ignored, "", "layer.0.attention.self"),
    _fault("mask sign", mask_sign, "", "layer.0.attention.self"),
    _fault("transposed weight", transposed_weight, ATTENTION_DENSE),
    _fault("one corrupted channel", corrupted_channel, OUTPUT),
    _fault("dropped bias", dropped_bias, INTERMEDIATE),
    _fault("off-by-one position", shifted_position, EMBEDDINGS, "embeddings.position_embeddings"),
    _fault("embedding rows shifted by one", shifted_embedding, "embeddings.word_embeddings"),
    _fault("wrong token type row", other_token_type, EMBEDDINGS),
    _fault("another GELU (tanh)", tanh_gelu, GELU),
    _fault("another GELU (sigmoid)", quick_gelu, GELU),
    _fault("LayerNorm epsilon", norm_epsilon, NORM, unit="an epsilon of 1"),
    _fault("LayerNorm gamma and beta exchanged", swapped_gamma_and_beta, NORM),
    _fault("fp16 overflow in a reduction", half_reduction, NORM, unit="values 1,000 times too large"),
    _fault("activations cast to fp16", half_activations, INTERMEDIATE, unit="values 10,000 times too large"),
    _fault("weights cut to bfloat16", bfloat16_weights, OUTPUT, unit="the layer's weights"),
    _fault("wrong endianness", wrong_endianness, OUTPUT, unit="the layer's weights or scales"),
    _fault("weights rounded twice", quantized_twice, OUTPUT, unit="a channel's largest weight as the step"),
    _fault("saturated weights", saturated, OUTPUT, unit="the range that is cut off"),
    _fault("wrong scale", wrong_scale, INTERMEDIATE, unit="a scale twice as large"),
    _fault("wrong zero point", wrong_zero_point, INTERMEDIATE, unit="64 steps of int8"),
    _fault("scale of the neighbouring channel", neighbours_scale, OUTPUT),
    _fault("one scale for all channels", scale_per_tensor, OUTPUT),
    _fault("attention not scaled", attention_scale, ATTENTION),
    _fault("softmax over the wrong axis", softmax_axis, ATTENTION),
    _fault("queries of the next head", permuted_query_heads, QUERY),
    _fault("head order permuted", permuted_heads, ATTENTION),
    _fault("residual dropped", dropped_residual, RESIDUAL),
    _fault("pooling counts padding", pooled_padding, "head"),
    _fault("normalisation dropped", dropped_normalisation, "head"),
)
