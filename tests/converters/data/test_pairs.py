"""Pairs of texts in data files, the pairs that ship, and second texts that nobody asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastserve_converters.data import Columns, Numbers, Sample, read_samples, read_tables, split_samples, unused_texts
from fastserve_converters.data.pairs import DOCUMENTS, pairs_of
from fastserve_runtime.errors import UsageError

ROWS = [
    {"query": f"question {i // 3}", "document": f"an answer {i}", "label": i % 3, "topic": "sport news"}
    for i in range(12)
]
COLUMNS = Columns("query", "document")


def write(file: Path, rows: list[dict]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_both_texts_of_a_pair_are_read(tmp_path: Path) -> None:
    samples = read_samples([write(tmp_path / "a.jsonl", ROWS)], COLUMNS, Numbers(minimum=0), takes_pairs=True)
    assert samples[1] == Sample("question 0", 1.0, "an answer 1")
    assert samples[1].content == ("question 0", "an answer 1")
    assert len(samples) == 12


@pytest.mark.parametrize("missing", ["query", "document"])
def test_pairs_without_one_of_their_texts_are_left_out(tmp_path: Path, missing: str) -> None:
    rows = [*ROWS, {**ROWS[0], missing: " "}, {**ROWS[0], missing: None}]
    assert len(read_samples([write(tmp_path / "a.jsonl", rows)], COLUMNS, None, takes_pairs=True)) == 12


def test_a_model_of_pairs_wants_a_second_column(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(UsageError, match="no column was named for the second one") as failure:
        read_samples([file], Columns("query"), None, takes_pairs=True)
    assert "query, document, label, topic. Name it with --text-pair-column" in failure.value.remedy
    with pytest.raises(UsageError, match="has no column 'passage'"):
        read_samples([file], Columns("query", "passage"), None, takes_pairs=True)
    with pytest.raises(UsageError, match="named for both texts"):
        read_samples([file], Columns("query", "query"), None, takes_pairs=True)


def test_plain_text_has_no_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\nfour\n")
    with pytest.raises(UsageError, match=r"'a\.txt' has one text a line, and the model takes pairs"):
        read_samples([tmp_path / "a.txt"], COLUMNS, None, takes_pairs=True)


def test_equal_pairs_count_once_and_pairs_with_one_text_in_common_do_not() -> None:
    samples = [Sample("a", pair=str(i % 20)) for i in range(40)]
    split = split_samples(samples, 0)
    assert sorted(s.pair or "" for s in (*split.evaluation, *split.calibration)) == sorted(map(str, range(20)))


def test_the_documents_of_a_query_stay_together() -> None:
    samples = [Sample(f"query {i % 30}", pair=f"document {i}") for i in range(300)]
    split = split_samples(samples, 3, by_query=True)
    asked = {s.text for s in split.evaluation}
    assert not asked & {s.text for s in split.calibration}
    assert len(split.evaluation) == 10 * len(asked) == 200
    texts = [s.text for s in split.evaluation]
    assert [text for i, text in enumerate(texts) if i == 0 or text != texts[i - 1]] == list(dict.fromkeys(texts))


def test_one_query_is_divided_so_that_both_sides_have_something() -> None:
    split = split_samples([Sample("query", pair=str(i)) for i in range(30)], 0, by_query=True)
    assert split.calibration
    assert split.evaluation


def test_texts_that_ship_become_queries_with_documents_of_which_one_fits() -> None:
    pairs = pairs_of([f"{i} is the number of this text" for i in range(40)])
    queries = list(dict.fromkeys(query for query, _ in pairs))
    assert len(queries) == 4
    for place, query in enumerate(queries):
        documents = [d for q, d in pairs if q == query]
        assert len(documents) == DOCUMENTS
        assert [d.startswith(query) for d in documents].index(True) == place
    shipped = read_samples([], Columns(), None, takes_pairs=True)
    assert len(shipped) == 480
    assert all(sample.pair for sample in shipped)


@pytest.mark.parametrize(
    ("column", "values", "is_text"),
    [
        ("sentence2", ["one", "two", "one", "two"], True),
        ("Hypothesis", ["one two"] * 4, True),
        ("comment", ["one two", "three four", "five six", "seven eight"], True),
        ("topic", ["sport news", "world news"] * 2, False),
        ("id", ["17", "18", "19", "20"], False),
        ("sentence2", ["1", "2", "3", "4"], False),
        ("when", ["2024-01-01 10:00", "2024-01-02 10:00", "2024-01-03 10:00", "2024-01-04 10:00"], False),
    ],
)
def test_columns_of_texts_that_are_not_used_are_found(
    tmp_path: Path, column: str, values: list[str], is_text: bool
) -> None:
    rows = [{"text": f"text {i}", column: value} for i, value in enumerate(values)]
    (table,) = read_tables([write(tmp_path / "a.jsonl", rows)])
    assert list(unused_texts(table, ["text"])) == ([column] if is_text else [])
    assert list(unused_texts(table, ["text", column])) == []
