"""Text classification with real data and labels: a fine-tuned head, exported and used."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastserve
from sentiment import LABELS, fine_tune_head, movie_sentences, write_csv


@pytest.fixture(scope="module")
def sentiment_export(minilm: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> fastserve.ExportResult:
    folder = tmp_path_factory.mktemp("sentiment")
    sentences = movie_sentences(tmp_path_factory.mktemp("download"))
    model = fine_tune_head(minilm, sentences[:1500], folder / "model")
    data = write_csv(folder / "reviews.csv", sentences[1500:2200])
    return fastserve.export(
        model,
        folder / "sentiment.fsb",
        formats=["onnx"],
        sequence_length=48,
        min_quality=0.95,
        data=[data],
        text_column="sentence",
        label_column="sentiment",
        cache_dir=cache_dir,
    )


def test_quality_is_accuracy_against_the_reference(sentiment_export: fastserve.ExportResult) -> None:
    assert sentiment_export.task == "text-classification"
    for candidate in sentiment_export.candidates:
        assert candidate.failure is None
        assert candidate.quality is not None
        assert candidate.quality.name == "accuracy ÷ reference's"
        assert candidate.quality.samples == 400
        assert candidate.quality.beside["reference's accuracy"] > 0.65
        assert candidate.quality.low <= candidate.quality.value
        assert candidate.quality.value > 0.95


def test_bundle_labels_sentences(sentiment_export: fastserve.ExportResult) -> None:
    assert sentiment_export.bundle is not None
    with fastserve.load(sentiment_export.bundle) as classify:
        good, bad = classify(["A wonderful film, moving and funny.", "Dull, badly acted and far too long."])
    assert (good.label, bad.label) == ("positive", "negative")
    assert set(good.scores) == set(LABELS)
    assert sum(good.scores.values()) == pytest.approx(1)
    assert good.score == max(good.scores.values())


def test_every_shipped_variant_verifies(sentiment_export: fastserve.ExportResult) -> None:
    assert sentiment_export.bundle is not None
    verification = fastserve.verify(fastserve.open_bundle(sentiment_export.bundle))
    assert verification.has_run
    assert not verification.failures
