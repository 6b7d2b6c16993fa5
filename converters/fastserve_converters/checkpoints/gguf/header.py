"""The header of a GGUF file: metadata, and where each tensor lies (GGUF versions 2 and 3, ggml's `docs/gguf.md`).

The reader of the gguf package trusts every length in the file: a damaged one makes it loop without end. This one checks
each against the file's size, and passes over the vocabulary in a tenth of the time.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastserve_converters.checkpoints.gguf.finding import parts_of
from fastserve_runtime.errors import EnvironmentFailure, UsageError

Value = int | float | bool | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = 32
_MAX_DIMENSIONS = 4
_MAX_NUMBERS = 1024
"""Longer arrays of numbers are read only where they are asked for, as those of the vocabulary are not always."""
_SPLIT_COUNT, _SPLIT_NUMBER, _SPLIT_TENSORS = "split.count", "split.no", "split.tensors.count"
_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        file: which it is in.
        kind: ggml's name of its type, such as `Q4_1`.
        shape: of its elements, the axis of neighbours last.
        start: of its first byte in the file.
        size: in bytes.
    """

    file: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class GgufHeader:
    """What stands before the tensors' data.

    Attributes:
        path: the file, or the first of its parts.
        metadata: by key; arrays that were passed over are left out.
        tensors: by name.
    """

    path: Path
    metadata: Mapping[str, Value]
    tensors: Mapping[str, StoredTensor]


def read_header(file: Path, *, arrays: Container[str] = ()) -> GgufHeader:
    """Read the header of a file, and of the parts that belong to it.

    Args:
        file: the file, or the first of its parts, which has the metadata of all.
        arrays: keys of arrays to read whatever their length; others of text or of many numbers are passed over.

    Raises:
        UsageError: it is no GGUF file, of a version or kind that is not supported, cut off, or damaged; or its parts
            do not belong together.
        EnvironmentFailure: it cannot be read, or the gguf package is missing.
    """
    first, *others = parts_of(file)
    header = _read_part(first, arrays)
    count = header.metadata.get(_SPLIT_COUNT, 1)
    if count != 1 + len(others):
        raise UsageError(
            f"'{first.name}' says that its checkpoint has {count} parts; by its name there are {1 + len(others)}.",
            "Give the parts the names that llama-gguf-split gave them.",
        )
    tensors = dict(header.tensors)
    for number, part in enumerate(others, 1):
        found = _read_part(part, ())
        if found.metadata.get(_SPLIT_NUMBER) != number or tensors.keys() & found.tensors.keys():
            raise UsageError(f"'{part.name}' is not part {number + 1} of '{first.name}'.", "Download it again.")
        tensors.update(found.tensors)
    wanted = header.metadata.get(_SPLIT_TENSORS, len(tensors))
    if wanted != len(tensors):
        raise UsageError(
            f"The parts of '{first.name}' have {len(tensors)} tensors; {wanted} are wanted.", "Download them again."
        )
    return GgufHeader(first, header.metadata, tensors)


