"""What is written in a column of labels: classes, sets of them, numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_converters.data import ClassLabels, Columns, LabelKind, LabelSets, Numbers, read_samples
from fastserve_runtime.errors import UsageError

NAMES = ("joy", "anger, rage", "fear")
TOPICS = ("sport", "news", "art")


def write(folder: Path, labels: Sequence[object]) -> Path:
    file = folder / "data.jsonl"
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def read(file: Path, kind: LabelKind) -> list[object]:
    return [sample.label for sample in read_samples([file], Columns(), kind)]


def test_several_labels_are_a_list_of_names_or_ids(tmp_path: Path) -> None:
    file = write(tmp_path, [["joy", "fear"], [], ["anger, rage"], [1, 2]])
    assert read(file, LabelSets(NAMES)) == [(1, 0, 1), (0, 0, 0), (0, 1, 0), (0, 1, 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sport;art", (1, 0, 1)),
        ("sport | art", (1, 0, 1)),
        ("sport, art", (1, 0, 1)),
        ('["sport", "art"]', (1, 0, 1)),
        ("[0, 2]", (1, 0, 1)),
        ("0;2", (1, 0, 1)),
        ("news", (0, 1, 0)),
        ("", (0, 0, 0)),
        ("[]", (0, 0, 0)),
        ("[1, 0, 1]", (1, 0, 1)),
        ("[0.0, 1.0, 0.0]", (0, 1, 0)),
    ],
)
def test_several_labels_are_a_text_with_separators_or_json(text: str, expected: tuple[int, ...]) -> None:
    assert LabelSets(TOPICS).label_of(text) == expected


@pytest.mark.parametrize(
    ("names", "column", "expected"),
    [
        (("a", "b"), [[0, 1], [1, 0], [1, 1]], [(0, 1), (1, 0), (1, 1)]),
        (("a", "b"), ["0,1", "1,0", "0,0"], [(0, 1), (1, 0), (0, 0)]),
        (("a", "b"), ["[0, 1]", "[1, 0]", "[1, 0]"], [(0, 1), (1, 0), (1, 0)]),
        # Lists of other lengths show that they are ids.
        (("a", "b"), [[0, 1], [1], []], [(1, 1), (0, 1), (0, 0)]),
        (("a", "b"), ["0;1", "0", ""], [(1, 1), (1, 0), (0, 0)]),
        (("a",), ["0", "1", "0"], [(0,), (1,), (0,)]),
        (("a",), [[0], [1], [0]], [(0,), (1,), (0,)]),
        (("a",), ["a", "", "0"], [(1,), (0,), (1,)]),
    ],
)
def test_a_whole_column_of_zeros_and_ones_tells_of_each_label_whether_it_is_right(
    tmp_path: Path, names: tuple[str, ...], column: list[object], expected: list[tuple[int, ...]]
) -> None:
    # Two rows more, since a few texts are wanted.
    file = write(tmp_path, [*column, *column[:1], *column[:1]])
    assert read(file, LabelSets(names))[:3] == expected


def test_each_label_may_have_a_column_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "toxic.csv"
    rows = ["text,sport,news,art", "one,1,0,0", "two,0.0,1.0,0.0", "three,0,0,0", "four,false,true,true"]
    file.write_text("\n".join(rows))
    expected = [(1, 0, 0), (0, 1, 0), (0, 0, 0), (0, 1, 1)]
    assert read(file, LabelSets(TOPICS)) == expected
    # Of other models these are no labels, and a column of labels goes before them.
    assert read(file, ClassLabels(TOPICS)) == [None] * 4
    file.write_text("\n".join([rows[0] + ",label", *(f"{row},art" for row in rows[1:])]))
    assert read(file, LabelSets(TOPICS)) == [(0, 0, 1)] * 4


@pytest.mark.parametrize("flag", ["-1", "", "yes", "2"])
def test_what_is_neither_right_nor_wrong_in_such_a_column_is_named(tmp_path: Path, flag: str) -> None:
    file = tmp_path / "toxic.csv"
    file.write_text(f"text,sport,news,art\none,1,0,0\ntwo,0,{flag},0\nthree,0,0,0\nfour,0,0,0\n")
    with pytest.raises(UsageError, match=rf"The column 'news' of labels has '{flag}' in line 3 of 'toxic\.csv'"):
        read(file, LabelSets(TOPICS))


def test_a_comma_inside_a_name_separates_nothing() -> None:
    kind = LabelSets(NAMES)
    assert kind.label_of("anger, rage") == (0, 1, 0)
    assert kind.label_of("joy; anger, rage") == (1, 1, 0)


@given(st.sets(st.integers(0, 2)), st.sampled_from([";", "|", ",", " ; "]))
def test_every_set_is_read_back(ids: set[int], separator: str) -> None:
    kind, expected = LabelSets(TOPICS), tuple(int(i in ids) for i in range(3))
    names = [TOPICS[i] for i in sorted(ids)]
    assert kind.label_of(separator.join(names)) == kind.label_of(json.dumps(names)) == expected
    assert kind.label_of(list(names)) == expected


@pytest.mark.parametrize("label", ["sport;weather", ["weather"], "[sport]", {"sport": 1}, [7]])
def test_an_unknown_one_among_several_is_named(tmp_path: Path, label: object) -> None:
    with pytest.raises(UsageError, match=r"has the label '.*' in line 4, which the model does not know") as failure:
        read(write(tmp_path, [["sport"], [], ["art"], label]), LabelSets(TOPICS))
    assert "several as a list, or between ';'" in failure.value.remedy


def test_numbers_are_read_as_they_are(tmp_path: Path) -> None:
    assert read(write(tmp_path, ["1", 2.5, "-1e-3", "0"]), Numbers()) == [1.0, 2.5, -0.001, 0.0]


@pytest.mark.parametrize("label", ["good", "nan", "inf", "1_0", [1], "1,5"])
def test_what_is_no_number_is_named(tmp_path: Path, label: object) -> None:
    with pytest.raises(UsageError, match="in line 4, which the model does not know") as failure:
        read(write(tmp_path, [1, 2, 3, label]), Numbers())
    assert failure.value.remedy == "It knows: a number."


def test_relevance_is_not_below_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as failure:
        read(write(tmp_path, [1, 2, 3, -1]), Numbers(minimum=0))
    assert failure.value.remedy == "It knows: a number of at least 0."


@pytest.mark.parametrize("kind", [ClassLabels(TOPICS), LabelSets(TOPICS), Numbers()])
def test_no_label_among_others_is_an_error(tmp_path: Path, kind: LabelKind) -> None:
    with pytest.raises(UsageError, match="There is no label in line 4"):
        read(write(tmp_path, ["1", "1", "1", None]), kind)
