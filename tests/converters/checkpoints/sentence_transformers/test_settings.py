"""What the files of the whole and of its Transformer say of texts, lengths and loading."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastserve_converters.checkpoints.sentence_transformers import SentenceSettings, TransformerSettings, read_json
from fastserve_converters.checkpoints.sentence_transformers.settings import read_sentence_settings
from fastserve_converters.checkpoints.sentence_transformers.transformer import FILES, read_transformer_settings
from fastserve_runtime.errors import UsageError


def settings(root: Path, **content) -> SentenceSettings:
    (root / "config_sentence_transformers.json").write_text(json.dumps(content))
    return read_sentence_settings(root)


def transformer(root: Path, **content) -> TransformerSettings:
    (root / "sentence_bert_config.json").write_text(json.dumps(content))
    return read_transformer_settings(root, "")


def test_without_files_the_usual_settings_hold(tmp_path: Path) -> None:
    assert read_sentence_settings(tmp_path) == SentenceSettings()
    assert read_transformer_settings(tmp_path, "") == TransformerSettings()


def test_prompts_are_read_with_their_default(tmp_path: Path) -> None:
    found = settings(tmp_path, prompts={"query": "q: ", "document": None}, default_prompt_name="query")
    assert (found.prompts, found.default_prompt) == ({"query": "q: ", "document": ""}, "query")


def test_a_default_prompt_that_every_model_has_needs_no_text(tmp_path: Path) -> None:
    assert settings(tmp_path, default_prompt_name="document").default_prompt is None


def test_a_default_prompt_that_is_none_of_the_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names the default prompt 'passage', which is none of its prompts") as failure:
        settings(tmp_path, prompts={"query": "q: "}, default_prompt_name="passage")
    assert "query" in failure.value.remedy


@pytest.mark.parametrize("wrong", [{"prompts": {"query": 3}}, {"prompts": ["q: "]}, {"truncate_dim": 0},
                                   {"truncate_dim": "8"}, {"truncate_dim": True}, {"similarity_fn_name": "maxsim"},
                                   {"default_prompt_name": 1}])  # fmt: skip
def test_values_of_another_kind_are_refused(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(UsageError, match=f"as '{next(iter(wrong))}', which is not supported"):
        settings(tmp_path, **wrong)


def test_how_embeddings_are_compared_is_read(tmp_path: Path) -> None:
    assert settings(tmp_path, similarity_fn_name="dot").similarity == "dot"
    assert settings(tmp_path, similarity_fn_name=None).similarity == "cosine"


def test_keys_that_change_no_embedding_are_noted(tmp_path: Path) -> None:
    assert settings(tmp_path, __version__={"pytorch": "2"}).notes() == ()
    assert "has 'requirements', 'colour'" in settings(tmp_path, requirements={}, colour=1).notes()[0]


@pytest.mark.parametrize("name", FILES)
def test_the_transformers_file_may_have_an_old_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "0_Transformer").mkdir()
    (tmp_path / "0_Transformer" / name).write_text('{"max_seq_length": 7, "do_lower_case": true}')
    found = read_transformer_settings(tmp_path, "0_Transformer")
    assert (found.max_seq_length, found.max_seq_length_from) == (7, f"0_Transformer/{name}")
    assert found.lower_case


@pytest.mark.parametrize(
    ("own", "tokenizer", "length"),
    [
        ({"max_seq_length": 8}, {"model_max_length": 4}, 8),
        ({"max_seq_length": 8, "tokenizer_args": {"model_max_length": 6}}, {}, 6),
        ({"max_seq_length": None, "processor_kwargs": {"model_max_length": 6}}, {}, 6),
        ({}, {"model_max_length": 512}, 512),
        ({}, {"model_max_length": 512.0}, 512),
        ({}, {"model_max_length": 1e30}, None),
        ({}, {}, None),
    ],
)
def test_texts_are_cut_where_the_files_say(tmp_path: Path, own: dict, tokenizer: dict, length: int | None) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert transformer(tmp_path, **own).max_seq_length == length


@pytest.mark.parametrize(
    "content",
    [
        {"unpad_inputs": False, "do_lower_case": False, "transformer_task": "feature-extraction"},
        {"module_output_name": "token_embeddings"},
        {"modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}},
        {"modality_config": {"text": {"method": "forward", "method_output_name": ["last_hidden_state"]}}},
        {"model_args": {"attn_implementation": "eager", "trust_remote_code": True}, "processing_kwargs": {}},
    ],
)
def test_what_changes_no_number_is_taken(tmp_path: Path, content: dict) -> None:
    assert transformer(tmp_path, **content) == TransformerSettings()


@pytest.mark.parametrize(
    "key",
    [
        {"module_output_name": "sentence_embedding"},
        {"modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}}},
        {"modality_config": {"text": {"method": "get_text_features", "method_output_name": "last_hidden_state"}}},
        {"modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}, "message": {}}},
        {"processing_kwargs": {"text": {"max_length": 8}}},
        {"query_expansion": {"length": 32}},
        {"tokenizer_name_or_path": "other"},
        {"max_seq_length": "64"},
        {"max_seq_length": 0},
    ],
)
def test_what_would_be_missing_from_the_bundle_is_refused_by_name(tmp_path: Path, key: dict) -> None:
    with pytest.raises(UsageError, match=f"as '{next(iter(key))}', which is not supported"):
        transformer(tmp_path, **key)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"pad_to_max": True}, "'sentence_bert_config.json' has the key 'pad_to_max'"),
        ({"model_args": {"variant": "fp16"}}, "'sentence_bert_config.json: model_args' has the key 'variant'"),
        ({"processor_kwargs": {"padding_side": "left"}}, "has the key 'padding_side'"),
        ({"config_kwargs": {"hidden_act": "relu"}}, "has the key 'hidden_act'"),
    ],
)
def test_a_key_that_is_not_understood_is_refused(tmp_path: Path, content: dict, named: str) -> None:
    with pytest.raises(UsageError, match=f"{named}, which is not understood"):
        transformer(tmp_path, **content)


def test_what_counts_elsewhere_alone_is_noted(tmp_path: Path) -> None:
    found = transformer(tmp_path, query_length=32, model_args={"torch_dtype": "float16"})
    assert "'query_length', which counts in sentence-transformers' encode_query" in found.notes[0]
    assert "loads the model in float16" in found.notes[1]


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe"])
def test_a_file_that_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"'broken\.json' is not JSON"):
        read_json(tmp_path / "broken.json")


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'gone\.json' cannot be read: No such file"):
        read_json(tmp_path / "gone.json")


def test_a_file_that_is_no_object_is_named(tmp_path: Path) -> None:
    (tmp_path / "config_sentence_transformers.json").write_text("[]")
    with pytest.raises(UsageError, match=r"'config_sentence_transformers\.json' is not a JSON object"):
        read_sentence_settings(tmp_path)
