"""The pass `trim-vocabulary`: Transformers loads what it writes, which gives the same for texts that it has seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from checkpoints import VOCABULARY, save_checkpoint, texts
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.data import Sample
from fastserve_converters.passes import PassJob
from fastserve_converters.passes.trim_vocabulary import TrimVocabulary
from fastserve_runtime.errors import EnvironmentFailure, UsageError

SEEN = texts()[:20]


def trimmed(folder: Path, out: Path, **settings: Any) -> Path:
    out.mkdir()
    job = PassJob(read_checkpoint(folder), [Sample(text) for text in SEEN], 32, 0, out)
    report = TrimVocabulary(**settings).apply(job)
    assert report.figures["tokens"] == VOCABULARY
    assert f"kept {report.figures['kept']} of {VOCABULARY} tokens: those of 20 texts" in report.notes[0]
    return out


def outputs(folder: Path, given: list[str]) -> torch.Tensor:
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tensors = transformers.AutoTokenizer.from_pretrained(folder)(
        given, padding=True, truncation=True, max_length=60, return_tensors="pt"
    )
    if model.config.model_type == "distilbert":
        tensors.pop("token_type_ids", None)
    with torch.inference_mode():
        result: torch.Tensor = model.eval()(**tensors).logits
    return result


@pytest.mark.parametrize("characters", ["all", "used"])
@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "distilbert"])
def test_the_model_gives_the_same_for_texts_that_were_seen(tmp_path: Path, family: str, characters: str) -> None:
    folder = save_checkpoint(tmp_path / "model", family, classify=True)
    made = trimmed(folder, tmp_path / "made", characters=characters)
    config = json.loads((made / "config.json").read_text())
    # Of the small WordPiece vocabulary, hardly anything but characters is there.
    assert config["vocab_size"] < VOCABULARY + (characters == "all")
    tokenizer = transformers.AutoTokenizer.from_pretrained(made)
    assert config["pad_token_id"] == tokenizer.pad_token_id
    assert len(tokenizer.get_vocab()) == config["vocab_size"]
    assert torch.equal(outputs(made, SEEN), outputs(folder, SEEN))


def test_other_texts_are_still_taken(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", "bert", classify=True)
    made = trimmed(folder, tmp_path / "made")
    tokenizer = transformers.AutoTokenizer.from_pretrained(made)
    ids = tokenizer(texts()[40:])["input_ids"]
    assert max(number for row in ids for number in row) < json.loads((made / "config.json").read_text())["vocab_size"]
    assert torch.isfinite(outputs(made, texts()[40:60])).all()


def test_how_much_longer_other_texts_become_is_estimated_by_those_given(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", "bert", classify=True)
    checkpoint = read_checkpoint(folder)

    def growth(name: str, given: list[str]) -> tuple[float, str]:
        (tmp_path / name).mkdir()
        report = TrimVocabulary().apply(PassJob(checkpoint, [Sample(text) for text in given], 32, 0, tmp_path / name))
        return report.figures["growth"], report.notes[0]

    # What the first and the sixth need, the others have too; then nothing that they need.
    alike = [f"{text} {number}" for number, text in enumerate([SEEN[0]] * 8)]
    assert growth("alike", alike)[0] < 0.02
    unlike = [SEEN[0] if place % 5 == 0 else "a b" for place in range(10)]
    found, note = growth("unlike", [f"{text} {number}" for number, text in enumerate(unlike)])
    assert found > 0.05
    assert f"about {found:.0%} more tokens" in note
    assert "give it more text" in note


def test_a_tokenizer_that_would_cut_otherwise_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_checkpoint(tmp_path / "model", "bert", classify=True)
    monkeypatch.setattr(
        "fastserve_converters.trimming.word_piece.needed",
        lambda model, used, **_: {piece for piece in model["vocab"] if len(piece) < 4 or piece.startswith("[")},
    )
    with pytest.raises(EnvironmentFailure, match="would be cut into other tokens"):
        trimmed(folder, tmp_path / "made")


def test_models_with_values_for_each_token_are_refused(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save_checkpoint(tmp_path / "model", "bert", answer=True))
    with pytest.raises(UsageError, match="has values for each token"):
        TrimVocabulary().check(checkpoint)
