"""Small random decoders of every supported class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers

COMMON: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 64,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LONG_ROPE: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SHORT_AND_LONG: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.1 * i for i in range(8)],
    "long_factor": [2.0 + 0.3 * i for i in range(8)],
    "original_max_position_embeddings": 64,
}
HEAD_SIZES = [4, 8, 12, 20, 100]
"""Of which the operators of some engines want others."""
CONFIGS: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "llama": lambda: transformers.LlamaConfig(**COMMON),
    "llama-tied-biased": lambda: transformers.LlamaConfig(**COMMON, tie_word_embeddings=True, attention_bias=True),
    "llama-3-positions": lambda: transformers.LlamaConfig(**COMMON, rope_parameters=LONG_ROPE),
    "mistral": lambda: transformers.MistralConfig(**COMMON, sliding_window=8),
    "qwen-2": lambda: transformers.Qwen2Config(**COMMON),
    "qwen-2-windows": lambda: transformers.Qwen2Config(
        **COMMON, use_sliding_window=True, sliding_window=8, max_window_layers=3
    ),
    "qwen-3": lambda: transformers.Qwen3Config(**COMMON),
    "gemma": lambda: transformers.GemmaConfig(**COMMON),
    "gemma-2": lambda: transformers.Gemma2Config(**COMMON, sliding_window=8, query_pre_attn_scalar=24),
    "gemma-3": lambda: transformers.Gemma3TextConfig(**COMMON, sliding_window=8, query_pre_attn_scalar=24),
    "phi-3": lambda: transformers.Phi3Config(
        **COMMON, rope_parameters=SHORT_AND_LONG, original_max_position_embeddings=64
    ),
    "gpt-2": lambda: transformers.GPT2Config(
        vocab_size=256, n_embd=64, n_layer=3, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=2
    ),
}


def heads_of(size: int, kind: str = "llama") -> transformers.PretrainedConfig:
    """Return the config of a model of one layer whose heads have so many dimensions."""
    if kind == "gpt-2":
        return transformers.GPT2Config(
            vocab_size=256, n_embd=4 * size, n_layer=1, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=2
        )
    config = CONFIGS[kind]()
    config.num_hidden_layers, config.head_dim = 1, size
    return config


def random_decoder(config: transformers.PretrainedConfig) -> Any:
    """Return a random model; its norms and biases are no ones and zeros, which would hide mistakes."""
    torch.manual_seed(0)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def random_tokens(count: int) -> torch.Tensor:
    """Return token ids, shape [1, count]."""
    return torch.randint(0, 256, (1, count), generator=torch.Generator().manual_seed(1))
