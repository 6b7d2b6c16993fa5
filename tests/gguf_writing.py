"""Small GGUF files, written as llama.cpp's converters write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers

from random_decoders import COMMON, CONFIGS, random_decoder

ARCHITECTURES = {
    "llama": "llama",
    "llama-tied-biased": "llama",
    "qwen-2": "qwen2",
    "qwen-3": "qwen3",
    "gemma": "gemma",
    "gemma-2": "gemma2",
    "gemma-3": "gemma3",
    "gpt-2": "gpt2",
}
SPLIT_TOKENS = ["1", "2", "3", "12", "23", "h", "i", "hi", "Ġ", "Ġhi"]
Kind = gguf.GGMLQuantizationType


def gguf_model(name: str) -> Any:
    """Return a random model that a GGUF file can say all of."""
    if name == "gemma-2":
        # llama.cpp has the scale of attention in its code.
        return random_decoder(transformers.Gemma2Config(**COMMON, sliding_window=8, query_pre_attn_scalar=16))
    if name == "gemma-3":
        config = transformers.Gemma3TextConfig(**COMMON, sliding_window=8, query_pre_attn_scalar=16)
        config.rope_parameters["full_attention"]["rope_theta"] = 5000.0
        return random_decoder(config)
    return random_decoder(CONFIGS[name]())


def write_gguf(
    file: Path,
    model: Any,
    architecture: str,
    kinds: Callable[[str], Kind] = lambda _: Kind.F32,
    more: Mapping[str, Any] | None = None,
    extra: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write a model.

    Args:
        file: where to.
        model: of Transformers.
        architecture: as GGUF calls it.
        kinds: the type of each matrix, by its name in the file; vectors are float32.
        more: further metadata, or other values.
        extra: further tensors.
    """
    writer = gguf.GGUFWriter(file, architecture)
    for key, value in {**_metadata(model.config, architecture), **(more or {})}.items():
        _add(writer, key, value)
    names = gguf.get_tensor_name_map(
        next(k for k, n in gguf.MODEL_ARCH_NAMES.items() if n == architecture), model.config.num_hidden_layers
    )
    for name, parameter in model.named_parameters():
        base, _, ending = name.rpartition(".")
        stored = f"{names.get_name(base)}.{ending}"
        values = _rearranged(stored, parameter.detach().numpy(), model.config, architecture)
        kind = kinds(stored) if values.ndim == 2 else Kind.F32
        writer.add_tensor(stored, gguf.quants.quantize(values, kind), raw_dtype=kind)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def tokenizer_metadata(split: str) -> dict[str, Any]:
    """Return the metadata of a byte-level tokenizer that would rather merge digits."""
    alphabet = sorted(set(_byte_alphabet()) - set(SPLIT_TOKENS))
    tokens = ["<|end|>", *SPLIT_TOKENS, *alphabet]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": split,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] + [1] * (len(tokens) - 1),
        "tokenizer.ggml.merges": ["1 2", "2 3", "h i", "Ġ hi"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }


def _byte_alphabet() -> list[str]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return list(bytes_to_unicode().values())


def _metadata(config: Any, architecture: str) -> dict[str, Any]:
    if architecture == "gpt2":
        known = {
            "context_length": config.n_positions,
            "embedding_length": config.n_embd,
            "feed_forward_length": 4 * config.n_embd,
            "block_count": config.n_layer,
            "attention.head_count": config.n_head,
            "attention.layer_norm_epsilon": config.layer_norm_epsilon,
        }
    else:
        rotary = config.rope_parameters
        known = {
            "context_length": config.max_position_embeddings,
            "embedding_length": config.hidden_size,
            "feed_forward_length": config.intermediate_size,
            "block_count": config.num_hidden_layers,
            "attention.head_count": config.num_attention_heads,
            "attention.head_count_kv": config.num_key_value_heads,
            "attention.key_length": config.head_dim if hasattr(config, "head_dim") else 16,
            "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
            "rope.freq_base": float(rotary.get("full_attention", rotary)["rope_theta"]),
        }
        if architecture in {"gemma2", "gemma3"}:
            known["attention.sliding_window"] = config.sliding_window
    ends = {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}
    return {**{f"{architecture}.{key}": value for key, value in known.items()}, **ends}


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kinds = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
    kinds.get(type(value), writer.add_array)(key, value)


def _rearranged(name: str, values: np.ndarray, config: Any, architecture: str) -> np.ndarray:
    if architecture == "llama" and (".attn_q." in name or ".attn_k." in name):
        heads = config.num_attention_heads if ".attn_q." in name else config.num_key_value_heads
        halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
        values = halves.swapaxes(1, 2).reshape(values.shape)
    if architecture.startswith("gemma") and name.endswith("norm.weight"):
        values = values + 1
    if architecture == "gpt2" and name.startswith("blk.") and values.ndim == 2:
        values = values.T
    return np.ascontiguousarray(values, np.float32)


def logits(model: Any, tokens: torch.Tensor) -> np.ndarray:
    """Return the model's scores, shape [tokens, vocabulary]."""
    with torch.no_grad():
        return model(input_ids=tokens, use_cache=False).logits[0].numpy()
