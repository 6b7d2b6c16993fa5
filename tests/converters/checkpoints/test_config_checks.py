"""What a config says and nobody would compute is refused or named; what says nothing is no news."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from fastserve_converters.checkpoints.model_loading import load_with_notes
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_runtime.errors import UsageError
from random_decoders import COMMON, random_decoder


def changed(folder: Path, **changes: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query", "rotary"])
def test_positions_that_are_no_longer_computed_are_refused(folder, kind: str) -> None:
    with pytest.raises(UsageError, match=f"'position_embedding_type' is '{kind}'"):
        read_checkpoint(folder(position_embedding_type=kind))


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_causal_encoder_is_refused(folder, family: str) -> None:
    with pytest.raises(UsageError, match="'is_decoder': true") as failure:
        read_checkpoint(folder(model_type=family, is_decoder=True))
    assert "config.json" in failure.value.remedy


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"add_cross_attention": True}, "'add_cross_attention': true"),
        ({"model_type": "roberta", "pad_token_id": None}, "'pad_token_id' is None"),
        ({"problem_type": "ranking"}, "'problem_type' is 'ranking'"),
        ({"max_position_embeddings": "512"}, "'max_position_embeddings' is '512', which is no count"),
        ({"hidden_size": [32]}, "'hidden_size' is .*, which is no count"),
        ({"type_vocab_size": 1.5}, "'type_vocab_size' is 1.5"),
        ({"max_position_embeddings": True}, "is True, which is no count"),
    ],
)
def test_values_that_mean_nothing_here_are_refused(folder, changes: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_checkpoint(folder(**changes))


def test_heads_that_were_pruned_are_refused(folder) -> None:
    with pytest.raises(UsageError, match="'pruned_heads'"):
        read_checkpoint(folder(pruned_heads={"0": [1]}))


# What real configs of these families hold, old and new.
HARMLESS = {
    "_name_or_path": "x",
    "add_cross_attention": False,
    "attn_implementation": "sdpa",
    "directionality": "bidi",
    "finetuning_task": "sst-2",
    "gradient_checkpointing": False,
    "is_decoder": False,
    "language": "en",
    "max_length": 20,
    "num_beams": 1,
    "output_past": True,
    "pooler_fc_size": 768,
    "pooler_type": "first_token_transform",
    "position_embedding_type": "absolute",
    "problem_type": None,
    "pruned_heads": {},
    "sentence_transformers": {"version": "5.0"},
    "torch_dtype": "float16",
    "transformers_version": "4.2.0",
    "use_cache": True,
}


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "distilbert"])
def test_what_says_nothing_is_no_news(tiny_copy, family: str) -> None:
    assert load_with_notes(read_checkpoint(changed(tiny_copy(family), **HARMLESS))).notes == ()


def test_a_real_model_has_no_news(minilm: Path) -> None:
    assert load_with_notes(read_checkpoint(minilm)).notes == ()


def test_keys_that_nobody_reads_are_named(tiny_copy) -> None:
    folder = changed(tiny_copy("bert"), attention_temperature=2.0, is_decoder=False, use_alibi=True)
    notes = load_with_notes(read_checkpoint(folder)).notes
    assert len(notes) == 1
    assert "attention_temperature, use_alibi, which Transformers' BertConfig does not read" in notes[0]


@pytest.mark.parametrize(("kind", "is_read"), [("Phi3", True), ("Llama", False)])
def test_the_share_of_a_head_that_turns_is_read_by_some(kind: str, is_read: bool, tmp_path: Path) -> None:
    """Transformers takes the key into the config of any model with rotary embeddings."""
    random_decoder(getattr(transformers, f"{kind}Config")(**COMMON)).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"partial_rotary_factor": 0.5}))
    notes = load_with_notes(read_checkpoint(tmp_path)).notes
    assert len(notes) == (not is_read)
    assert is_read or "has partial_rotary_factor, which Transformers' LlamaConfig does not read" in notes[0]


def test_a_key_says_nothing_only_with_the_value_that_does(tiny_copy) -> None:
    notes = load_with_notes(read_checkpoint(changed(tiny_copy("albert"), is_decoder=True))).notes
    assert "is_decoder" in notes[0]


@pytest.mark.parametrize("changes", [{"return_dict": False}, {"output_attentions": True, "output_hidden_states": True}])
def test_results_are_read_in_their_own_form_whatever_the_config_asks(tiny_copy, changes: dict) -> None:
    import torch

    model = load_with_notes(read_checkpoint(changed(tiny_copy("bert"), **changes))).model
    result = model(input_ids=torch.ones(1, 4, dtype=torch.long))
    assert set(result) == {"last_hidden_state", "pooler_output"}
