import builtins
import io
import sys

import pytest

from fastserve_runtime.cli.line_input import line_reader, read_message


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("lines", "messages"),
    [
        ([], []),
        (["a", "b"], ["a", "b"]),
        (["a\\", "b"], ["a\nb"]),
        (["a\\", "\\", "b", "c"], ["a\n\nb", "c"]),
        (["a\\"], ["a"]),
        ([""], [""]),
    ],
)
def test_a_backslash_at_the_end_joins_lines(lines, messages):
    rest, prompts = iter(lines), []

    def read_line(prompt):
        prompts.append(prompt)
        return next(rest, None)

    read = []
    while (message := read_message(read_line, ">", "+")) is not None:
        read.append(message)
    assert read == messages
    assert prompts.count("+") == sum(line.endswith("\\") for line in lines)


def test_who_types_into_a_pipe_sees_the_prompt_on_standard_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Terminal("one\r\n\ntwo"))
    read_line = line_reader()
    assert [read_line("> ") for _ in range(4)] == ["one", "", "two", None]
    assert capsys.readouterr() == ("", "> " * 4)


def test_who_types_at_a_terminal_can_edit_lines(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal())
    answers = iter(["one"])

    def typed(prompt):
        try:
            return next(answers)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(builtins, "input", typed)
    read_line = line_reader()
    assert [read_line("> "), read_line("> ")] == ["one", None]


def test_other_programs_see_no_prompt(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n"))
    read_line = line_reader()
    assert [read_line("> "), read_line("> ")] == ["one", None]
    assert capsys.readouterr() == ("", "")
