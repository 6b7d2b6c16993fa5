"""Tasks: what they tell the pipeline, and what they run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.sentence_transformers import SentenceHead
from fastserve_converters.checkpoints.sentence_transformers.modules.normalize import Normalize
from fastserve_converters.checkpoints.sentence_transformers.modules.pooling import Pooling
from fastserve_converters.checkpoints.task import TASKS
from fastserve_converters.tasks import feature_extraction, text_classification
from fastserve_runtime.errors import UsageError


def test_tasks_are_found_by_their_names_on_the_hub() -> None:
    assert TASKS.built_in() == (
        "feature-extraction",
        "question-answering",
        "tensor-to-tensor",
        "text-classification",
        "text-generation",
        "text-ranking",
    )
    assert TASKS.load("feature-extraction") is feature_extraction
    assert TASKS.load("text-classification") is text_classification
    models = [TASKS.load(name).MODEL for name in TASKS.built_in()]
    assert models == ["encoder", "encoder", "program", "encoder", "decoder", "encoder"]


def test_an_unknown_task_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="There is no task 'text-clasification'") as failure:
        TASKS.load("text-clasification")
    assert "Did you mean 'text-classification'?" in failure.value.remedy


def test_settings_of_sentence_embeddings_tell_how_they_are_made(folder) -> None:
    checkpoint = read_checkpoint(folder())
    assert feature_extraction.settings(checkpoint) == {}
    assert [output.name for output in feature_extraction.outputs(checkpoint)] == ["last_hidden_state"]
    pooled = replace(checkpoint, sentence_head=SentenceHead((Pooling(("mean", "max")), Normalize())))
    assert feature_extraction.settings(pooled) == {"pooling": ["mean", "max"], "normalize": True}
    assert [output.name for output in feature_extraction.outputs(pooled)] == ["sentence_embedding"]


def test_settings_of_a_classifier_are_its_labels_and_problem_type(folder) -> None:
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "no", "1": "yes"}}
    checkpoint = read_checkpoint(folder(**config, problem_type="multi_label_classification"))
    assert text_classification.settings(checkpoint) == {
        "labels": ["no", "yes"],
        "problem_type": "multi_label_classification",
        "activation": "sigmoid",
    }
    assert [output.name for output in text_classification.outputs(checkpoint)] == ["logits"]


class Encoder(torch.nn.Module):
    """Gives each token its id as hidden state, and the number of tokens as logits."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        class Result:
            last_hidden_state = input_ids[..., None].float()
            logits = attention_mask.sum(1, keepdim=True).float()

        return Result()


IDS = {"input_ids": torch.tensor([[4, 6, 0], [3, 9, 6]]), "attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])}


def test_the_reference_is_the_models_own_output(folder) -> None:
    checkpoint = read_checkpoint(folder())
    hidden = feature_extraction.reference_outputs(Encoder(), checkpoint, IDS)
    assert hidden["last_hidden_state"].tolist() == [[[4], [6], [0]], [[3], [9], [6]]]
    assert text_classification.reference_outputs(Encoder(), checkpoint, IDS)["logits"].tolist() == [[2], [3]]


def test_the_reference_of_sentences_is_pooled_over_their_tokens_alone(folder) -> None:
    checkpoint = replace(read_checkpoint(folder()), sentence_head=SentenceHead((Pooling(("mean",)),)))
    (embeddings,) = feature_extraction.reference_outputs(Encoder(), checkpoint, IDS).values()
    assert embeddings.tolist() == [[5], [6]]
