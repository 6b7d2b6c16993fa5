"""Questions from a checkpoint to answers: exported, verified, judged, run, and what is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastserve
import fastserve_runtime
from checkpoints import save_checkpoint, texts
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_runtime.cli import main
from fastserve_runtime.errors import UsageError

LENGTH = 48


@pytest.fixture
def command(capsys, untouched_warnings_and_logging: None):
    """Runs the device's command and returns its exit code and what it printed."""

    def command(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return command


def rows() -> list[dict]:
    found = []
    for one, other in zip(texts()[::2], texts()[1::2], strict=False):
        words = one.split()
        found.append({"question": " ".join(words[1:3]) or "?", "context": f"{one} {other}", "answers": words[:1]})
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, data: Path):
    """Exports a small model of a family once."""
    done: dict[str, tuple[Path, Path, fastserve.ExportResult]] = {}

    def export(family: str, precisions: tuple[str, ...] = ("fp32",)):
        if family not in done:
            folder = tmp_path_factory.mktemp(family)
            model = save_checkpoint(folder / "model", family, answer=True)
            result = fastserve.export(
                model,
                folder / "model.fsb",
                formats=["onnx"],
                precisions=list(precisions),
                sequence_length=LENGTH,
                data=[data],
                keep="all",
                cache_dir=cache_dir,
            )
            done[family] = model, folder / "model.fsb", result
        return done[family]

    return export


def logits_of_transformers(model: Path, windows) -> dict[str, np.ndarray]:
    import torch
    from transformers import AutoModelForQuestionAnswering

    original = AutoModelForQuestionAnswering.from_pretrained(model).eval()
    with torch.inference_mode():
        found = original(**{name: torch.from_numpy(v.astype(np.int64)) for name, v in windows.tensors.items()})
    return {"start_logits": found.start_logits.numpy(), "end_logits": found.end_logits.numpy()}


