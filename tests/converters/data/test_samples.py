"""Texts for calibration and evaluation, from files of every kind that is read."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve_converters.data import (
    MAX_CALIBRATION,
    MAX_EVALUATION,
    MIN_EVALUATION,
    MIN_TEXTS,
    ClassLabels,
    Columns,
    Sample,
    read_samples,
    split_samples,
)
from fastserve_runtime.errors import UsageError

LABELS = ("bad", "good")
TEXTS = ["Good morning.", 'He said "no", twice.', "Grüße, 世界", "a tab\there"]
NAMES = ["good", "bad", "good", "bad"]
EXPECTED = [Sample(text, LABELS.index(name)) for text, name in zip(TEXTS, NAMES, strict=True)]


def read(
    *files: Path, text_column: str = "text", label_column: str = "label", labels: Sequence[str] = LABELS
) -> list[Sample]:
    kind = ClassLabels(labels) if labels else None
    return read_samples(files, Columns(text_column, label=label_column), kind)


def write(file: Path, rows: list[dict]) -> Path:
    if file.suffix in {".csv", ".tsv"}:
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if file.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif file.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows), encoding="utf-8")
    else:
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def rows_of(labels: Sequence, *, text: str = "text", label: str = "label") -> list[dict]:
    return [{"id": i, text: t, label: n} for i, (t, n) in enumerate(zip(TEXTS, labels, strict=True))]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "ndjson", "parquet", "CSV", "JSONL"])
def test_texts_and_labels_are_read_from_tables(tmp_path: Path, suffix: str) -> None:
    file = write(tmp_path / f"data.{suffix.lower()}", rows_of(NAMES))
    assert read(file.rename(tmp_path / f"data.{suffix}")) == EXPECTED


@pytest.mark.parametrize("name", ["data.txt", "data.TXT"])
def test_plain_text_has_one_text_a_line_whatever_the_columns_are_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\n".join([*TEXTS, "", "  "]) + "\n", encoding="utf-8")
    assert read(tmp_path / name, text_column="body") == [Sample(t) for t in TEXTS]


def test_columns_and_classes_may_be_named_one_by_one(tmp_path: Path) -> None:
    file = write(tmp_path / "data.csv", rows_of(NAMES, text="body", label="mood"))
    assert read_samples([file], text_column="body", label_column="mood", labels=LABELS) == EXPECTED
    assert read_samples([file], text_column="body", label_column="mood", labels=()) == [Sample(t) for t in TEXTS]


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    file = write(tmp_path / "data.csv", rows_of(NAMES, text="body", label="mood"))
    assert read(file, text_column="body", label_column="mood") == EXPECTED


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("ids", [[1, 0, 1, 0], ["1", "0", "1", "0"], [1.0, 0.0, 1.0, 0.0]])
def test_labels_may_be_ids(tmp_path: Path, suffix: str, ids: list) -> None:
    assert read(write(tmp_path / f"data.{suffix}", rows_of(ids))) == EXPECTED


def test_a_label_that_is_a_name_is_not_taken_for_an_id(tmp_path: Path) -> None:
    file = write(tmp_path / "data.csv", rows_of(["1", "0", "1", "0"]))
    assert [s.label for s in read(file, labels=("1", "0"))] == [0, 1, 0, 1]


@pytest.mark.parametrize("label", ["unknown", "2", "-1", "0.5", "Good"])
def test_an_unknown_label_names_those_that_are_known(tmp_path: Path, label: str) -> None:
    file = write(tmp_path / "data.csv", rows_of([*NAMES[:3], label]))
    with pytest.raises(UsageError, match="which the model does not know") as failure:
        read(file)
    assert f"'{label}'" in failure.value.problem
    assert "data.csv" in failure.value.problem
    assert "bad, good" in failure.value.remedy


@pytest.mark.parametrize(("labels", "column"), [((), "label"), ((), "missing"), (LABELS, "label")])
def test_labels_are_left_out_where_there_is_no_use_or_no_column_for_them(tmp_path: Path, labels, column) -> None:
    file = write(tmp_path / "data.csv", rows_of(["odd"] * 4, label="label" if not labels else "mood"))
    assert [s.label for s in read(file, labels=labels, label_column=column)] == [None] * 4


def test_a_column_of_labels_that_was_named_must_be_there(tmp_path: Path) -> None:
    file = write(tmp_path / "data.csv", rows_of(NAMES))
    with pytest.raises(UsageError, match="has no column 'mood' of labels") as failure:
        read(file, label_column="mood")
    assert "id, text, label" in failure.value.remedy
    assert "--label-column" in failure.value.remedy


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("missing", ["", None, "  "])
def test_a_text_without_a_label_among_others_with_one_is_named(tmp_path: Path, suffix: str, missing) -> None:
    file = write(tmp_path / f"data.{suffix}", rows_of([*NAMES[:3], missing]))
    place = "row 4" if suffix == "parquet" else f"line {5 if suffix == 'csv' else 4}"
    with pytest.raises(UsageError, match=f"There is no label in {place} of 'data.{suffix}'"):
        read(file)


@pytest.mark.parametrize("label", ["01", "1.5", "1e0", "١", "1_0"])
def test_what_only_looks_like_an_id_is_none(tmp_path: Path, label: str) -> None:
    file = write(tmp_path / "data.csv", rows_of([*NAMES[:3], label]))
    with pytest.raises(UsageError, match=f"has the label '{label}' in line 5"):
        read(file)


@pytest.mark.parametrize("name", ["NA", "null", "007", "true", "1e5", "1.0"])
def test_names_of_classes_stay_what_is_written(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / "data.csv", rows_of([name, "0", name, name]))
    assert [s.label for s in read(file, labels=("0", "other", name))] == [2, 0, 2, 2]


def test_a_missing_column_names_those_there_are(tmp_path: Path) -> None:
    file = write(tmp_path / "data.csv", rows_of(NAMES, text="body"))
    with pytest.raises(UsageError, match="has no column 'text'") as failure:
        read(file)
    assert "id, body, label" in failure.value.remedy
    assert "--text-column" in failure.value.remedy


def test_texts_that_are_empty_are_left_out(tmp_path: Path) -> None:
    rows = [*rows_of(NAMES), {"id": 9, "text": None, "label": "good"}, {"id": 10, "text": " \t", "label": "bad"}]
    assert read(write(tmp_path / "data.jsonl", rows)) == EXPECTED


def test_numbers_count_as_texts(tmp_path: Path) -> None:
    rows = [{"text": n} for n in (1, 2, 3, 4)]
    assert read(write(tmp_path / "data.csv", rows)) == [Sample(str(n)) for n in (1, 2, 3, 4)]


def test_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", rows_of(NAMES)[:2])
    second = write(tmp_path / "b.jsonl", rows_of(NAMES)[2:])
    assert read(first, second) == EXPECTED
    assert read(second, first) == EXPECTED[2:] + EXPECTED[:2]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "txt", "parquet"])
def test_a_file_of_no_bytes_is_empty(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"data.{suffix}").touch()
    with pytest.raises(UsageError, match=rf"'data\.{suffix}' is empty"):
        read(tmp_path / f"data.{suffix}")


@pytest.mark.parametrize(("name", "content"), [("a.csv", "text,label\n"), ("a.json", "[]"), ("a.jsonl", "\n\n")])
def test_a_file_without_rows_is_empty(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=f"'{name}' is empty"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"text": "a"\n{"te'),
        ("a.parquet", b"no parquet at all"),
        ("a.csv", b'text\n"never closed\n'),
        ("a.csv", "text\nGrüße\n".encode("latin-1")),
        ("a.txt", b"\xff\xfe\x00"),
    ],
)
def test_a_broken_file_is_named_on_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"'{name}' cannot be read as ") as failure:
        read(tmp_path / name)
    assert "\n" not in failure.value.problem


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no data file") as failure:
        read(tmp_path / "gone.csv")
    assert str(tmp_path / "gone.csv") in failure.value.problem


def test_a_file_of_an_unknown_kind_names_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "data.xlsx").write_text("x")
    with pytest.raises(UsageError, match=r"'data\.xlsx' is of an unknown kind") as failure:
        read(tmp_path / "data.xlsx")
    assert ".csv" in failure.value.remedy
    assert ".parquet" in failure.value.remedy


def test_too_few_different_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("a\nb\nc\n" * 5)
    with pytest.raises(UsageError, match="has 3 different texts") as failure:
        read(tmp_path / "data.txt")
    assert str(MIN_TEXTS) in failure.value.remedy
    (tmp_path / "data.txt").write_text("a\nb\nc\nd\n")
    assert len(read(tmp_path / "data.txt")) == MIN_TEXTS


def test_without_files_the_texts_that_ship_are_taken() -> None:
    samples = read(text_column="anything", labels=LABELS)
    assert len({s.text for s in samples}) > MIN_EVALUATION
    assert all(s.label is None for s in samples)
    split = split_samples(samples, 0)
    assert len(split.evaluation) >= MIN_EVALUATION
    assert len(split.calibration) > 100


def samples_of(count: int) -> list[Sample]:
    return [Sample(f"text {i}", i % 3) for i in range(count)]


@settings(max_examples=60)
@given(st.integers(MIN_TEXTS, 1500), st.integers(0, 2**32), st.integers(0, 50))
def test_evaluation_and_calibration_never_overlap_and_are_large_enough(count: int, seed: int, repeats: int) -> None:
    samples = samples_of(count)
    split = split_samples(samples + samples[:repeats], seed)
    evaluation, calibration = {s.text for s in split.evaluation}, {s.text for s in split.calibration}
    assert not evaluation & calibration
    assert len(evaluation) == len(split.evaluation)
    assert len(calibration) == len(split.calibration)
    assert set(split.evaluation) | set(split.calibration) <= set(samples)
    assert 1 <= len(evaluation) <= MAX_EVALUATION
    assert 1 <= len(calibration) <= MAX_CALIBRATION
    # A tenth stays for calibration.
    if count - count // 10 >= MIN_EVALUATION:
        assert len(evaluation) >= MIN_EVALUATION
    else:
        assert len(evaluation) == count - max(1, count // 10)
    assert split_samples(samples + samples[:repeats], seed) == split


@pytest.mark.parametrize(
    ("count", "evaluation", "calibration"), [(4, 3, 1), (210, 189, 21), (230, 200, 30), (700, 400, 256)]
)
def test_how_many_go_where(count: int, evaluation: int, calibration: int) -> None:
    split = split_samples(samples_of(count), 0)
    assert (len(split.evaluation), len(split.calibration)) == (evaluation, calibration)


def test_another_seed_gives_another_split() -> None:
    assert split_samples(samples_of(300), 0).evaluation != split_samples(samples_of(300), 1).evaluation
