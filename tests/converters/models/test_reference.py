"""The reference: real inputs, golden texts of every kind, and the original model's outputs on them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import texts
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.checkpoints.task import TASKS
from fastserve_converters.checkpoints.tokenizer_loading import TOKENIZER_FILE, load_tokenizer
from fastserve_converters.data import Sample, Split
from fastserve_converters.inputs import LoadedCheckpoint, tokenizer
from fastserve_converters.inputs._golden_texts import golden_texts
from fastserve_converters.inputs._texts import prove_same_tokens
from fastserve_converters.inputs.tokenizer import SingleTexts
from fastserve_converters.models.reference import (
    CALIBRATION,
    DESCRIPTION,
    INPUTS,
    OUTPUTS,
    build_reference,
    run_original,
)
from fastserve_converters.tasks import feature_extraction
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.preprocessors.text import TextPreprocessor, TokenizerSettings

LENGTH = 24
SAMPLES = tuple(Sample(text, i % 3) for i, text in enumerate(texts()[:40]))
SPLIT = Split(calibration=SAMPLES[30:], evaluation=SAMPLES[:30])


@pytest.fixture(scope="module")
def built(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("reference")
    return out, build(out, tiny_bert, SPLIT)


def build(out: Path, folder: Path, split: Split) -> dict[str, Any]:
    checkpoint = read_checkpoint(folder)
    loaded = LoadedCheckpoint(checkpoint, load_model(checkpoint), LENGTH)
    return build_reference(out, loaded, tokenizer.prepare(split, loaded, out))


@pytest.fixture(scope="module")
def preprocessor(built: tuple[Path, dict[str, Any]]) -> TextPreprocessor:
    out, description = built
    settings = TokenizerSettings.from_document(description["preprocessing"]["settings"])
    return TextPreprocessor((out / TOKENIZER_FILE).read_bytes(), settings)


def arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def test_everything_that_later_steps_need_is_written(built) -> None:
    out, description = built
    count = description["evaluation"] + len(description["goldens"])
    inputs, outputs, calibration = (arrays(out / name) for name in (INPUTS, OUTPUTS, CALIBRATION))
    assert {name: (a.shape, a.dtype.name) for name, a in inputs.items()} == {
        "input_ids": ((count, LENGTH), "int32"),
        "attention_mask": ((count, LENGTH), "float32"),
    }
    assert {name: a.shape for name, a in outputs.items()} == {"sentence_embedding": (count, 32)}
    assert calibration["input_ids"].shape == (10, LENGTH)
    assert np.isfinite(outputs["sentence_embedding"]).all()


def test_the_description_says_what_was_done(built) -> None:
    out, description = built
    assert json.loads((out / DESCRIPTION).read_text()) == json.loads(json.dumps(description))
    assert description["task_settings"] == {"pooling": ["mean"], "normalize": True}
    assert description["preprocessing"]["settings"]["sequence_length"] == LENGTH
    assert (description["evaluation"], description["calibration"]) == (30, 10)
    assert description["labels"] == [s.label for s in SPLIT.evaluation]


def test_labels_count_only_where_every_text_has_one(tiny_bert: Path, tmp_path: Path) -> None:
    some = Split(SPLIT.calibration, (*SPLIT.evaluation[:9], Sample("no label")))
    assert build(tmp_path, tiny_bert, some)["labels"] is None


def test_the_written_tokenizer_gives_the_written_inputs(built, preprocessor: TextPreprocessor) -> None:
    out, description = built
    everything = [s.text for s in SPLIT.evaluation] + [g["text"] for g in description["goldens"]]
    with pytest.warns(UserWarning, match="are cut off"):
        inputs = preprocessor(everything)
    for name, expected in arrays(out / INPUTS).items():
        np.testing.assert_array_equal(inputs[name], expected)


def test_goldens_are_of_every_kind_and_only_degenerate_ones_do_not_count(built, preprocessor) -> None:
    goldens = golden_texts(SPLIT.evaluation, preprocessor)
    assert [g.as_document() for g in goldens] == built[1]["goldens"]
    assert Counter(g.kind for g in goldens) == {
        "short": 2,
        "padded": 3,
        "full": 1,
        "non-latin": 4,
        "empty": 2,
        "extreme": 2,
    }
    assert {g.kind for g in goldens if not g.realistic} == {"empty", "extreme"}
    evaluation = {s.text for s in SPLIT.evaluation}
    assert all(g.text in evaluation for g in goldens if g.kind in {"short", "padded"})
    tokens = {s.text: preprocessor.count_tokens(s.text) for s in SPLIT.evaluation}
    assert sorted(tokens.values())[:2] == [tokens[g.text] for g in goldens if g.kind == "short"]


@pytest.mark.parametrize("length", [8, 24, 64])
def test_one_golden_fills_all_tokens_and_some_go_beyond(built, preprocessor, length: int) -> None:
    settings = TokenizerSettings(length, preprocessor.settings.pad_id, preprocessor.settings.pad_token)
    shorter = TextPreprocessor((built[0] / TOKENIZER_FILE).read_bytes(), settings)
    goldens = golden_texts(SPLIT.evaluation, shorter)
    (full,) = [g for g in goldens if g.kind == "full"]
    assert shorter.count_tokens(full.text) == length
    assert max(shorter.count_tokens(g.text) for g in goldens if g.kind == "extreme") > length


def test_the_order_of_batches_does_not_show(built, tiny_bert: Path) -> None:
    inputs = {name: a[:12] for name, a in arrays(built[0] / INPUTS).items()}
    checkpoint = read_checkpoint(tiny_bert)
    model = load_model(checkpoint)
    (together,) = run_original(feature_extraction, model, checkpoint, inputs).values()
    for row in range(12):
        alone = run_original(feature_extraction, model, checkpoint, {n: a[row : row + 1] for n, a in inputs.items()})
        np.testing.assert_allclose(alone["sentence_embedding"][0], together[row], atol=1e-5)
    np.testing.assert_allclose(together, arrays(built[0] / OUTPUTS)["sentence_embedding"][:12], atol=1e-5)


def test_hidden_states_are_padded_to_the_full_length(built, tiny) -> None:
    inputs = {name: a[:5] for name, a in arrays(built[0] / INPUTS).items()}
    checkpoint = read_checkpoint(tiny("bert"))
    hidden = run_original(feature_extraction, load_model(checkpoint), checkpoint, inputs)["last_hidden_state"]
    assert hidden.shape == (5, LENGTH, 32)


def test_outputs_that_are_not_finite_are_refused(built, tiny) -> None:
    inputs = {name: a[:5] for name, a in arrays(built[0] / INPUTS).items()}
    checkpoint = read_checkpoint(tiny("bert"))
    model = load_model(checkpoint)
    with torch.no_grad():
        model.embeddings.LayerNorm.weight.fill_(1e38)
    with pytest.raises(UsageError, match="values that are not finite on the evaluation texts"):
        run_original(TASKS.load("feature-extraction"), model, checkpoint, inputs)


def test_tokens_that_transformers_would_give_otherwise_are_found(preprocessor, tiny_bert: Path) -> None:
    kind = SingleTexts(load_tokenizer(read_checkpoint(tiny_bert)), preprocessor)
    chosen = ["one text", "another text"]
    windows = preprocessor.windows(chosen)
    prove_same_tokens(kind, chosen, windows)
    windows.tensors["input_ids"][1, 2] += 1
    with pytest.raises(EnvironmentFailure, match="give different tokens for 'another text'"):
        prove_same_tokens(kind, chosen, windows)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_checkpoint_without_tokenizer_is_refused(tiny_copy, family: str) -> None:
    folder = tiny_copy(family)
    for file in folder.glob("token*"):
        file.unlink()
    with pytest.raises(UsageError, match="has no tokenizer") as failure:
        load_tokenizer(read_checkpoint(folder))
    assert "save_pretrained" in failure.value.remedy


@pytest.mark.parametrize("content", ["", "nonsense", "{}", '{"version": "1.0", "model": {"type": "Odd"}}'])
def test_a_tokenizer_that_cannot_be_read_is_refused(tiny_copy, content: str) -> None:
    folder = tiny_copy("bert")
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(UsageError, match="tokenizer cannot be loaded") as failure:
        load_tokenizer(read_checkpoint(folder))
    assert "\n" not in failure.value.problem


def test_a_tokenizer_without_a_fast_form_is_refused(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: object())
    with pytest.raises(UsageError, match="has no fast form"):
        load_tokenizer(read_checkpoint(tiny_bert))
