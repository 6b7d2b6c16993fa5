"""Bytes that a program has twice, stored once: a table that a kernel reads rows of and XNNPACK multiplies with.

ExecuTorch stores the constants of kernels in one segment of the file, and those of delegates in a segment each, found
by name. It cannot let a kernel read a named segment: what resolves names inside a program knows no tensors. But a
segment is no more than an offset and a size, so that one may lie inside another. Here the copy is dropped, and its
segment points to where the same bytes are among the constants. Any runtime reads such a file as it does others.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flatbuffers.number_types import Uint32Flags, Uint64Flags  # type: ignore[import-untyped]
from flatbuffers.table import Table  # type: ignore[import-untyped]

MIN_SHARED = 1 << 10
"""Copies of fewer bytes are left as they are."""
_ALIGNMENT = 128
"""Of segments, as ExecuTorch writes them."""
_HEADER_PROGRAM, _HEADER_BASE, _HEADER_DATA = 16, 24, 32
"""Where the extended header, which stands behind the flatbuffer's first 8 bytes, has the size of the flatbuffer, the
offset of the first segment, and the size of all segments: each 8 bytes, little-endian."""
# Where the schema (`program.fbs`) has fields, by their place in the table of fields.
_PROGRAM_SEGMENTS, _PROGRAM_CONSTANTS, _PROGRAM_NAMED = 12, 14, 18
_SEGMENT_OFFSET, _SEGMENT_SIZE = 4, 6
_CONSTANTS_SEGMENT, _CONSTANTS_OFFSETS = 4, 6
_NAMED_SEGMENT = 6


@dataclass(frozen=True)
class Segment:
    """A stretch of a file's data, in bytes from its beginning."""

    offset: int
    size: int


def with_shared_segments(content: bytes) -> bytes:
    """Return a program's file without the segments whose bytes it has among its constants, too.

    Args:
        content: of a `.pte` file.
    """
    base = _read(content, _HEADER_BASE)
    program = Table(content, struct.unpack_from("<I", content)[0])
    tables = _tables(program, _PROGRAM_SEGMENTS)
    constants = program.Offset(_PROGRAM_CONSTANTS)
    if not tables or not constants:
        return content
    segments = [Segment(_number(table, _SEGMENT_OFFSET), _number(table, _SEGMENT_SIZE)) for table in tables]
    within = Table(content, program.Indirect(program.Pos + constants))
    held = segments[_number(within, _CONSTANTS_SEGMENT, Uint32Flags)]
    starts = [held.offset + start for start in _numbers(within, _CONSTANTS_OFFSETS)]
    named = {_number(table, _NAMED_SEGMENT, Uint32Flags) for table in _tables(program, _PROGRAM_NAMED)}
    data = memoryview(content)[base:]
    shared = found_among(data, {i: segments[i] for i in sorted(named)}, starts, held.offset + held.size)
    placed = without(segments, shared)
    written = bytearray(content[:base])
    for index, segment in enumerate(segments):
        if placed[index] != segment.offset:
            _patch_offset(written, tables[index], placed[index])
    for index, segment in enumerate(segments):
        if index not in shared:
            written.extend(bytes(base + placed[index] - len(written)))
            written += data[segment.offset : segment.offset + segment.size]
    struct.pack_into("<Q", written, _HEADER_DATA, len(written) - base)
    return bytes(written)


def found_among(data: memoryview, segments: Mapping[int, Segment], starts: Sequence[int], end: int) -> dict[int, int]:
    """Return those segments whose bytes stand at one of some places, too: index → place.

    Args:
        data: all segments.
        segments: those that are looked for, by index.
        starts: the places.
        end: behind the last of these bytes.
    """
    found = {}
    for index, segment in segments.items():
        if segment.size < MIN_SHARED:
            continue
        wanted = data[segment.offset : segment.offset + segment.size]
        for start in starts:
            if start + segment.size <= end and data[start : start + segment.size] == wanted:
                found[index] = start
                break
    return found


def without(segments: Sequence[Segment], shared: Mapping[int, int]) -> list[int]:
    """Return where each segment lies once the shared ones take no room of their own.

    Args:
        segments: all, in the order of the file.
        shared: index → where its bytes are, inside of the first segment, which stays where it is.
    """
    places, end = [], 0
    for index, segment in enumerate(segments):
        if index in shared:
            places.append(shared[index])
            continue
        places.append(-(-end // _ALIGNMENT) * _ALIGNMENT)
        end = places[-1] + segment.size
    return places


def _read(content: bytes, place: int) -> int:
    value: int = struct.unpack_from("<Q", content, place)[0]
    return value


def _tables(table: Table, field: int) -> list[Table]:
    place = table.Offset(field)
    if not place:
        return []
    first = table.Vector(place)
    return [Table(table.Bytes, table.Indirect(first + 4 * i)) for i in range(table.VectorLen(place))]


def _number(table: Table, field: int, kind: Any = Uint64Flags) -> int:
    place = table.Offset(field)
    value: int = table.Get(kind, table.Pos + place) if place else 0
    return value


def _numbers(table: Table, field: int) -> list[int]:
    place = table.Offset(field)
    if not place:
        return []
    first = table.Vector(place)
    return [table.Get(Uint64Flags, first + 8 * i) for i in range(table.VectorLen(place))]


def _patch_offset(written: bytearray, table: Table, offset: int) -> None:
    place = table.Offset(_SEGMENT_OFFSET)
    assert place, "a segment behind the first has its offset written out"
    struct.pack_into("<Q", written, table.Pos + place, offset)
