"""Tokenizers of GGUF files split texts as llama.cpp does."""

from __future__ import annotations

import pytest

from fastserve_converters.checkpoints.gguf.tokenizer import load_gguf_tokenizer
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
    assert tokenizer("hi").input_ids == [0, tokenizer.convert_tokens_to_ids("hi")]  # begun without a flag


def test_unknown_splits_and_kinds_are_refused(written) -> None:
    with pytest.raises(UsageError, match="'bert-like'"):
        load_gguf_tokenizer(written("bert-like"))
    with pytest.raises(UsageError, match="'rwkv'"):
        load_gguf_tokenizer(written("gpt-2", **{"tokenizer.ggml.model": "rwkv"}))
    with pytest.raises(UsageError, match="lacks scores"):
        load_gguf_tokenizer(written("gpt-2", **{"tokenizer.ggml.model": "llama"}))


def test_a_damaged_vocabulary_is_refused(written) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_gguf_tokenizer(written("gpt-2", **{"tokenizer.ggml.eos_token_id": 100_000}))
    with pytest.raises(UsageError, match="cannot be read"):
        load_gguf_tokenizer(written("gpt-2", **{"tokenizer.ggml.merges": ["1 2", "x no-token"]}))
    with pytest.raises(UsageError, match="'hi' twice"):
        load_gguf_tokenizer(written("gpt-2", **{"tokenizer.ggml.tokens": ["hi", "a", "hi"]}))


def test_neighbours_are_not_read(written) -> None:
    file = written("gpt-2")
    before = load_gguf_tokenizer(file).backend_tokenizer.to_str()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja"):
        (file.parent / name).write_text('{"chat_template": "another"}')
    after = load_gguf_tokenizer(file)
    assert after.backend_tokenizer.to_str() == before
    assert after.chat_template == "{{ messages[0].content }}"


def test_a_conversation_begins_as_texts_do(written) -> None:
    """llama.cpp adds the beginning where a template forgets it, and once where it does not."""
    forgetful = load_gguf_tokenizer(written("llama-bpe"))
    assert forgetful.chat_template == "{{ bos_token }}{{ messages[0].content }}"
    whole = "{{ bos_token }}{{ messages[0].content }}"
    assert load_gguf_tokenizer(written("llama-bpe", **{"tokenizer.chat_template": whole})).chat_template == whole
    flag = {"tokenizer.ggml.add_bos_token": False}
    assert load_gguf_tokenizer(written("llama-bpe", **flag)).chat_template == "{{ messages[0].content }}"


def test_several_chat_templates_have_their_names(written) -> None:
    more = {"tokenizer.chat_template.tool_use": "{{ tools }}", "tokenizer.chat_templates": ["tool_use"]}
    found = load_gguf_tokenizer(written("gpt-2", **more)).chat_template
    assert found == {"default": "{{ messages[0].content }}", "tool_use": "{{ tools }}"}


def test_a_beginning_that_is_not_named_is_refused(written, tmp_path) -> None:
    file = written("tekken")
    file.write_bytes(file.read_bytes().replace(b"bos_token_id", b"box_token_id"))
    with pytest.raises(UsageError, match=r"lacks 'tokenizer.ggml.bos_token_id'"):
        load_gguf_tokenizer(file)


def test_signs_beyond_the_byte_alphabet_are_special_tokens_all_the_same(written) -> None:
    metadata = tokenizer_metadata("deepseek-r1-qwen")
    tokens = ["<｜begin▁of▁sentence｜>", "<｜User｜>", *metadata["tokenizer.ggml.tokens"][1:]]
    types = [3, 3, *metadata["tokenizer.ggml.token_type"][1:]]
    more = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types, "tokenizer.ggml.merges": ["h i"]}
    tokenizer = load_gguf_tokenizer(written("deepseek-r1-qwen", **more))
    assert tokenizer("<｜User｜>hi").input_ids == [1, tokens.index("hi")]
    assert tokenizer.bos_token == "<｜begin▁of▁sentence｜>"


def test_blanks_behind_special_tokens_of_phi_are_no_text(written) -> None:
    named = {"general.name": "Phi-3 mini"}
    ids = tokenizer_metadata("gpt-2")["tokenizer.ggml.tokens"].index
    assert load_gguf_tokenizer(written("gpt-2", **named))("<|end|> hi").input_ids == [0, ids("hi")]
    assert load_gguf_tokenizer(written("gpt-2"))("<|end|> hi").input_ids == [0, ids("Ġhi")]
