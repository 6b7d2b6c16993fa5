"""Cross-encoders of sentence-transformers, as every version saves them, and models for pairs of texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.tasks import text_classification, text_ranking
from fastserve_runtime.errors import UsageError

CLASSIFIER = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
NLI = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "no", "1": "maybe", "2": "yes"}}
SIGMOID, IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]


def new_layout(activation: str | None = None, **more: Any) -> dict[str, Any]:
    settings = {"model_type": "CrossEncoder", **({} if activation is None else {"activation_fn": activation}), **more}
    return {
        "modules.json": MODULES,
        "sentence_bert_config.json": {"transformer_task": "sequence-classification", "module_output_name": "scores"},
        "config_sentence_transformers.json": settings,
    }


@pytest.mark.parametrize(
    ("config", "files", "activation"),
    [
        ({"sbert_ce_default_activation_function": IDENTITY}, {}, "identity"),
        ({"sbert_ce_default_activation_function": None}, {}, "sigmoid"),
        ({"sentence_transformers": {"version": "4.1.0", "activation_fn": SIGMOID}}, {}, "sigmoid"),
        ({"sentence_transformers": {"version": "4.1.0", "activation_fn": IDENTITY}}, {}, "identity"),
        ({"sentence_transformers": {"version": "4.1.0"}}, {}, "sigmoid"),
        ({}, new_layout(SIGMOID), "sigmoid"),
        ({}, new_layout(IDENTITY), "identity"),
        ({}, new_layout(), "sigmoid"),
        ({"sentence_transformers": {}, "sbert_ce_default_activation_function": IDENTITY}, {}, "identity"),
        (
            {"sentence_transformers": {"activation_fn": None}, "sbert_ce_default_activation_function": IDENTITY},
            {},
            "sigmoid",
        ),
        ({"sentence_transformers": {"activation_fn": IDENTITY}}, new_layout(), "identity"),
        ({"sentence_transformers": {"activation_fn": IDENTITY}}, new_layout("mine.Activation"), "identity"),
        # Without modules.json, sentence-transformers does not read the settings.
        (
            {},
            {"config_sentence_transformers.json": {"model_type": "CrossEncoder", "activation_fn": IDENTITY}},
            "sigmoid",
        ),
    ],
)
def test_a_cross_encoder_of_one_score_ranks_texts_with_its_own_activation(
    folder: Callable[..., Path], config: dict[str, Any], files: dict[str, Any], activation: str
) -> None:
    checkpoint = read_checkpoint(folder(files, **CLASSIFIER, **config))
    assert checkpoint.task == "text-ranking"
    assert checkpoint.takes_pairs
    assert checkpoint.has_token_types
    assert text_ranking.settings(checkpoint) == {"activation": activation}


def test_an_activation_of_their_own_code_is_not_run_but_named(folder: Callable[..., Path]) -> None:
    checkpoint = read_checkpoint(folder(new_layout("mine.Activation"), **CLASSIFIER))
    assert checkpoint.activation == "sigmoid"
    assert any("'mine.Activation', which is code of its own" in note for note in checkpoint.notes)


def test_an_activation_that_is_not_carried_is_refused(folder: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match=r"the activation 'torch.nn.modules.activation.Tanh'"):
        read_checkpoint(folder(new_layout("torch.nn.modules.activation.Tanh"), **CLASSIFIER))


def test_a_cross_encoder_of_classes_labels_pairs(folder: Callable[..., Path]) -> None:
    checkpoint = read_checkpoint(folder(new_layout(IDENTITY), **NLI))
    assert checkpoint.task == "text-classification"
    assert checkpoint.takes_pairs
    assert text_classification.settings(checkpoint) == {"labels": ["no", "maybe", "yes"], "problem_type": None}
    assert any("the bundle gives their softmax" in note for note in checkpoint.notes)


def test_a_plain_classifier_of_one_score_gives_values_and_ranks_only_if_asked(folder: Callable[..., Path]) -> None:
    location = folder(**CLASSIFIER)
    checkpoint = read_checkpoint(location)
    assert (checkpoint.task, checkpoint.takes_pairs, checkpoint.activation) == ("text-classification", False, None)
    assert text_classification.settings(checkpoint)["problem_type"] == "regression"
    ranker = read_checkpoint(location, task="text-ranking")
    assert (ranker.task, ranker.takes_pairs) == ("text-ranking", True)
    assert text_ranking.settings(ranker) == {"activation": "sigmoid"}
    pairs = read_checkpoint(location, pairs=True)
    assert (pairs.task, pairs.takes_pairs) == ("text-classification", True)


def test_what_cannot_rank_is_refused(folder: Callable[..., Path]) -> None:
    location = folder(**NLI)
    with pytest.raises(UsageError, match="gives 3 scores for a pair of texts") as failure:
        read_checkpoint(location, task="text-ranking")
    assert "--task text-classification --pairs" in failure.value.remedy


def test_an_encoder_takes_no_pairs(folder: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="its task takes single ones"):
        read_checkpoint(folder(), pairs=True)


def test_the_prompts_of_a_cross_encoder_are_carried(folder: Callable[..., Path]) -> None:
    files = new_layout(prompts={"query": "Find: "}, default_prompt_name="query")
    texts = read_checkpoint(folder(files, **CLASSIFIER)).texts
    assert (texts.prompts, texts.default_prompt) == ({"query": "Find: "}, "query")


def test_keys_that_a_cross_encoder_has_no_use_for_are_named(folder: Callable[..., Path]) -> None:
    files = new_layout(SIGMOID, keep_in_fp32_modules=["0.model.classifier"], colour="red")
    files["modules.json"] = [{**MODULES[0], "kwargs": ["task"]}]
    notes = " ".join(read_checkpoint(folder(files, **CLASSIFIER)).notes)
    assert "has 'colour', which changes no result" in notes
    assert "'kwargs' for the Transformer" in notes
    assert "fp32" not in notes


@pytest.mark.parametrize(
    ("problem", "given"), [(None, "softmax"), ("multi_label_classification", "sigmoid"), ("regression", None)]
)
def test_what_becomes_of_plain_scores_of_classes_is_told(
    folder: Callable[..., Path], problem: str | None, given: str | None
) -> None:
    notes = read_checkpoint(folder(new_layout(IDENTITY), **NLI, problem_type=problem)).notes
    told = [note for note in notes if "plain logits" in note]
    assert all(f"their {given}" in note for note in told)
    assert bool(told) is (given is not None)


@pytest.mark.parametrize(
    "files",
    [
        {
            **new_layout(),
            "modules.json": [*MODULES, {**MODULES[0], "name": "1", "type": "sentence_transformers.models.Dense"}],
        },
        {**new_layout(), "sentence_bert_config.json": {"transformer_task": "text-generation"}},
    ],
)
def test_a_cross_encoder_that_is_more_than_a_classifier_is_refused(
    folder: Callable[..., Path], files: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="not supported"):
        read_checkpoint(folder(files, **CLASSIFIER))


@pytest.mark.parametrize(
    ("config", "names", "has_types"),
    [
        ({"type_vocab_size": 2}, None, True),
        ({"type_vocab_size": 1}, None, False),
        ({}, None, True),
        ({}, ["input_ids", "attention_mask"], False),
        ({}, ["input_ids", "token_type_ids", "attention_mask"], True),
        ({"model_type": "albert", "architectures": ["AlbertForSequenceClassification"]}, None, True),
        ({"model_type": "roberta", "architectures": ["RobertaForSequenceClassification"]}, None, False),
        ({"model_type": "distilbert", "architectures": ["DistilBertForSequenceClassification"]}, None, False),
    ],
)
def test_token_types_are_taken_where_the_family_and_the_tokenizer_have_them(
    folder: Callable[..., Path], config: dict[str, Any], names: list[str] | None, has_types: bool
) -> None:
    files = {} if names is None else {"tokenizer_config.json": json.dumps({"model_input_names": names})}
    checkpoint = read_checkpoint(folder(files, **{**NLI, **config}), pairs=True)
    assert checkpoint.has_token_types is has_types
    assert any("have the type 0" in note for note in checkpoint.notes) is (names is not None and not has_types)


def test_labels_that_only_pairs_have_are_pointed_out(folder: Callable[..., Path]) -> None:
    config = {**NLI, "id2label": {"0": "CONTRADICTION", "1": "ENTAILMENT"}}
    location = folder(**config)
    assert any("--pairs" in note for note in read_checkpoint(location).notes)
    assert not any("--pairs" in note for note in read_checkpoint(location, pairs=True).notes)
