"""The rewritten encoder computes what the original computes, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from checkpoints import texts
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.task import TASKS
from fastserve_converters.checkpoints.tokenizer_loading import load_tokenizer
from fastserve_converters.models.exportable_model import (
    TOLERANCE,
    ConstantRows,
    ExportableModel,
    build_exportable_model,
    prove_equal,
)
from fastserve_converters.models.reference import run_original
from fastserve_runtime.errors import EnvironmentFailure, UsageError

FAMILIES = ["bert", "roberta", "albert", "distilbert"]
LENGTH = 24


def inputs_of(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Short texts, which are padded, one that fills all tokens, and an empty one."""
    chosen = ["Hi.", "It rains.", "Why?", "No way!", "10 to 2", "Good", max(texts(), key=len), ""]
    encoded = load_tokenizer(checkpoint)(chosen, padding="max_length", truncation=True, max_length=LENGTH)
    mask = np.array(encoded["attention_mask"], np.float32)
    assert mask[:6].sum() < mask[:6].size / 2
    assert mask[6].all()
    return {"input_ids": np.array(encoded["input_ids"], np.int32), "attention_mask": mask}


def both(folder: Path, task: str = "auto") -> tuple[ExportableModel, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The exportable model, inputs, and the original's outputs on them."""
    checkpoint = read_checkpoint(folder, task=task)
    model = load_model(checkpoint)
    inputs = inputs_of(checkpoint)
    reference = run_original(TASKS.load(checkpoint.task), model, checkpoint, inputs)
    exportable_model = build_exportable_model(model, checkpoint, LENGTH)
    assert [output.name for output in exportable_model.outputs] == list(reference)
    given, expected = ({k: torch.from_numpy(v) for k, v in arrays.items()} for arrays in (inputs, reference))
    return exportable_model, given, expected


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("classify", [False, True])
def test_every_family_equals_its_original_with_real_padding(tiny, family: str, classify: bool) -> None:
    exportable_model, inputs, reference = both(tiny(family, classify=classify))
    (name,) = reference
    assert name == ("logits" if classify else "last_hidden_state")
    assert prove_equal(exportable_model, inputs, reference) <= TOLERANCE
    spread = reference[name].reshape(len(reference[name]), -1).std(0).max()
    assert spread > 0.01, "the outputs must depend on the text"


@pytest.mark.parametrize("family", FAMILIES)
def test_sentence_embeddings_equal_the_originals_too(tiny, family: str) -> None:
    exportable_model, inputs, reference = both(tiny(family, sentence=True))
    ((name, embeddings),) = reference.items()
    assert name == "sentence_embedding"
    assert embeddings.shape == (len(inputs["input_ids"]), 32)
    assert prove_equal(exportable_model, inputs, reference) <= TOLERANCE
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(embeddings)))