@pytest.mark.parametrize("family", ["bert", pytest.param("roberta", marks=pytest.mark.slow)])
def test_answers_are_those_of_the_original_model(exported, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, bundle, _ = exported(family)
    asked = [(row["question"], row["context"] * 3) for row in rows()[:6]]
    with fastserve_runtime.load(bundle) as pipeline:
        takes = {tensor.name for graph in pipeline.session.graphs.values() for tensor in graph.inputs}
        assert ("token_type_ids" in takes) == (family == "bert")
        found = pipeline(asked, top_k=3)
        monkeypatch.setattr(pipeline, "_run", lambda windows: logits_of_transformers(model, windows))
        expected = pipeline(asked, top_k=3)
    for ours, theirs, (_, context) in zip(found, expected, asked, strict=True):
        assert [(a.start, a.end) for a in ours] == [(a.start, a.end) for a in theirs]
        assert [a.score for a in ours] == pytest.approx([a.score for a in theirs], rel=1e-3)
        assert all(context[a.start : a.end] == a.answer for a in ours)


def test_a_bundle_is_judged_by_squads_figures_and_verified(exported) -> None:
    _, bundle, result = exported("bert")
    quality = result.chosen.quality
    assert quality.name == "F1 \u00f7 reference's"
    assert quality.value == pytest.approx(1)
    assert {"F1", "exact match", "reference's F1", "same answer as the reference"} <= set(quality.beside)
    assert any("pairs of texts of your data, with labels" in note for note in result.notes)
    assert not fastserve_runtime.verify(bundle).failures
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["task"] == "question-answering"
    assert manifest["preprocessing"]["settings"]["context"] == {"stride": 24, "question_tokens": 22}
    (graph,) = manifest["variants"][0]["graphs"].values()
    assert [(t["name"], t["axes"]) for t in graph["outputs"]] == [
        ("start_logits", ["batch", "tokens"]),
        ("end_logits", ["batch", "tokens"]),
    ]


def test_conform_judges_a_bundle_that_is_right_and_one_that_is_not(exported, tmp_path: Path) -> None:
    _, bundle, _ = exported("bert")
    from fastserve_runtime.bundle.evaluation import evaluation_of
    from fastserve_runtime.bundle.reader import open_bundle
    from fastserve_runtime.conformance.comparison import Comparison
    from fastserve_runtime.pipelines.question_answering import task_metric

    with open_bundle(bundle) as opened:
        samples = evaluation_of(opened)
    assert task_metric(Comparison(samples.reference, samples.reference, samples.inputs)).value == 1
    turned = {name: value[::-1] for name, value in samples.reference.items()}
    assert task_metric(Comparison(samples.reference, turned, samples.inputs)).value < 0.9


def test_the_command_line_answers(exported, command, tmp_path: Path) -> None:
    _, bundle, _ = exported("bert")
    (tmp_path / "context.txt").write_bytes("One line.\r\nAnother \U0001f525 line.".encode())
    asked = [bundle, "--question", "What?", "--question", "Which line?", "--context-file", tmp_path / "context.txt"]
    code, out, _ = command("run", *asked, "--json")
    assert code == 0
    found = json.loads(out)
    assert [document["question"] for document in found] == ["What?", "Which line?"]
    for document in found:
        output = document["output"]
        assert document["context"][output["start"] : output["end"]] == output["answer"]
    assert "characters" in command("run", *asked, "--top-k", "2")[1]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "No question was given"),
        (["--question", "a"], "A question needs one context"),
        (["--question", "a", "--context", " "], "The context of question 1 is empty"),
        (["--question", "", "--context", "a"], "The question of question 1 is empty"),
        (["--question", "a", "--context", "b", "--top-k", "0"], "top_k is 0"),
        (["--question", "? " * 58, "--context", "b", "--max-question-len", "100"], "nothing is left for the context"),
        (["a text"], "1 texts were given"),
        (["--question", "a", "--pair", "b", "c"], "Questions were given by"),
        (["--questions-file", "missing.jsonl"], "cannot be read"),
        (["--question", "a", "--context", "b", "--query", "c"], "--query cannot be used"),
        (["--question", "a", "--context", "b", "--chat"], "--chat cannot be used"),
    ],
)
def test_what_asks_nothing_is_refused(exported, command, words: list[str], problem: str) -> None:
    _, bundle, _ = exported("bert")
    code, _, err = command("run", bundle, *words)
    assert code == 2
    assert problem in err


@pytest.mark.slow
def test_a_bundle_conforms_where_it_was_made(exported) -> None:
    _, bundle, _ = exported("bert")
    verdicts = fastserve.conform(bundle, targets=["onnx:cpu"])
    assert [v for v in verdicts if v.outcome.is_failure] == []
    assert {"quality", "executor", "task metric", "determinism", "padding invariance"} <= {v.check for v in verdicts}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["distilbert", "albert"])
def test_other_families_are_verified_too(exported, family: str) -> None:
    _, bundle, result = exported(family)
    assert result.chosen.quality.value == pytest.approx(1)
    assert not fastserve_runtime.verify(bundle).failures


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["tflite", "executorch"])
def test_other_formats_are_verified_too(tmp_path: Path, cache_dir: Path, data: Path, format_name: str) -> None:
    model = save_checkpoint(tmp_path / "model", answer=True)
    result = fastserve.export(
        model,
        tmp_path / "model.fsb",
        formats=[format_name],
        precisions=["fp32", "fp16", "int8-dynamic", "int8-static"],
        sequence_length=LENGTH,
        data=[data],
        keep="all",
        cache_dir=cache_dir,
    )
    assert [c.failure for c in result.candidates if c.failure] == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not fastserve_runtime.verify(tmp_path / "model.fsb").failures


def test_a_head_of_another_kind_is_refused(tmp_path: Path) -> None:
    three = save_checkpoint(tmp_path / "three", answer=True, num_labels=3)
    with pytest.raises(UsageError, match=r"head 'qa_outputs.weight' has 3 outputs; its task has 2"):
        read_checkpoint(three)
    other = save_checkpoint(tmp_path / "other", answer=True)
    config = json.loads((other / "config.json").read_text()) | {"architectures": ["BertForMultipleChoice"]}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="has a head that is not supported"):
        read_checkpoint(other)
