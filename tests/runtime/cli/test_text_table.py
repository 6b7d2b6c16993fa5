from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.cli.text_table import shortened, text_table, text_width


def test_columns_are_as_wide_as_what_is_in_them():
    assert text_table(("name", "size"), [("a", "10"), ("longer", "9")], right=("size",)) == (
        "name    size\n──────  ────\na         10\nlonger     9"
    )


def test_a_table_without_rows_is_its_headings():
    assert text_table(("a", "b"), []) == "a  b\n─  ─"


def test_wide_characters_take_two_columns_and_marks_none():
    assert [text_width(t) for t in ("ab", "日本", "e\u0301", "")] == [2, 4, 1, 0]


def test_a_text_is_cut_with_a_sign():
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde…"


cells = st.text(max_size=12)


@given(st.lists(st.tuples(cells, cells), max_size=6))
def test_every_row_is_one_line_and_every_column_starts_at_the_same_place(rows):
    lines = text_table(("first", "second", "third"), [(*row, "end") for row in rows]).splitlines()
    assert len(lines) == len(rows) + 2
    assert len({text_width(line[: -len("end")]) for line in lines[2:]}) <= 1
