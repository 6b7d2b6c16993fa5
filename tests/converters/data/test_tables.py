"""Files of every kind as tables of texts: nothing is guessed from a value, and what is wrong is named by its place."""

from __future__ import annotations

import codecs
import csv
import datetime
import decimal
import io
import json
from contextlib import suppress
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_converters.data import Table, read_tables
from fastserve_runtime.errors import UsageError

ODD = ["NA", "null", "None", "nan", "007", "true", "1e5", "1.10", "0x1F", "2024-01-01", " blank ", "-", "", "#N/A"]


def table(folder: Path, name: str, content: str | bytes) -> Table:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    (read,) = read_tables([file])
    return read


def refusal(folder: Path, name: str, content: str | bytes, column: str = "text") -> UsageError:
    with pytest.raises(UsageError) as failure:
        table(folder, name, content).texts(column)
    assert f"'{name}'" in failure.value.problem
    assert "\n" not in failure.value.problem
    return failure.value


def as_json_lines(texts: list[str]) -> str:
    return "".join(json.dumps({"text": t}) + "\n" for t in texts)


def as_csv(rows: list[list[str]], delimiter: str = ",") -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows(rows)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", as_csv([["id", "text"], *(["1", t] for t in ODD)])),
        ("a.tsv", as_csv([["id", "text"], *(["1", t] for t in ODD)], "\t")),
        ("a.jsonl", as_json_lines(ODD)),
        ("a.json", json.dumps([{"text": t} for t in ODD])),
        ("b.json", json.dumps({"id": ODD, "text": ODD})),
        ("c.json", json.dumps(ODD)),
        ("a.txt", "\n".join(ODD)),
    ],
)
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_texts_stay_what_they_are(tmp_path: Path, name: str, content: str, mark: bytes, line_end: str) -> None:
    content = content.replace("\r\n", "\n").replace("\n", line_end)
    assert table(tmp_path, name, mark + content.encode()).texts("text") == ODD


def test_parquet_gives_what_pythons_values_are_written_as(tmp_path: Path) -> None:
    columns = {
        "text": ODD[:3],
        "number": [7, 10**15, None],
        "float": [1.0, 0.5, 1e300],
        "flag": [True, False, None],
        "day": [datetime.date(2024, 1, 31)] * 3,
        "exact": [decimal.Decimal("1.10")] * 3,
        "bytes": [b"a", "\u00fc".encode(), None],
    }
    pyarrow.parquet.write_table(
        pyarrow.table({**columns, "word": pyarrow.array(ODD[:3]).dictionary_encode()}), tmp_path / "a.parquet"
    )
    (read,) = read_tables([tmp_path / "a.parquet"])
    assert {name: read.texts(name) for name in read.names} == {
        "text": ODD[:3],
        "number": ["7", "1000000000000000", ""],
        "float": ["1.0", "0.5", "1e+300"],
        "flag": ["true", "false", ""],
        "day": ["2024-01-31"] * 3,
        "exact": ["1.10"] * 3,
        "bytes": ["a", "\u00fc", ""],
        "word": ODD[:3],
    }  # fmt: skip


def test_json_gives_numbers_as_they_are_spelled(tmp_path: Path) -> None:
    lines = (
        '{"text": 7}\n{"text": 1.10}\n{"text": 1E5}\n{"text": true}\n{"text": null}\n{"other": "a"}\n{"text": NaN}\n'
    )
    assert table(tmp_path, "a.jsonl", lines).texts("text") == ["7", "1.10", "1E5", "true", "", "", ""]
    assert table(tmp_path, "a.json", lines).texts("text") == ["7", "1.10", "1E5", "true", "", "", ""]


def test_json_may_be_columns_as_pandas_writes_them(tmp_path: Path) -> None:
    content = '{"text": {"0": "a", "2": "b"}, "label": {"0": 1, "2": 0}}'
    read = table(tmp_path, "a.json", content)
    assert (read.texts("text"), read.texts("label")) == (["a", "b"], ["1", "0"])


@pytest.mark.parametrize("heading", ["id, text ,label", " id ,text,label", '"id"," text","label "'])
def test_blanks_around_a_columns_name_do_not_count(tmp_path: Path, heading: str) -> None:
    read = table(tmp_path, "a.csv", f"{heading}\n1,a,good\n")
    assert read.names == ("id", "text", "label")
    assert read.texts(" text") == ["a"]
    assert table(tmp_path, "a.jsonl", '{" text ": "a"}\n').texts("text") == ["a"]


