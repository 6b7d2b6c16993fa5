"""Pairs of texts, rankings and values the whole way: exported, and beside Transformers' own tokenizer and model."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import fastserve
from checkpoints import save_checkpoint, texts
from fastserve_converters.formats import FORMATS
from fastserve_converters.worker.jobs import Jobs
from fastserve_runtime import open_model
from fastserve_runtime.conformance.metrics import spearman
from fastserve_runtime.pipelines.text_ranking import TextRanking
from fastserve_runtime.sessions.batching import run_samples
from fastserve_runtime.sessions.session import Session

LENGTH = 32
TEXTS = texts()[:12]
PAIRS = [*zip(TEXTS[:6], TEXTS[6:], strict=True), (TEXTS[0] * 9, TEXTS[1]), (TEXTS[0] * 9, TEXTS[1] * 9), ("a", "")]


def reference_logits(folder: Path, pairs: list[tuple[str, str]], *, has_types: bool = True) -> np.ndarray:
    """What Transformers gives: its tokenizer on both texts, its model on all that the tokenizer gives."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = []
    for first, second in pairs:
        # As a list of one: Transformers takes an empty second text that stands alone for none.
        given = tokenizer(
            [first], [second], truncation=True, max_length=LENGTH, return_tensors="pt", return_token_type_ids=has_types
        )
        with torch.no_grad():
            rows.append(model(**given).logits[0].numpy())
    return np.stack(rows)


def write_pairs(file: Path, *, label: bool = False) -> Path:
    """Write 16 queries with ten documents each, and how relevant these are."""
    rows = [{"query": f"question {i // 10}", "document": d} for i, d in enumerate(texts()[:160])]
    rows = [row | ({"relevance": i % 3} if label else {}) for i, row in enumerate(rows)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("family", "has_types"),
    [
        pytest.param("bert", True, id="bert"),
        pytest.param("albert", True, id="albert", marks=pytest.mark.slow),
        pytest.param("roberta", False, id="roberta", marks=pytest.mark.slow),
        pytest.param("distilbert", False, id="distilbert", marks=pytest.mark.slow),
    ],
)
def test_pairs_run_in_every_format_as_in_transformers(family: str, has_types: bool, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "model", family, classify=True, layers=1)
    source = {
        "path": str(checkpoint),
        "task": "text-classification",
        "length": LENGTH,
        "allow_pickle": False,
        "trust_remote_code": False,
        "pairs": True,
    }
    jobs, reference = Jobs(), tmp_path / "reference"
    columns = {"data": [], "text_column": "text", "text_pair_column": None, "label_column": "label", "seed": 0}
    description = jobs.run({"job": "reference", "source": source, "out": str(reference), **columns})
    assert description["preprocessing"]["kind"] == "text-pair"
    assert description["preprocessing"]["settings"]["token_types"] is has_types
    assert [g["kind"] for g in description["goldens"]].count("full") == 1
    # The tokenizer's class is one that gives them only if asked.
    assert any("have the type 1" in note for note in description["notes"]) is has_types
    jobs.run({"job": "program", "source": source, "reference": str(reference), "out": str(tmp_path / "program")})
    with np.load(reference / "inputs.npz") as inputs, np.load(reference / "reference.npz") as outputs:
        samples = {name: inputs[name][-15:] for name in inputs.files}
        expected = outputs["logits"][-15:]
    assert ("token_type_ids" in samples) is has_types
    goldens = [(g["text"], g["pair"]) for g in description["goldens"]]
    np.testing.assert_allclose(expected, reference_logits(checkpoint, goldens, has_types=has_types), atol=1e-4)
    for format_name in FORMATS.built_in():
        for precision in ("fp32", "int8-dynamic"):
            out = tmp_path / f"{format_name}-{precision}"
            base = FORMATS.load(format_name).PRECISIONS[precision].base
            request = {"job": "artifact", "source": source, "format": format_name, "precision": precision}
            request |= {"base": None if base is None else str(tmp_path / f"{format_name}-{base}"), "out": str(out)}
            request |= {"reference": str(reference), "assignment": None, "range_method": "min-max"}
            answer = jobs.run(request)
            graph = answer["graphs"]["main"]
            assert [t["name"] for t in graph["inputs"]] == list(samples)
            with open_model(out / answer["files"][0]) as session:
                (actual,) = run_samples(session, _named_as_session(session, samples)).values()
            if precision == "fp32":
                np.testing.assert_allclose(actual, expected, atol=2e-4, err_msg=format_name)
            else:
                assert spearman(expected.ravel(), actual.ravel()) > 0.9, format_name


