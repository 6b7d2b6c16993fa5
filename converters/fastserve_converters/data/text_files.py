"""The text of a file in UTF-8, with or without a byte order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

from fastserve_converters.data.table import unreadable

_FOREIGN_MARKS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_LOOKED_AT = 1000
_REMEDY = "Save it as UTF-8."


def read_utf8(file: Path, kind: str) -> str:
    """Return a file's text; line ends stay as they are.

    Args:
        file: what to read.
        kind: what it is read as, for messages.

    Raises:
        UsageError: it is in UTF-16 or UTF-32, or not in UTF-8; the line and the byte are named.
        OSError: it cannot be read.
    """
    content = file.read_bytes()
    for mark, encoding in _FOREIGN_MARKS:
        if content.startswith(mark):
            raise unreadable(file, kind, f"its byte order mark is that of {encoding}", _REMEDY)
    beginning = content[:_LOOKED_AT]
    # Latin letters have one zero byte of two in UTF-16, and would pass for UTF-8.
    if beginning.count(0) * 3 > len(beginning):
        raise unreadable(file, kind, "it is full of zero bytes, as UTF-16 without a byte order mark is", _REMEDY)
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        start = error.start + (len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0)
        line = content.count(b"\n", 0, start) + 1
        reason = f"line {line} is not UTF-8 (0x{content[start]:02x} is byte {start + 1} of the file)"
        raise unreadable(file, kind, reason, _REMEDY) from error