@pytest.mark.parametrize(
    ("content", "problem", "remedy"),
    [
        ("text,source\na,b,\nc,d,\n", "line 2, where its heading has 2: text, source.", "Every row ends with a comma"),
        ("text,source\nfirst, with a comma,x\nc,d\n", "has 3 fields in line 2", "double quotes"),
        ("text,source\nc,d\n\nshort\n", "has 1 field in line 4", "double quotes"),
        ('text,source\n"two\nlines",d\ne,f,g\n', "has 3 fields in line 4", "double quotes"),
        ("text,source,\na,b\n", "has 2 fields in line 2, where its heading has 3", "double quotes"),
        ("a,b,c,d,e,f,g,h,i,j\n1\n", "heading has 10: a, b, c, d, e, f, g, h, …", "double quotes"),
    ],
)  # fmt: skip
def test_a_row_of_another_length_is_named_by_its_line(tmp_path: Path, content: str, problem: str, remedy: str) -> None:
    failure = refusal(tmp_path, "a.csv", content)
    assert problem in failure.problem
    assert remedy in failure.remedy


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('text\n"never closed\nto the end\n', "in the row that begins in line 2, a quoted text is never closed"),
        ('text\nfine\n"one" two\n', "in the row that begins in line 3, ',' expected after '\"'"),
    ],
)
def test_wrong_quotes_are_named_by_their_line(tmp_path: Path, content: str, problem: str) -> None:
    failure = refusal(tmp_path, "a.csv", content)
    assert problem in failure.problem
    assert "twice" in failure.remedy


@pytest.mark.parametrize(("sign", "words"), [(";", "by commas"), ("\t", "by commas"), ("|", "by commas")])
def test_a_table_with_other_delimiters_is_recognised(tmp_path: Path, sign: str, words: str) -> None:
    failure = refusal(tmp_path, "a.csv", f"text{sign}label\na{sign}b\n")
    assert "has no column 'text'" in failure.problem
    assert words in failure.remedy


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.txt"])
@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        ("utf-16", "its byte order mark is that of UTF-16"),
        ("utf-32", "its byte order mark is that of UTF-32"),
        ("utf-16-le", "full of zero bytes"),
        ("utf-16-be", "full of zero bytes"),
        ("latin-1", "line 2 is not UTF-8 (0xfc is byte 8 of the file)"),
    ],
)
def test_other_encodings_are_named(tmp_path: Path, name: str, encoding: str, reason: str) -> None:
    failure = refusal(tmp_path, name, "text\nGr\u00fc\u00dfe\n".encode(encoding))
    assert reason in failure.problem
    assert failure.remedy == "Save it as UTF-8."


def test_the_place_counts_the_byte_order_mark(tmp_path: Path) -> None:
    failure = refusal(tmp_path, "a.csv", codecs.BOM_UTF8 + b"text\n\xff\n")
    assert "line 2 is not UTF-8 (0xff is byte 9 of the file)" in failure.problem


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", "text,id,text\na,1,b\n", "has 2 columns 'text'"),
        ("a.csv", "text, text\na,b\n", "has 2 columns 'text'"),
        ("a.jsonl", '{"text": "a"}\n{"text": "a", "text": "b"}\n', "an object has the key 'text' twice in line 2"),
        ("a.json", '[{"text": "a", " text": "b"}]', "an object has the key 'text' twice"),
    ],
)
def test_a_column_that_is_there_twice_is_refused(tmp_path: Path, name: str, content: str, problem: str) -> None:
    assert problem in refusal(tmp_path, name, content).problem


def test_a_column_that_is_there_twice_does_not_matter_where_it_is_not_read(tmp_path: Path) -> None:
    assert table(tmp_path, "a.csv", "id,text,id,,\n1,a,2,,\n").texts("text") == ["a"]


