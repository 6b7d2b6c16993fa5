import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.cli.streams import (
    ShownText,
    flush_streams,
    prepare_streams,
    printable,
    printable_lines,
    show,
    show_document,
    tell,
)
from fastserve_runtime.standard_input import standard_input_lines


class Failing(io.TextIOBase):
    """A stream that cannot be written."""

    def __init__(self, error):
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日本 \u3000 🎉", "plain é 日本 \u3000 🎉"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines", r"two\nlines"),
        ("\u202eturned", r"\u202eturned"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown


@given(st.text())
def test_any_text_is_shown_on_one_line(text):
    assert len(f"{printable(text)}.".splitlines()) == 1
    assert "\x1b" not in printable(text)


@given(st.text())
def test_lines_and_tabs_of_a_text_stay(text):
    shown = printable_lines(text)
    assert not {c for c in shown if c not in "\n\t"} & {"\x1b", "\x9b", "\r", "\x08", "\u202e", "\u2028"}
    assert shown.count("\n") == text.count("\n")
    assert printable_lines("a\n\tb\x1b]0;title\x07") == "a\n\tb\\x1b]0;title\\x07"


def test_a_text_is_shown_piece_by_piece_until_nobody_reads(monkeypatch):
    shown = ShownText()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    shown.add("a\x1b")
    shown.add("\r\n")
    assert sys.stdout.getvalue() == "a\x1b\r\n"
    assert shown.is_read
    monkeypatch.setattr(sys, "stdout", Failing(BrokenPipeError()))
    shown.add("b")
    assert not shown.is_read
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    shown.add("c")
    assert (shown.is_read, sys.stdout.getvalue()) == (False, "")


def test_results_and_messages_go_apart(capsys):
    show("result")
    show_document({"a": 1})
    tell("message")
    assert capsys.readouterr() == ('result\n{\n  "a": 1\n}\n', "message\n")


def test_a_reader_that_has_gone_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Failing(BrokenPipeError()))
    show("result")


def test_a_result_that_cannot_be_written_is_an_error_and_a_message_is_not(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Failing(OSError("full")))
    monkeypatch.setattr(sys, "stderr", Failing(OSError("full")))
    with pytest.raises(OSError, match="full"):
        show("result")
    tell("message")
    flush_streams()


def test_a_process_without_streams_prints_nothing(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    prepare_streams()
    show("result")
    tell("message")
    flush_streams()
    assert list(standard_input_lines()) == []


def test_characters_that_the_terminal_lacks_are_escaped(monkeypatch):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    prepare_streams()
    show("≥ 1")
    assert content.getvalue() == b"\\u2265 1\n"


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"one\ntwo\r\n\nthree", ["one", "two", "", "three"]),
        (b"\xef\xbb\xbfone\n", ["one"]),
        ("日本\n".encode(), ["日本"]),
        (b"bad \xff\n", ["bad \ufffd"]),
    ],
)
def test_standard_input_is_read_line_by_line(monkeypatch, content, lines):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))
    assert list(standard_input_lines()) == lines
