"""Lines that somebody types, or another program writes."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Callable

from fastserve_runtime.cli.streams import is_terminal, tell
from fastserve_runtime.standard_input import standard_input_lines

ReadLine = Callable[[str], "str | None"]
"""Shows a prompt and returns a line without its end, None after the last one."""
CONTINUED = "\\"


def line_reader() -> ReadLine:
    """Return what reads lines of standard input; a prompt is shown only to somebody who types."""
    if not is_terminal(sys.stdin):
        lines = standard_input_lines()
        return lambda prompt: next(lines, None)  # noqa: ARG005 -- nobody types
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if not is_terminal(sys.stdout):
        return _line_behind_prompt_on_standard_error
    if importlib.util.find_spec("readline") is not None:
        import readline  # noqa: F401 -- gives `input` editing and a history
    return _edited_line


def read_message(read_line: ReadLine, prompt: str, more: str) -> str | None:
    r"""Return a message: a line, and the next one too while a line ends with `\`; None where no more comes.

    Args:
        read_line: reads lines.
        prompt: shown before the first line.
        more: shown before the others.
    """
    line = read_line(prompt)
    if line is None:
        return None
    lines = []
    while line is not None and line.endswith(CONTINUED):
        lines.append(line.removesuffix(CONTINUED))
        line = read_line(more)
    return "\n".join([*lines, line] if line is not None else lines)


def _edited_line(prompt: str) -> str | None:
    try:
        return input(prompt)
    except EOFError:
        tell("")
        return None


def _line_behind_prompt_on_standard_error(prompt: str) -> str | None:
    tell(prompt, end="")
    line = sys.stdin.readline()
    return line.rstrip("\r\n") if line else None
