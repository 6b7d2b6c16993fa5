"""Checkpoints that other libraries have quantized compute what their weights stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from checkpoints import save_checkpoint
from decoder_checkpoints import save_decoder_checkpoint
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.quantized.weights import stored_layers
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.models.decoder.own_quantized_weights import own_quantized_weights
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_runtime.errors import UsageError
from quantized_writing import (
    awq,
    bitsandbytes_int8,
    bitsandbytes_nf4,
    compressed_int8,
    compressed_packed,
    fp8,
    gptq,
    quantize_checkpoint,
)


def of_gptq(bits: int = 4, **more: Any) -> dict[str, Any]:
    return {"quant_method": "gptq", "bits": bits, "group_size": 32, "sym": False, "desc_act": False, **more}


def of_compressed(form: str, **weights: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", **weights}}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": group}}


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}
KEPT = {
    "gptq": (of_gptq(), gptq()),
    "gptq v2": (of_gptq(checkpoint_format="gptq_v2"), gptq(version=2)),
    "gptq symmetric": (of_gptq(sym=True), gptq(symmetric=True)),
    "gptq 2 bits": (of_gptq(2), gptq(2)),
    "gptq 3 bits": (of_gptq(3), gptq(3)),
    "gptq 8 bits": (of_gptq(8), gptq(8)),
    "gptq rows": (of_gptq(group_size=-1), lambda weight: gptq(group=weight.shape[1])(weight)),
    "awq": (AWQ, awq()),
    "compressed packed": (of_compressed("pack-quantized", group_size=32), compressed_packed()),
    "compressed zeros": (
        of_compressed("pack-quantized", group_size=32, symmetric=False),
        compressed_packed(symmetric=False),
    ),
    "compressed int8": (of_compressed("int-quantized", num_bits=8, strategy="channel"), compressed_int8),
}
DEQUANTIZED = {
    "gptq in order": (of_gptq(desc_act=True), gptq(ordered=True)),
    "fp8 blocks": ({"quant_method": "fp8", "weight_block_size": [48, 40]}, fp8((48, 40))),
    "fp8 rows": ({"quant_method": "fbgemm_fp8"}, fp8(None, "weight_scale")),
    "compressed fp8": (
        of_compressed("float-quantized", num_bits=8, type="float", strategy="channel"),
        fp8(None, "weight_scale"),
    ),
    "bitsandbytes int8": ({"quant_method": "bitsandbytes", "load_in_8bit": True}, bitsandbytes_int8),
    "bitsandbytes nf4": ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, bitsandbytes_nf4),
}


def logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        return model(torch.arange(3, 40)[None])[0].numpy()


@pytest.mark.parametrize("name", [*KEPT, *DEQUANTIZED])
def test_a_decoder_computes_what_its_weights_stand_for(name, tmp_path) -> None:
    save_decoder_checkpoint(tmp_path)
    quantize_checkpoint(tmp_path, *{**KEPT, **DEQUANTIZED}[name])
    checkpoint = read_checkpoint(tmp_path)
    assert any("is quantized already" in note for note in checkpoint.notes)
    loaded = load_model(checkpoint)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32).eval()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(logits(loaded), logits(plain), atol=1e-4)


@pytest.mark.parametrize("name", KEPT)
def test_the_quantized_weights_are_kept_to_the_last_bit(name, tmp_path) -> None:
    save_decoder_checkpoint(tmp_path)
    quantize_checkpoint(tmp_path, *KEPT[name])
    checkpoint = read_checkpoint(tmp_path)
    form = read_decoder(load_model(checkpoint), 32)
    assert checkpoint.quantization is not None
    found = own_quantized_weights(form, stored_layers(checkpoint.quantization, checkpoint.path, checkpoint.weights))
    parts = ["attention.qkv", "attention.output", "feed_forward.gate", "feed_forward.up", "feed_forward.down"]
    assert found.keys() == {f"blocks.{i}.{part}" for i in range(len(form.layers)) for part in parts}
    for layer, weight in found.items():
        np.testing.assert_array_equal(weight.dequantized(), form.get_submodule(layer).weight.detach().numpy())
        assert weight.scheme.group in {16, 32, 64}
        assert weight.scheme.bits == (8 if "8" in name else 4)


def test_groups_that_are_no_neighbours_are_not_kept(tmp_path) -> None:
    save_decoder_checkpoint(tmp_path)
    quantize_checkpoint(tmp_path, *DEQUANTIZED["gptq in order"])
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.quantization is not None
    form = read_decoder(load_model(checkpoint), 32)
    with pytest.raises(UsageError, match="has quantized weights that can be kept as they are"):
        own_quantized_weights(form, stored_layers(checkpoint.quantization, checkpoint.path, checkpoint.weights))


def test_an_encoder_computes_what_its_weights_stand_for(tmp_path) -> None:
    save_checkpoint(tmp_path, "bert")
    quantize_checkpoint(tmp_path, of_gptq(), gptq())
    loaded = load_model(read_checkpoint(tmp_path))
    plain = load_model(read_checkpoint(tmp_path / "plain"))
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quant_method": "hqq"}, "quantized by 'hqq'"),
        ({"quant_method": "mxfp4"}, "quantized by 'mxfp4'"),
        ({"quant_method": "torchao"}, "quantized by 'torchao'"),
        ({"quant_method": "gptq", "bits": 5}, "'bits' 5"),
        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "'checkpoint_format' 'marlin'"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"x": {}}}, "'dynamic'"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "'version' 'gemv'"),
        (of_compressed("nvfp4-pack-quantized"), "'format' 'nvfp4-pack-quantized'"),
        (of_compressed("pack-quantized", num_bits=3), "'num_bits' 3"),
        ({**of_compressed("dense"), "transform_config": {"config_groups": {"x": 1}}}, "'transform_config'"),
        ([], "is not a JSON object"),
    ],
)
def test_other_kinds_are_refused_by_name(settings, words, tmp_path) -> None:
    save_decoder_checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    with pytest.raises(UsageError, match=words):
        read_checkpoint(tmp_path)


def test_parts_that_do_not_fit_are_told(tmp_path) -> None:
    save_decoder_checkpoint(tmp_path)
    quantize_checkpoint(tmp_path, of_gptq(), gptq())
    damage(tmp_path, "model.layers.0.mlp.up_proj.qzeros", lambda value: value[:1])
    with pytest.raises(UsageError, match=r"layer 'model.layers.0.mlp.up_proj' cannot be read: zero points"):
        load_model(read_checkpoint(tmp_path))
    damage(tmp_path, "model.layers.0.mlp.up_proj.qzeros", None)
    with pytest.raises(UsageError, match="it has no 'qzeros'"):
        load_model(read_checkpoint(tmp_path))


def damage(folder: Path, name: str, change: Any) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    value = tensors.pop(name)
    if change is not None:
        tensors[name] = change(value).contiguous()
    save_file(tensors, file, {"format": "pt"})
