"""Answers to questions in data files: SQuAD's own layout, the Hub's, and tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastserve_converters.data import Answers, Sample, read_samples
from fastserve_converters.tasks.question_answering import COLUMNS
from fastserve_runtime.errors import UsageError

CONTEXT = "Caf\u00e9s opened in 1650.\r\nThe first was in Oxford \U0001f370."
ROWS = [
    ("When?", ["in 1650", "1650"]),
    ("Where?", ["Oxford \U0001f370"]),
    ("Why?", []),
    ("What opened?", ["Caf\u00e9s"]),
]
EXPECTED = [Sample(question, tuple(answers), CONTEXT) for question, answers in ROWS]


def read(file: Path) -> list[Sample]:
    return read_samples([file], COLUMNS, Answers(), takes_pairs=True)


def test_squads_own_layout_gives_a_row_a_question(tmp_path: Path) -> None:
    questions = [
        {"id": str(i), "question": q, "is_impossible": not a, "answers": [{"text": t, "answer_start": 0} for t in a]}
        for i, (q, a) in enumerate(ROWS)
    ]
    paragraphs = [{"context": CONTEXT, "qas": questions[:3]}, {"context": CONTEXT, "qas": questions[3:]}]
    file = tmp_path / "dev.json"
    file.write_text(json.dumps({"version": "v2.0", "data": [{"title": "Caf\u00e9s", "paragraphs": paragraphs}]}))
    assert read(file) == EXPECTED


@pytest.mark.parametrize("layout", ["hub", "texts", "objects"])
def test_rows_have_answers_in_several_layouts(tmp_path: Path, layout: str) -> None:
    ways = {
        "hub": lambda answers: {"text": answers, "answer_start": [0] * len(answers)},
        "texts": lambda answers: answers,
        "objects": lambda answers: [{"text": text} for text in answers],
    }
    rows = [{"question": q, "context": CONTEXT, "answers": ways[layout](a)} for q, a in ROWS]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read(file) == EXPECTED


def test_a_table_has_one_answer_or_json(tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    answers = ["[1650]", "Oxford", json.dumps(["Oxford"]), "[]"]
    lines = [f"question {i}\t[1650] is a year; Oxford a town\t{answer}" for i, answer in enumerate(answers)]
    file.write_text("\n".join(["question\tcontext\tanswers", *lines]) + "\n")
    assert [sample.label for sample in read(file)] == [("[1650]",), ("Oxford",), ("Oxford",), ()]


def test_questions_need_no_answers(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"question": q, "context": CONTEXT}) + "\n" for q, _ in ROWS))
    assert [sample.label for sample in read(file)] == [None] * 4


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"question": "q", "answers": ["a"]}, "has no column 'context'.*--text-pair-column"),
        ({"context": "c", "answers": ["a"]}, "has no column 'question'.*--text-column"),
        (
            {"question": "q", "context": "c", "answers": ["b"]},
            "In line 1 of 'rows.jsonl', the answer 'b' does not stand",
        ),
        ({"question": "q", "context": "c", "answers": None}, "There is no label in line 1"),
        ({"question": "q", "context": "c", "answers": {"text": None}}, "There is no label in line 1"),
        ({"question": "q", "context": "c", "answers": [["c"]]}, "which the model does not know"),
        ({"question": "q", "context": "c", "answers": 3}, "the answer '3' does not stand in the context"),
        ({"question": "q", "context": "c", "answers": {"text": 3}}, "the answer '3' does not stand in the context"),
        ({"question": "q", "context": "c", "answers": {"answer_start": [0]}}, "which the model does not know"),
        ({"question": "q", "context": "c", "answers": {"spans": ["c"]}}, "which the model does not know"),
        ({"question": "q", "context": "c", "answers": ["c", 3]}, "the answer '3' does not stand in the context"),
    ],
)
def test_what_is_no_answer_is_refused(tmp_path: Path, row: dict, problem: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row | ({"n": i})) + "\n" for i in range(5)))
    with pytest.raises(UsageError, match=f"(?s){problem}"):
        read(file)


@pytest.mark.parametrize(
    "content",
    [
        {"data": [{"paragraphs": {}}]},
        {"data": [{"paragraphs": [{"context": "c"}]}]},
        {"data": [{"paragraphs": [{"context": "c", "qas": ["q"]}]}, 1]},
    ],
)
def test_a_broken_layout_is_named(tmp_path: Path, content: dict) -> None:
    file = tmp_path / "dev.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="cannot be read as SQuAD's JSON"):
        read(file)
