"""Tokenizers of GGUF files split texts as llama.cpp does."""

from __future__ import annotations

import pytest

from fastserve_converters.gguf_files.tokenizer import load_gguf_tokenizer
from fastserve_runtime.errors import UsageError
from gguf_writing import gguf_model, tokenizer_metadata, write_gguf


@pytest.fixture
def written(tmp_path):
    model = gguf_model("gpt-2")
    return lambda split, **more: write_gguf(
        tmp_path / "model.gguf", model, "gpt2", more={**tokenizer_metadata(split), **more}
    )


@pytest.mark.parametrize(
    ("split", "tokens"),
    [("gpt-2", ["hi", "Ġ", "12", "3", "Ġhi"]), ("smollm", ["hi", "Ġ", "1", "2", "3", "Ġhi"])],
)
def test_digits_stand_alone_where_the_model_wants_it(split, tokens, written) -> None:
    tokenizer = load_gguf_tokenizer(written(split))
    assert tokenizer.tokenize("hi 123 hi") == tokens
    assert tokenizer.decode(tokenizer.encode("hi 123 hi")) == "hi 123 hi"
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.tokenize("hi<|end|>") == ["hi", "<|end|>"]
    assert tokenizer.chat_template == "{{ messages[0].content }}"


def test_words_that_are_tokens_need_no_merges(written) -> None:
    tokenizer = load_gguf_tokenizer(written("llama-bpe", **{"tokenizer.ggml.merges": ["1 2"]}))
    assert tokenizer.tokenize("hi 23") == ["hi", "Ġ", "23"]


def test_unknown_splits_and_kinds_are_refused(written) -> None:
    with pytest.raises(UsageError, match="'bert-like'"):
        load_gguf_tokenizer(written("bert-like"))
    with pytest.raises(UsageError, match="'rwkv'"):
        load_gguf_tokenizer(written("gpt-2", **{"tokenizer.ggml.model": "rwkv"}))


def test_a_damaged_vocabulary_is_refused(written) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_gguf_tokenizer(written("gpt-2", **{"tokenizer.ggml.eos_token_id": 100_000}))