def _named_as_session(session: Session, samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Bare ExecuTorch programs name inputs by position."""
    names = [spec.name for spec in next(iter(session.graphs.values())).inputs]
    return samples if set(names) == set(samples) else dict(zip(names, samples.values(), strict=True))


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> tuple[Path, fastserve.ExportResult]:
    folder = tmp_path_factory.mktemp("ranked")
    activation = "torch.nn.modules.activation.Sigmoid"
    checkpoint = save_checkpoint(
        folder / "model",
        classify=True,
        layers=1,
        labels=["LABEL_0"],
        sentence_transformers={"version": "5.0.0", "activation_fn": activation},
    )
    result = fastserve.export(
        checkpoint,
        folder / "rank.fsb",
        formats=["onnx"],
        precisions=["fp32", "int8-dynamic"],
        sequence_length=LENGTH,
        keep="all",
        data=[write_pairs(folder / "pairs.jsonl", label=True)],
        text_column="query",
        text_pair_column="document",
        label_column="relevance",
        cache_dir=cache_dir,
    )
    return checkpoint, result


def test_a_reranker_is_judged_by_its_ranking(ranked: tuple[Path, fastserve.ExportResult]) -> None:
    _, result = ranked
    assert result.task == "text-ranking"
    quality = {c.id: c.quality for c in result.candidates}
    assert all(q is not None and q.name == "nDCG@10 ÷ reference's" for q in quality.values())
    exact, rounded = quality["onnx-fp32"], quality["onnx-int8-dynamic"]
    assert exact is not None
    assert rounded is not None
    assert exact.value == pytest.approx(1)
    assert exact.beside["Spearman correlation"] == pytest.approx(1, abs=1e-4)
    assert rounded.beside["Spearman correlation"] < 1
    assert any("pairs of texts of your data, with labels" in note for note in result.notes)


def test_scores_are_those_of_the_cross_encoder(ranked: tuple[Path, fastserve.ExportResult]) -> None:
    checkpoint, result = ranked
    assert result.bundle is not None
    with fastserve.load(result.bundle, variant="onnx-fp32") as ranker, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are cut off, as the reference's are
        assert isinstance(ranker, TextRanking)
        scores = ranker(PAIRS)
        found = ranker.rank(TEXTS[0], TEXTS)
    expected = 1 / (1 + np.exp(-reference_logits(checkpoint, PAIRS)[:, 0]))
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    order = np.argsort(-reference_logits(checkpoint, [(TEXTS[0], t) for t in TEXTS])[:, 0], kind="stable")
    assert [d.index for d in found] == order.tolist()


def test_a_reranker_verifies_and_conforms(ranked: tuple[Path, fastserve.ExportResult]) -> None:
    _, result = ranked
    assert result.bundle is not None
    verification = fastserve.verify(result.bundle)
    assert verification.has_run
    assert not verification.failures
    verdicts = [v for v in fastserve.conform(result.bundle, targets=["onnx:cpu"]) if v.variant == "onnx-fp32"]
    assert {v.outcome.value for v in verdicts} == {"PASS"}, [v.as_document() for v in verdicts]
    assert any(v.check == "task metric" for v in verdicts)


def test_a_second_column_that_is_not_used_is_named(tmp_path: Path, cache_dir: Path) -> None:
    labels = ["value"]
    checkpoint = save_checkpoint(tmp_path / "model", classify=True, layers=1, labels=labels, problem_type="regression")
    result = fastserve.export(
        checkpoint,
        tmp_path / "value.fsb",
        formats=["onnx"],
        precisions=["fp32"],
        sequence_length=LENGTH,
        data=[write_pairs(tmp_path / "pairs.jsonl")],
        text_column="document",
        cache_dir=cache_dir,
    )
    assert result.task == "text-classification"
    assert any("column 'query' holds texts too" in n and "--text-pair-column query" in n for n in result.notes)
    assert result.candidates[0].quality is not None
    assert result.candidates[0].quality.name == "Spearman correlation"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    short = ["the river rises", "a short note"]
    with fastserve.load(tmp_path / "value.fsb") as values:
        found = [value.score for value in values(short)]
    with torch.no_grad():
        expected = [float(model(**tokenizer(t, return_tensors="pt")).logits[0, 0]) for t in short]
    np.testing.assert_allclose(found, expected, atol=1e-4)