def test_parquet_columns_of_one_name_are_refused_where_they_are_read(tmp_path: Path) -> None:
    arrays = [pyarrow.array(["a"]), pyarrow.array(["b"]), pyarrow.array(["c"])]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, names=["x", "text", "x"]), tmp_path / "a.parquet")
    (read,) = read_tables([tmp_path / "a.parquet"])
    assert read.texts("text") == ["b"]
    with pytest.raises(UsageError, match="has 2 columns 'x'"):
        read.texts("x")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", '{"text": ["a"]}\n', "has a list in line 1"),
        ("a.jsonl", '{"text": "a"}\n\n{"text": {"b": 1}}\n', "has an object in line 3"),
        ("a.json", '[{"text": "a"}, {"text": []}]', "has a list in row 2"),
        ("a.jsonl", '{"text": "a"}\n"b"\n', "line 2 is no object"),
        ("a.json", '[{"text": "a"}, 7]', "row 2 is no object"),
        ("a.json", "7", "neither a list nor an object"),
        ("a.json", '{"text": ["a", "b"], "label": [1]}', "different lengths: 'text' 2, 'label' 1"),
        ("a.json", '[{"text": "a"},\n {"text": }]', "in line 2, column 11"),
        ("a.jsonl", '{"text": "a"}\n{"te', "in line 2, column"),
        ("a.jsonl", '{"text": "\\ud800"}\n', "half of a surrogate pair, U+D800"),
        ("a.jsonl", "[" * 200_000 + "\n", "cannot be read as JSON lines"),
        ("a.json", "[" * 200_000, "cannot be read as JSON"),
    ],
)
def test_what_is_no_text_is_named_by_its_place(tmp_path: Path, name: str, content: str, problem: str) -> None:
    assert problem in refusal(tmp_path, name, content).problem


def test_bytes_that_are_no_text_are_named_by_their_row(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(
        pyarrow.table({"text": [b"a", b"\xff"], "picture": [b"\xff", b"\xff"]}), tmp_path / "a.parquet"
    )
    (read,) = read_tables([tmp_path / "a.parquet"])
    with pytest.raises(UsageError, match="of the column 'text' are not UTF-8 in row 2"):
        read.texts("text")


def test_a_text_may_be_as_long_as_a_document(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    long = "word " * 100_000
    assert table(tmp_path, "a.csv", as_csv([["id", "text"], ["1", long]])).texts("text") == [long]
    assert csv.field_size_limit() == before


def test_lines_end_where_files_say_so_and_not_where_texts_do(tmp_path: Path) -> None:
    assert table(tmp_path, "a.txt", "a\u2028b\x0cc\r\nd\re\n").texts("text") == ["a\u2028b\x0cc", "d", "e"]
    assert table(tmp_path, "a.jsonl", '{"text": "a\u2028b"}\r\n{"text": "c"}').texts("text") == ["a\u2028b", "c"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


ROWS = st.integers(1, 4).flatmap(
    lambda count: st.lists(st.lists(TEXTS, min_size=count, max_size=count), min_size=1, max_size=8)
)


@given(
    st.sampled_from([",", "\t"]),
    ROWS,
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_csv_writes_is_read_again(
    tmp_path_factory, delimiter: str, rows: list, line_end: str, quoting: int
) -> None:
    stream = io.StringIO(newline="")
    names = [f"c{i}" for i in range(len(rows[0]))]
    csv.writer(stream, delimiter=delimiter, lineterminator=line_end, quoting=quoting).writerows([names, *rows])
    name = "a.csv" if delimiter == "," else "a.tsv"
    read = table(tmp_path_factory.getbasetemp(), name, stream.getvalue())
    assert [list(row) for row in zip(*(read.texts(n) for n in names), strict=True)] == rows


@given(st.lists(TEXTS, min_size=1, max_size=8), st.booleans(), st.booleans())
def test_what_json_writes_is_read_again(tmp_path_factory, texts: list, is_ascii: bool, is_lines: bool) -> None:
    rows = [{"text": t} for t in texts]
    lines = "\n".join(json.dumps(row, ensure_ascii=is_ascii) for row in rows)
    content, name = (lines, "a.jsonl") if is_lines else (json.dumps(rows, ensure_ascii=is_ascii), "a.json")
    assert table(tmp_path_factory.getbasetemp(), name, content).texts("text") == texts


@given(st.binary(max_size=60), st.sampled_from(["csv", "tsv", "json", "jsonl", "txt", "parquet"]))
def test_no_bytes_give_anything_but_texts_or_a_refusal(tmp_path_factory, content: bytes, suffix: str) -> None:
    with suppress(UsageError):
        read = table(tmp_path_factory.getbasetemp(), f"a.{suffix}", content)
        assert all(isinstance(text, str) for name in read.names for text in read.texts(name))
