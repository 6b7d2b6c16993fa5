"""Checkpoints that are quantized already, packed by hand as the libraries' own kernels read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]
Layer = tuple[Tensors, torch.Tensor]
"""What is stored of a layer, and the weight that it stands for, [outputs, inputs]."""
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
NF4 = (
    -1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.5626170, 0.72295684, 1.0,
)  # fmt: skip


def quantize_checkpoint(
    folder: Path,
    settings: Mapping[str, Any],
    pack: Callable[[torch.Tensor], Layer],
    *,
    key: str = "quantization_config",
) -> None:
    """Replace the projections of a saved checkpoint by quantized ones; `plain` beside it has their reals as floats."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    stored, plain = {}, dict(tensors)
    for name, value in tensors.items():
        if value.ndim == 2 and "layer" in name and not name.endswith(("norm.weight", "embeddings.weight")):
            layer = name.removesuffix(".weight")
            parts, plain[name] = pack(value.float())
            stored |= {f"{layer}.{ending}": part.contiguous() for ending, part in parts.items()}
        else:
            stored[name] = value
    save_file(stored, file, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    other = folder / "plain"
    other.mkdir()
    for beside in folder.iterdir():
        if beside.is_file() and beside != file:
            (other / beside.name).write_bytes(beside.read_bytes())
    save_file({n: v.contiguous() for n, v in plain.items()}, other / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**config, key: dict(settings)}))


def rounded(weight: torch.Tensor, bits: int, group: int, symmetric: bool) -> tuple[torch.Tensor, ...]:
    """Return integers from 0, scales (float16) and zero points of groups of columns."""
    grouped = weight.reshape(len(weight), -1, group)
    maximum = 2**bits - 1
    if symmetric:
        scale = (grouped.abs().amax(-1) * 2 / maximum).clamp(min=1e-4).half().float()
        zero = torch.full_like(scale, 2 ** (bits - 1))
    else:
        low = grouped.amin(-1).clamp(max=0)
        scale = ((grouped.amax(-1).clamp(min=0) - low) / maximum).clamp(min=1e-4).half().float()
        zero = (-low / scale).round().clamp(0, maximum)
    values = ((grouped / scale[..., None]).round() + zero[..., None]).clamp(0, maximum)
    return values.reshape(weight.shape).int(), scale, zero.int()


def stream(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Pack rows of integers into words, one behind the other, bit by bit."""
    rows = []
    for row in values.tolist():
        number = sum(value << (i * bits) for i, value in enumerate(row))
        words = [(number >> (32 * i)) & 0xFFFFFFFF for i in range(-(-len(row) * bits // 32))]
        rows.append([word - 2**32 if word >= 2**31 else word for word in words])
    return torch.tensor(rows, dtype=torch.int32)


def gptq(bits: int = 4, group: int = 32, *, symmetric: bool = False, ordered: bool = False, version: int = 1) -> Any:
    """Pack as AutoGPTQ (1) and GPTQModel (2) do; `ordered` deals the columns out to the groups."""

    def pack(weight: torch.Tensor) -> Layer:
        columns = weight.shape[1]
        generator = torch.Generator().manual_seed(columns)
        order = torch.randperm(columns, generator=generator) if ordered else torch.arange(columns)
        values, scale, zero = rounded(weight[:, order], bits, group, symmetric)
        groups = torch.empty(columns, dtype=torch.int32)
        groups[order] = (torch.arange(columns) // group).int()
        values = values[:, order.argsort()]
        kept = (zero - 1) % 2**bits if version == 1 else zero
        parts = {
            "qweight": stream(values, bits).T,
            "qzeros": stream(kept.T, bits),
            "scales": scale.T.half(),
            "g_idx": groups,
            "bias": torch.zeros(len(weight), dtype=torch.float16),
        }
        return parts, (values - zero[:, groups.long()]).float() * scale[:, groups.long()]

    return pack


def awq(group: int = 32) -> Any:
    """Pack as AutoAWQ's `gemm` does."""

    def words(values: torch.Tensor) -> torch.Tensor:
        return stream(values.reshape(len(values), -1, 8)[..., _AWQ_ORDER].reshape(len(values), -1), 4)

    def pack(weight: torch.Tensor) -> Layer:
        values, scale, zero = rounded(weight, 4, group, False)
        parts = {"qweight": words(values.T), "qzeros": words(zero.T), "scales": scale.T.half()}
        return parts, (values - zero.repeat_interleave(group, 1)).float() * scale.repeat_interleave(group, 1)

    return pack


def fp8(block: tuple[int, int] | None, ending: str = "weight_scale_inv") -> Any:
    """Pack as DeepSeek does (with blocks), or with a scale a row."""

    def pack(weight: torch.Tensor) -> Layer:
        rows, columns = weight.shape
        high, wide = block or (1, columns)
        scale = torch.zeros(-(-rows // high), -(-columns // wide))
        for i in range(len(scale)):
            for j in range(scale.shape[1]):
                scale[i, j] = weight[i * high : (i + 1) * high, j * wide : (j + 1) * wide].abs().max() / 448
        whole = scale.repeat_interleave(high, 0)[:rows].repeat_interleave(wide, 1)[:, :columns]
        small = (weight / whole).to(torch.float8_e4m3fn)
        return {"weight": small, ending: scale}, small.float() * whole

    return pack


def compressed_packed(bits: int = 4, group: int = 32, *, symmetric: bool = True) -> Any:
    """Pack as compressed-tensors' `pack-quantized` does."""

    def pack(weight: torch.Tensor) -> Layer:
        values, scale, zero = rounded(weight, bits, group, symmetric)
        parts = {
            "weight_packed": stream(values, bits),
            "weight_scale": scale.half(),
            "weight_shape": torch.tensor(weight.shape),
            **({} if symmetric else {"weight_zero_point": stream(zero.T, bits).T}),
        }
        return parts, (values - zero.repeat_interleave(group, 1)).float() * scale.repeat_interleave(group, 1)

    return pack


def compressed_int8(weight: torch.Tensor) -> Layer:
    """Pack as compressed-tensors' `int-quantized` does, a scale a row."""
    scale = weight.abs().amax(1, keepdim=True) / 127
    values = (weight / scale).round().to(torch.int8)
    return {"weight": values, "weight_scale": scale}, values.float() * scale


def bitsandbytes_int8(weight: torch.Tensor) -> Layer:
    """Pack as `load_in_8bit` does."""
    largest = weight.abs().amax(1)
    values = (weight / largest[:, None] * 127).round().to(torch.int8)
    parts = {"weight": values, "SCB": largest, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return parts, values.float() * (largest / 127)[:, None]


def bitsandbytes_nf4(weight: torch.Tensor) -> Layer:
    """Pack as `load_in_4bit` does, without codes for the scales."""
    blocks, table = weight.reshape(-1, 64), torch.tensor(NF4)
    largest = blocks.abs().amax(1)
    codes = (blocks / largest[:, None])[..., None].sub(table).abs().argmin(-1).reshape(-1)
    rest = {"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": list(weight.shape)}
    parts = {
        "weight": (codes[::2] * 16 + codes[1::2]).to(torch.uint8).reshape(-1, 1),
        "weight.absmax": largest,
        "weight.quant_map": table,
        "weight.quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(rest).encode()), dtype=torch.uint8),
    }
    return parts, (table[codes] * largest.repeat_interleave(64)).reshape(weight.shape)
