"""Tensors that nobody would use are named, and those that play no part are no alarm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_runtime.errors import UsageError

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 66,
    "vocab_size": 100,
}
DISTIL = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 66, "vocab_size": 100}
ALBERT = SIZES | {"embedding_size": 16}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 66, "vocab_size": 100}
DECODER = SIZES | {"num_key_value_heads": 1, "head_dim": 16}


def save(folder: Path, head: str, config: str, sizes: dict, **more: object) -> Path:
    torch.manual_seed(0)
    model = getattr(transformers, head)(getattr(transformers, config)(**sizes, **more))
    model.save_pretrained(folder, max_shard_size="30kB")
    return folder


def add(folder: Path, **tensors: torch.Tensor) -> Path:
    file = folder / "model.safetensors"
    weights = load_file(file) | {name.replace("__", "."): value for name, value in tensors.items()}
    save_file(weights, file, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("head", "config", "sizes"),
    [
        ("BertForPreTraining", "BertConfig", SIZES),
        ("BertForMaskedLM", "BertConfig", SIZES),
        ("RobertaForMaskedLM", "RobertaConfig", SIZES),
        ("XLMRobertaForMaskedLM", "XLMRobertaConfig", SIZES),
        ("CamembertForMaskedLM", "CamembertConfig", SIZES),
        ("AlbertForPreTraining", "AlbertConfig", ALBERT),
        ("AlbertForMaskedLM", "AlbertConfig", ALBERT),
        ("DistilBertForMaskedLM", "DistilBertConfig", DISTIL),
    ],
)
def test_heads_of_pretraining_are_no_alarm(tmp_path: Path, head: str, config: str, sizes: dict) -> None:
    load_model(read_checkpoint(save(tmp_path, head, config, sizes)))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("head", "config", "sizes"),
    [
        ("LlamaForCausalLM", "LlamaConfig", DECODER),
        ("MistralForCausalLM", "MistralConfig", DECODER),
        ("Qwen2ForCausalLM", "Qwen2Config", SIZES | {"num_key_value_heads": 1}),
        ("Qwen3ForCausalLM", "Qwen3Config", DECODER),
        ("GemmaForCausalLM", "GemmaConfig", DECODER),
        ("Gemma2ForCausalLM", "Gemma2Config", DECODER),
        ("Gemma3ForCausalLM", "Gemma3TextConfig", DECODER),
        ("GPT2LMHeadModel", "GPT2Config", GPT2),
    ],
)
def test_decoders_in_several_files_are_whole(tmp_path: Path, head: str, config: str, sizes: dict, tied: bool) -> None:
    folder = save(tmp_path, head, config, sizes, tie_word_embeddings=tied)
    checkpoint = read_checkpoint(folder)
    assert len(checkpoint.weights) > 1
    load_model(checkpoint)


def test_old_names_are_read_and_what_only_counts_is_no_alarm(tiny_copy) -> None:
    folder = tiny_copy("bert")
    weights = load_file(folder / "model.safetensors")
    old = {
        "bert." + n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): w
        for n, w in weights.items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(66)[None]
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    model = load_model(read_checkpoint(folder))
    name = "encoder.layer.1.output.LayerNorm.weight"
    torch.testing.assert_close(model.state_dict()[name], weights[name], rtol=0, atol=0)


def test_what_decoders_used_to_keep_is_no_alarm(tmp_path: Path) -> None:
    folder = save(tmp_path / "llama", "LlamaForCausalLM", "LlamaConfig", DECODER | {"num_hidden_layers": 1})
    assert read_checkpoint(folder).weights
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8)}
    save_file(extra, folder / "extra.safetensors", metadata={"format": "pt"})
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.layers.0.self_attn.rotary_emb.inv_freq"] = "extra.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    load_model(read_checkpoint(folder))


def test_the_pooler_of_a_roberta_classifier_is_no_alarm(tiny_copy) -> None:
    folder = add(tiny_copy("roberta", classify=True), roberta__pooler__dense__weight=torch.zeros(32, 32))
    load_model(read_checkpoint(folder))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("logit_scale", "config.json"),
        ("encoder__layer__7__output__dense__weight", "number of layers"),
        ("encoder__layer__0__attention__self__query__lora_A__weight", "merge it"),
        ("encoder__layer__0__attention__self__distance_embedding__weight", "relative positions"),
        ("encoder__layer__0__output__adapters__mine__adapter_down__0__weight", "merge it"),
    ],
)
def test_a_tensor_that_nobody_uses_is_named(tiny_copy, name: str, remedy: str) -> None:
    folder = add(tiny_copy("bert"), **{name: torch.zeros(3, 3)})
    with pytest.raises(UsageError, match="would not use: ") as failure:
        load_model(read_checkpoint(folder))
    assert f"'{name.replace('__', '.')}'" in failure.value.problem
    assert remedy in failure.value.remedy


def test_many_such_tensors_are_counted(tiny_copy) -> None:
    folder = add(tiny_copy("bert"), **{f"extra{i}": torch.zeros(1) for i in range(5)})
    with pytest.raises(UsageError, match="'extra0', 'extra1' and 3 more"):
        load_model(read_checkpoint(folder))


def test_a_head_of_another_kind_on_a_decoder_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path, "LlamaForCausalLM", "LlamaConfig", DECODER | {"num_hidden_layers": 1})
    shard = folder / read_checkpoint(folder).weights[0]
    save_file(load_file(shard) | {"score.weight": torch.zeros(2, 32)}, shard, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"'score\.weight'"):
        load_model(read_checkpoint(folder))