def test_the_encoder_of_a_classifier_can_be_had_alone(tiny) -> None:
    exportable_model, inputs, reference = both(tiny("bert", classify=True), task="feature-extraction")
    assert list(reference) == ["last_hidden_state"]
    assert prove_equal(exportable_model, inputs, reference) <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_has_no_influence(tiny, family: str) -> None:
    exportable_model, inputs, _ = both(tiny(family, sentence=True))
    ids, mask = inputs["input_ids"][:1], inputs["attention_mask"][:1]
    changed = torch.where(mask == 0, 7, ids)
    assert not torch.equal(changed, ids)
    with torch.no_grad():
        first, second = (exportable_model(i.to(torch.int32), mask)["sentence_embedding"] for i in (ids, changed))
    torch.testing.assert_close(first, second, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_and_token_types_are_constants(tiny, family: str) -> None:
    exportable_model, _, _ = both(tiny(family))
    constants = [name for name, m in exportable_model.named_modules() if isinstance(m, ConstantRows)]
    kinds = {name.rpartition(".")[2] for name in constants}
    assert kinds == {"position_embeddings"} | ({"token_type_embeddings"} if family != "distilbert" else set())
    tables = [m for m in exportable_model.modules() if isinstance(m, torch.nn.Embedding)]
    assert len(tables) == 1


def test_a_pooler_that_feeds_nothing_is_left_out(tiny) -> None:
    exportable_model, _, _ = both(tiny("bert"))
    assert not [name for name, _ in exportable_model.named_parameters() if "pooler" in name]
    classifier, _, _ = both(tiny("bert", classify=True))
    assert [name for name, _ in classifier.named_parameters() if "pooler" in name]


@pytest.mark.parametrize("classify", [False, True])
def test_a_changed_weight_is_found(tiny, classify: bool) -> None:
    exportable_model, inputs, reference = both(tiny("bert", classify=classify))
    with torch.no_grad():
        dict(exportable_model.named_parameters())[
            "model." + ("bert." * classify) + "encoder.layer.1.output.dense.weight"
        ][0, 0] += 0.5
    with pytest.raises(EnvironmentFailure, match="differs from the original by"):
        prove_equal(exportable_model, inputs, reference)


def test_a_wrong_position_is_found(tiny) -> None:
    exportable_model, inputs, reference = both(tiny("roberta"))
    constant = exportable_model.model.embeddings.position_embeddings
    constant.rows = constant.rows.roll(1, dims=1)
    with pytest.raises(EnvironmentFailure, match="differs from the original by"):
        prove_equal(exportable_model, inputs, reference)


@pytest.mark.parametrize("row", [0, -1])
def test_a_value_that_is_not_a_number_in_any_row_is_found(tiny, row: int) -> None:
    exportable_model, inputs, reference = both(tiny("bert", sentence=True))
    reference["sentence_embedding"][row, 3] = torch.nan
    with pytest.raises(EnvironmentFailure, match="differs from the original by inf"):
        prove_equal(exportable_model, inputs, reference)


def test_hidden_states_of_padding_are_not_compared(tiny) -> None:
    exportable_model, inputs, reference = both(tiny("bert"))
    (states,) = reference.values()
    states[inputs["attention_mask"] == 0] = 1e6
    states.clamp_(max=100)
    assert prove_equal(exportable_model, inputs, reference) <= TOLERANCE * 100
    states[0, 0] += 1
    with pytest.raises(EnvironmentFailure):
        prove_equal(exportable_model, inputs, reference)


def test_a_checkpoint_with_dense_layer_equals_its_original(tiny_copy) -> None:
    root = tiny_copy("bert", sentence=True)
    modules = json.loads((root / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "dense", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (root / "modules.json").write_text(json.dumps(modules))
    (root / "2_Dense").mkdir()
    config = {"in_features": 32, "out_features": 8, "bias": False}
    config["activation_function"] = "torch.nn.modules.activation.Tanh"
    (root / "2_Dense" / "config.json").write_text(json.dumps(config))
    save_file({"linear.weight": torch.randn(8, 32)}, root / "2_Dense" / "model.safetensors")
    exportable_model, inputs, reference = both(root)
    assert reference["sentence_embedding"].shape[1] == 8
    assert prove_equal(exportable_model, inputs, reference) <= TOLERANCE


def sharpened(
    checkpoint: Checkpoint, factor: float
) -> tuple[ExportableModel, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The exportable model of a model whose attention scores are larger, with its inputs and the original's outputs."""
    model = load_model(checkpoint)
    with torch.no_grad():
        for layer in model.encoder.layer:
            layer.attention.self.query.weight.mul_(factor)
            layer.attention.self.key.weight.mul_(factor)
    inputs = inputs_of(checkpoint)
    reference = run_original(TASKS.load(checkpoint.task), model, checkpoint, inputs)
    exportable_model = build_exportable_model(model, checkpoint, LENGTH)
    given, expected = ({k: torch.from_numpy(v) for k, v in arrays.items()} for arrays in (inputs, reference))
    return exportable_model, given, expected


@pytest.mark.parametrize(("factor", "penalty"), [(1, -100), (8, -1000), (25, -10000)])
def test_the_mask_outweighs_attention_scores_of_any_size_and_is_no_larger_than_that_takes(
    tiny, factor: float, penalty: float
) -> None:
    exportable_model, inputs, reference = sharpened(read_checkpoint(tiny("bert")), factor)
    assert exportable_model.mask_penalty == penalty
    assert prove_equal(exportable_model, inputs, reference) <= TOLERANCE * max(
        float(values.abs().max()) for values in reference.values()
    )


def test_attention_scores_that_outweigh_every_mask_are_refused_by_name(tiny) -> None:
    exportable_model, inputs, reference = sharpened(read_checkpoint(tiny("bert")), 150)
    with pytest.raises(UsageError, match="attention scores are so large that padding"):
        prove_equal(exportable_model, inputs, reference)


@pytest.mark.parametrize("classify", [False, True])
def test_a_text_without_tokens_is_no_difference(tiny, classify: bool) -> None:
    exportable_model, inputs, reference = both(tiny("bert", classify=classify))
    inputs["attention_mask"][0] = 0
    assert prove_equal(exportable_model, inputs, reference) <= TOLERANCE
    next(iter(reference.values()))[1:] += 1
    with pytest.raises(EnvironmentFailure):
        prove_equal(exportable_model, inputs, reference)
