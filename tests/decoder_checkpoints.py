"""Small checkpoints of decoders that tests make: real architectures with random weights, and a byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

from checkpoints import texts
from random_decoders import COMMON

VOCABULARY = 512
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def save_text_tokenizer(folder: Path, *, chat: bool = True) -> None:
    """Train and save a byte-level tokenizer of 512 tokens, such as GPT-2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)


def save_decoder_checkpoint(
    folder: Path, kind: str = "llama", *, chat: bool = True, layers: int = 2, positions: int = 128
) -> Path:
    """Save a small model with random weights, large enough that what it gives depends on the text."""
    configs = {
        "llama": transformers.LlamaConfig,
        "qwen2": transformers.Qwen2Config,
        "qwen3": transformers.Qwen3Config,
        "gemma": transformers.GemmaConfig,
        "gpt2": transformers.GPT2Config,
    }
    sizes = {
        **COMMON,
        "vocab_size": VOCABULARY,
        "num_hidden_layers": layers,
        "max_position_embeddings": positions,
    }
    if kind == "gpt2":
        gpt2 = {"n_embd": 64, "n_layer": layers, "n_head": 4, "n_positions": positions, "vocab_size": VOCABULARY}
        sizes = {**gpt2, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(configs[kind](**sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.15)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    save_text_tokenizer(folder, chat=chat)
    return folder
