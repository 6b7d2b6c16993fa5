"""Consoles for results and messages: what a bundle says never steers the terminal, and readers may go.

What is shown may come from a bundle that nobody vouches for, so that control characters are written as escapes.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import IO, Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from fastserve_runtime.cli.streams import drop, printable, printable_lines

_WIDE = 160


def plain(text: str) -> str:
    """Return a text for one line of a console's markup, in which it means nothing."""
    return escape(printable(text))


def error_console() -> Console:
    """Return a console for messages and progress, which go to standard error; what cannot be written is lost."""
    return _ShownConsole(_StandardStream("stderr", must_be_written=False))


def output_console() -> Console:
    """Return a console for results; where no terminal tells its width, tables get room.

    A reader that has gone (`| head`) wants no more of it: the rest is dropped. What cannot be written otherwise, as on
    a full disk, is an OSError.
    """
    stream = _StandardStream("stdout", must_be_written=True)
    return _ShownConsole(stream, width=None if stream.isatty() else _WIDE)


class _ShownConsole(Console):
    """Shows characters that steer a terminal as escapes, wherever they come from; its own styles stay."""

    def __init__(self, stream: _StandardStream, **options: Any) -> None:
        super().__init__(file=cast(IO[str], stream), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield segments, whose texts are printable."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable_lines(segment.text), segment.style)


class _StandardStream(io.TextIOBase):
    """What Python names as standard output or error at that moment."""

    def __init__(self, name: str, *, must_be_written: bool) -> None:
        self._name = name
        self._must_be_written = must_be_written

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """How characters become bytes."""
        return getattr(self._stream(), "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether somebody reads at a terminal."""
        stream = self._stream()
        return stream is not None and stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor."""
        stream = self._stream()
        if stream is None:
            raise OSError("there is no such stream")
        return stream.fileno()

    def write(self, text: str) -> int:
        """Write a text, if it is still read."""
        stream = self._stream()
        if stream is not None:
            self._try(stream, lambda: stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Write out what is buffered, if it is still read."""
        stream = self._stream()
        if stream is not None:
            self._try(stream, stream.flush)

    def _try(self, stream: TextIO, act: Any) -> None:
        try:
            act()
        except OSError as error:
            drop(stream)
            if self._must_be_written and not isinstance(error, BrokenPipeError):
                raise

    def _stream(self) -> TextIO | None:
        stream = getattr(sys, self._name)
        # While a bar of progress is shown, rich stands in its place.
        found: TextIO | None = getattr(stream, "rich_proxied_file", stream)
        return found