def _read_part(file: Path, arrays: Container[str]) -> GgufHeader:
    try:
        with file.open("rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                raise UsageError(f"'{file.name}' is not a GGUF file: it does not begin with 'GGUF'.", "Name another.")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Reader(file, content).header(arrays)
    except OSError as error:
        raise EnvironmentFailure(f"The file '{file}' cannot be read: {error.strerror}.") from error


class _Reader:
    def __init__(self, file: Path, content: mmap.mmap) -> None:
        self._file = file
        self._content = content
        self._at = len(_MAGIC)

    def header(self, arrays: Container[str]) -> GgufHeader:
        version, tensors, entries = self._version(), *self._numbers("QQ")
        if version not in _VERSIONS:
            known = " and ".join(map(str, _VERSIONS))
            raise UsageError(
                f"'{self._file.name}' is of GGUF version {version}; versions {known} are supported.",
                "Convert the model again with a llama.cpp of today.",
            )
        metadata: dict[str, Value] = {}
        for _ in range(entries):
            key = self._text()
            if key in metadata:
                raise self._damaged(f"the key '{key}' stands in it twice")
            value = self._value(*self._numbers("I"), is_wanted=key in arrays)
            if value is not None:
                metadata[key] = value
        found = [self._tensor() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"its alignment is {alignment!r}")
        start = -(-self._at // alignment) * alignment
        placed = {entry[0]: self._placed(start, *entry) for entry in found}
        if len(placed) < len(found):
            raise self._damaged("a tensor stands in it twice")
        return GgufHeader(self._file, metadata, placed)

    def _version(self) -> int:
        (version,) = self._numbers("I")
        if version and version & 0xFFFF == 0:
            raise UsageError(f"'{self._file.name}' is a big-endian GGUF file.", "Convert it to little-endian first.")
        return int(version)

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text()
        (count,) = self._numbers("I")
        if not 1 <= count <= _MAX_DIMENSIONS:
            raise self._damaged(f"the tensor '{name}' has {count} dimensions")
        shape = tuple(reversed(self._numbers("Q" * count)))
        kind, offset = self._numbers("IQ")
        return name, shape, kind, offset

    def _placed(self, start: int, name: str, shape: tuple[int, ...], kind: int, offset: int) -> StoredTensor:
        sizes = _type_sizes()
        if kind not in sizes:
            raise self._damaged(f"the tensor '{name}' is of the unknown type {kind}")
        kind_name, block, size = sizes[kind]
        if shape[-1] % block or 0 in shape:
            raise self._damaged(f"the tensor '{name}' of type {kind_name} has the shape {list(shape)}")
        total = math.prod(shape) // block * size
        if start + offset + total > len(self._content):
            raise self._damaged(f"it ends before the tensor '{name}' does")
        return StoredTensor(self._file, name, kind_name, shape, start + offset, total)

    def _value(self, kind: int, *, is_wanted: bool) -> Value | None:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array(*self._numbers("IQ"), is_wanted=is_wanted)
        value: Value = self._numbers(self._format(kind))[0]
        return value

    def _array(self, kind: int, count: int, *, is_wanted: bool) -> Value | None:
        if kind == _STRING:
            if is_wanted:
                return tuple(self._text() for _ in range(count))
            for _ in range(count):
                self._skip(*self._numbers("Q"))
            return None
        form = self._format(kind)
        if is_wanted or count <= _MAX_NUMBERS:
            return self._numbers(form, count)
        self._skip(count * struct.calcsize(form))
        return None

    def _format(self, kind: int) -> str:
        if kind not in _NUMBERS:
            raise self._damaged(f"a value is of the unknown type {kind}")
        return _NUMBERS[kind]

    def _text(self) -> str:
        (length,) = self._numbers("Q")
        start = self._at
        self._skip(length)
        try:
            return self._content[start : self._at].decode("utf-8")
        except UnicodeDecodeError:
            raise self._damaged("a text is not in UTF-8") from None

    def _numbers(self, form: str, count: int = 1) -> tuple[int, ...]:
        start = self._at
        # The length first: a format of so many values would itself take that much memory.
        self._skip(struct.calcsize(f"<{form}") * count)
        return struct.unpack_from(f"<{count}{form}" if len(form) == 1 else f"<{form}", self._content, start)

    def _skip(self, length: int) -> None:
        self._at += length
        if self._at > len(self._content):
            raise self._damaged("it ends within its header")

    def _damaged(self, why: str) -> UsageError:
        return UsageError(f"The GGUF file '{self._file.name}' is damaged: {why}.", "Download it again.")


def _type_sizes() -> Mapping[int, tuple[str, int, int]]:
    """Return the name of each of ggml's types, how many elements its blocks have, and how many bytes."""
    try:
        from gguf.constants import GGML_QUANT_SIZES
    except ImportError as error:
        raise missing_package() from error
    return {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}


def missing_package() -> EnvironmentFailure:
    """Return the error for a missing gguf package."""
    return EnvironmentFailure("Reading GGUF files needs the package gguf.", "Install it with: pip install gguf")
