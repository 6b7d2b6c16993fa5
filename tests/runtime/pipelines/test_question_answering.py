"""Question answering: the same answers as Transformers', and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastserve_runtime.conformance.comparison import Comparison
from fastserve_runtime.errors import InputError, UsageError
from fastserve_runtime.pipelines.question_answering import (
    Answer,
    QuestionAnswering,
    known_of_windows,
    rehearse,
    task_metric,
)
from fastserve_runtime.preprocessors.context_windows import ContextSettings
from fastserve_runtime.preprocessors.text_pairs import TextPairPreprocessor, TextPairSettings
from questions import LENGTH, QUESTIONS, RECORDED, SETTINGS, TOKENIZERS, logits, save_own_tokenizer


class Session:
    """Gives the logits of `questions` for ids, as a session of a bundle would."""

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, QuestionAnswering]:
    found = {}
    for name in TOKENIZERS:
        folder = tmp_path_factory.mktemp("tokenizers") / name
        save_own_tokenizer(folder, name)
        found[name] = opened((folder / "tokenizer.json").read_bytes(), LENGTH)
    return found


def opened(tokenizer: bytes, length: int) -> QuestionAnswering:
    context = ContextSettings.usual(length, 3)
    settings = TextPairSettings(length, 0, "[PAD]", token_types=True, context=context)
    return QuestionAnswering(Session(), TextPairPreprocessor(tokenizer, settings))


@pytest.fixture(autouse=True)
def own_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object, windows) -> dict[str, np.ndarray]:
        return dict(zip(("start_logits", "end_logits"), logits(windows.tensors["input_ids"]), strict=True))

    monkeypatch.setattr(QuestionAnswering, "_run", run)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_answers_are_those_of_transformers(pipelines, name: str, number: int) -> None:
    recorded = json.loads(RECORDED.read_text())["answers"][name][number]
    for settings, expected in zip(SETTINGS, recorded, strict=True):
        found = pipelines[name](QUESTIONS[number], **settings)
        answers = found if isinstance(found, list) else [found]
        assert [(a.start, a.end, a.answer) for a in answers] == [(a["start"], a["end"], a["answer"]) for a in expected]
        assert [a.score for a in answers] == pytest.approx([a["score"] for a in expected], rel=1e-4)


def test_questions_are_given_in_several_ways(pipelines) -> None:
    pipeline = pipelines["bert"]
    (question, context), other = QUESTIONS[2], QUESTIONS[3]
    one = pipeline((question, context))
    assert isinstance(one, Answer)
    assert pipeline(question=question, context=context) == one
    assert pipeline({"question": question, "context": context}) == one
    assert pipeline([(question, context), {"question": other[0], "context": other[1]}]) == [one, pipeline(other)]
    assert pipeline([(question, context)], top_k=2)[0][0] == one


def test_a_windows_answer_points_into_the_whole_context(pipelines) -> None:
    for pair in QUESTIONS:
        for answer in pipelines["roberta"](pair, top_k=8):
            assert pair[1][answer.start : answer.end] == answer.answer


def test_contexts_that_are_truncated_are_read_at_their_beginning_alone(pipelines) -> None:
    with pytest.warns(UserWarning, match="1 of 1 pairs have more than 64 tokens and are cut off"):
        answers = pipelines["bert"](QUESTIONS[0], long_text="truncate", top_k=50)
    assert max(answer.end for answer in answers) < len(QUESTIONS[0][1]) / 2


def test_no_answer_is_said_where_it_may_be_and_is_likeliest(pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object, windows) -> dict[str, np.ndarray]:
        shape = windows.tensors["input_ids"].shape
        start = np.zeros(shape)
        start[:, 0] = 5
        return {"start_logits": start, "end_logits": start.copy()}

    monkeypatch.setattr(QuestionAnswering, "_run", run)
    assert pipelines["bert"](QUESTIONS[2]).answer != ""
    none = pipelines["bert"](QUESTIONS[2], handle_impossible_answer=True)
    assert (none.answer, none.start, none.end) == ("", 0, 0)
    assert none.score > 0.9


def test_values_that_are_not_finite_answer_nothing(pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object, windows) -> dict[str, np.ndarray]:
        nothing = np.full(windows.tensors["input_ids"].shape, np.nan)
        return {"start_logits": nothing, "end_logits": nothing}

    monkeypatch.setattr(QuestionAnswering, "_run", run)
    assert pipelines["bert"](QUESTIONS[0]) == Answer(0.0, 0, 0, "")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (("", "a context"), "The question of question 1 is empty"),
        (("a question", " \t\n"), "The context of question 1 is empty"),
        ([("a", "b"), {"question": "a", "context": ""}], "The context of question 2 is empty"),
        ({"question": "a"}, "Question 1 is"),
        ([("a", "b", "c")], "Question 1 is"),
        ("a single text", "A question and its context are wanted"),
        ([], "none was given"),
        (("\u200d", "\u200d"), "has no token that the model knows as text"),
    ],
)
def test_what_is_no_question_with_a_context_is_refused(pipelines, given, problem: str) -> None:
    with pytest.raises((InputError, UsageError), match=problem):
        pipelines["bert"](given)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"top_k": 0}, "top_k is 0"),
        ({"max_answer_len": 0}, "max_answer_len is 0"),
        ({"doc_stride": -1}, "share -1 tokens"),
        ({"max_question_len": 0}, "cut at 0 tokens"),
        ({"question": "a"}, "given twice"),
    ],
)
def test_settings_that_mean_nothing_are_refused(pipelines, settings, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        pipelines["bert"](QUESTIONS[0], **settings)


def test_a_long_question_is_cut_and_one_that_fills_the_window_refused(pipelines) -> None:
    question = "Where " * 100
    with pytest.warns(UserWarning, match="it is cut after 30"):
        assert pipelines["bert"]((question, QUESTIONS[0][1])).answer
    with pytest.raises(InputError, match="nothing is left for the context"), pytest.warns(UserWarning, match="cut"):
        pipelines["bert"]((question, "context"), max_question_len=61)


def test_a_rehearsal_leaves_out_what_is_empty(pipelines) -> None:
    found = rehearse(pipelines["bert"], [("", ""), QUESTIONS[2], ("a", " ")])
    assert len(found) == 1


def compared(pipeline: QuestionAnswering, change, labels=None):
    windows = pipeline.preprocessor.windows(QUESTIONS, "split")
    reference = pipeline._run(windows)
    known = known_of_windows(windows, QUESTIONS)
    return task_metric(Comparison(reference, {n: change(v) for n, v in reference.items()}, known, labels))


def test_what_equals_the_reference_has_a_quality_of_one_and_noise_less(pipelines) -> None:
    random = np.random.default_rng(0)
    for pipeline in pipelines.values():
        same = compared(pipeline, np.copy)
        assert same.name == "expected F1 ÷ reference's"
        assert (same.value, same.low, same.high, same.samples) == (1, 1, 1, len(QUESTIONS))
        assert same.beside == {"same answer as the reference": 1}
        noisy = compared(pipeline, lambda values: values + random.normal(0, 3, values.shape))
        assert noisy.value < 0.9
        assert compared(pipeline, lambda values: values * np.nan).value < 0.2


def test_quality_with_labels_is_squads(pipelines) -> None:
    found = [answer.answer for answer in pipelines["bert"](list(QUESTIONS))]
    labels = [["something else", answer] for answer in found]
    quality = compared(pipelines["bert"], np.copy, labels)
    assert (quality.name, quality.value) == ("F1 ÷ reference's", 1)
    assert quality.beside["exact match"] == quality.beside["reference's F1"] == 1
    half = compared(pipelines["bert"], np.copy, [*labels[:3], *([["nothing of it"]] * 4)])
    assert half.beside["F1"] == pytest.approx(3 / 7, abs=0.1)


def test_where_the_reference_is_never_right_answers_are_judged_as_without_labels(pipelines) -> None:
    quality = compared(pipelines["bert"], np.copy, [["xyzzy"]] * len(QUESTIONS))
    assert (quality.name, quality.value) == ("expected F1 ÷ reference's", 1)
    assert quality.beside["F1"] == quality.beside["reference's F1"] == 0


def test_questions_without_answers_are_judged_by_saying_so(pipelines) -> None:
    labels: list[list[str]] = [[] for _ in QUESTIONS]

    def of_none(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed[:, 0] = 50
        return changed

    assert compared(pipelines["bert"], of_none, labels).beside["exact match"] == 1
    assert compared(pipelines["bert"], np.copy, labels).beside["exact match"] < 0.5
