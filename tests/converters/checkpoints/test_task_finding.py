"""A checkpoint whose config names no architecture is known by its weights, and no head is left out unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_runtime.errors import UsageError

FAMILIES = ["bert", "roberta", "albert", "distilbert"]


def without_architecture(folder: Path, **changes: object) -> Path:
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_is_known_by_its_head(tiny_copy, family: str) -> None:
    folder = without_architecture(tiny_copy(family, classify=True))
    checkpoint = read_checkpoint(folder)
    assert checkpoint.task == "text-classification"
    assert checkpoint.labels == ("negative", "neutral", "positive")
    assert "names no architecture" in checkpoint.notes[0]
    load_model(checkpoint)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_is_known_by_having_no_head(tiny_copy, family: str) -> None:
    checkpoint = read_checkpoint(without_architecture(tiny_copy(family)))
    assert checkpoint.task == "feature-extraction"
    assert checkpoint.notes == ()


def test_pickled_weights_tell_their_names_without_being_run(tiny_copy) -> None:
    folder = without_architecture(tiny_copy("bert", classify=True))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert read_checkpoint(folder, allow_pickle=True).task == "text-classification"


@pytest.mark.parametrize("task", ["feature-extraction", "text-classification"])
def test_the_task_may_be_named_where_the_config_names_none(tiny_copy, task: str) -> None:
    checkpoint = read_checkpoint(without_architecture(tiny_copy("bert", classify=True)), task=task)
    assert checkpoint.task == task
    load_model(checkpoint)


def test_a_head_that_the_config_denies_is_not_left_out_unasked(tiny_copy) -> None:
    folder = without_architecture(tiny_copy("bert", classify=True), architectures=["BertModel"])
    with pytest.raises(UsageError, match=r"have a head \('classifier\.bias'\), and its config\.json says") as failure:
        read_checkpoint(folder)
    assert "--task text-classification" in failure.value.remedy
    assert "--task feature-extraction" in failure.value.remedy
    assert read_checkpoint(folder, task="feature-extraction").task == "feature-extraction"


def test_a_head_of_another_task_is_named(tiny_copy) -> None:
    folder = without_architecture(tiny_copy("bert"))
    weights = load_file(folder / "model.safetensors") | {"logits_proj.weight": torch.zeros(2, 32)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"'logits_proj\.weight'.*names no architecture"):
        read_checkpoint(folder)


def test_the_pretraining_heads_of_albert_are_no_classifier(tmp_path: Path) -> None:
    import transformers

    config = transformers.AlbertConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, embedding_size=16
    )
    transformers.AlbertForPreTraining(config).save_pretrained(tmp_path)
    assert read_checkpoint(without_architecture(tmp_path)).task == "feature-extraction"


def test_a_decoder_without_an_architecture_generates(tmp_path: Path, folder) -> None:
    assert read_checkpoint(folder(model_type="llama", architectures=...)).task == "text-generation"


@pytest.mark.parametrize("name", ["model_head.pkl", "config_setfit.json"])
def test_a_head_of_setfit_is_named(folder, name: str) -> None:
    root = folder({name: "x"})
    with pytest.raises(UsageError, match=f"a head of SetFit \\('{name}'\\)") as failure:
        read_checkpoint(root)
    assert "--task feature-extraction" in failure.value.remedy
    assert read_checkpoint(root, task="feature-extraction").task == "feature-extraction"
