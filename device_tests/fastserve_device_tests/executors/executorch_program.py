"""Reading ExecuTorch programs: what they hand to which backend, and the list of instructions that they are.

A `.pte` file is a flatbuffer, and behind it the segments that hold constants and what backends are given
(`program.fbs` and `extended_header.h` of ExecuTorch's `schema` folder).
"""

from __future__ import annotations

import importlib
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_runtime.errors import BundleError, one_line

IDENTIFIERS = (b"ET12", b"ET11", b"ET10")
_EXTENDED_HEADER = b"eh00"
_DTYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64", 11: "bool",
}  # fmt: skip
"""c10::ScalarType → numpy."""

# The members of the unions KernelTypes and InstructionArguments.
_INT, _BOOL, _DOUBLE, _TENSOR = 2, 3, 4, 5
_KERNEL_CALL, _DELEGATE_CALL, _FREE = 1, 2, 5
_IN_SEGMENT = 1


@dataclass(frozen=True)
class TensorValue:
    """A tensor of a program.

    Attributes:
        dtype: as numpy calls it.
        sizes: of its dimensions.
        order: in which its dimensions lie in memory, outermost first.
        constant: its values, of shape `sizes`; None where an instruction or the caller gives them.
    """

    dtype: str
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    constant: NDArray[np.generic] | None


@dataclass(frozen=True)
class KernelCall:
    """A call of one of ExecuTorch's own kernels, by its full name; arguments are places among the values."""

    name: str
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class DelegateCall:
    """A call of what a backend was given; arguments are places among the values, inputs first."""

    delegate: int
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class Delegate:
    """What a backend is given.

    Attributes:
        backend: its id, such as `XnnpackBackend`.
        content: what its compiler wrote.
    """

    backend: str
    content: bytes


@dataclass(frozen=True)
class Method:
    """An entry point of a program.

    Attributes:
        name: the entry point's.
        values: what instructions read and write: tensors, numbers, or None for what is none of these.
        inputs: places among the values.
        outputs: likewise.
        instructions: in the order in which they are executed.
        delegates: what backends are given.
    """

    name: str
    values: tuple[TensorValue | float | bool | None, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    instructions: tuple[KernelCall | DelegateCall, ...]
    delegates: tuple[Delegate, ...]

    def calls_of_backends(self) -> Counter[str]:
        """Return how many calls each backend gets."""
        return Counter(self.delegates[i.delegate].backend for i in self.instructions if isinstance(i, DelegateCall))

    def kernel_calls(self) -> Counter[str]:
        """Return how often each of ExecuTorch's own kernels is called."""
        return Counter(i.name for i in self.instructions if isinstance(i, KernelCall))


def read_program(content: bytes) -> dict[str, Method]:
    """Return the methods of a program by name.

    Args:
        content: of a `.pte` file. Constants and delegates must lie in it; what lies in other files is left out.

    Raises:
        BundleError: it is no program, or is damaged.
    """
    if content[4:8] not in IDENTIFIERS:
        raise BundleError("The file is not an ExecuTorch program: it lacks the identifier 'ET12'.", "Export it again.")
    try:
        return _methods(content)
    except (ValueError, IndexError, KeyError, struct.error, TypeError, OverflowError, MemoryError) as error:
        raise BundleError(f"The ExecuTorch program is damaged: {one_line(error)}.", "Export it again.") from error


class _Table:
    """A table of a flatbuffer; fields are numbered as in the schema, and a union takes two numbers."""

    def __init__(self, buffer: bytes, position: int) -> None:
        flatbuffers = importlib.import_module("flatbuffers.table")
        self._buffer = buffer
        self._table = flatbuffers.Table(buffer, position)
        self._limit = len(buffer)

    @classmethod
    def root(cls, buffer: bytes) -> _Table:
        return cls(buffer, struct.unpack_from("<I", buffer)[0])

    def number(self, field: int, kind: str, default: float = 0) -> Any:
        """Return a number, of a type in the letters of `struct`."""
        place = self._place(field)
        return default if place is None else struct.unpack_from(f"<{kind}", self._buffer, place)[0]

    def text(self, field: int) -> str:
        place = self._place(field)
        return "" if place is None else bytes(self._table.String(place)).decode()

    def table(self, field: int) -> _Table | None:
        place = self._place(field)
        return None if place is None else _Table(self._buffer, self._table.Indirect(place))

    def tables(self, field: int) -> list[_Table]:
        start, count = self._vector(field, 4)
        return [_Table(self._buffer, self._table.Indirect(start + 4 * i)) for i in range(count)]

    def numbers(self, field: int, dtype: str) -> NDArray[Any]:
        kind = np.dtype(dtype).newbyteorder("<")
        start, count = self._vector(field, kind.itemsize)
        return np.frombuffer(self._buffer, kind, count, start) if count else np.zeros(0, kind)

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """Return where a vector's elements start and how many there are, all of them inside the buffer."""
        if self._place(field) is None:
            return 0, 0
        offset = self._table.Offset(4 + 2 * field)
        start, count = self._table.Vector(offset), self._table.VectorLen(offset)
        if start + size * count > self._limit:
            raise ValueError(f"a list of {count} elements ends behind the file")
        return start, count

    def _place(self, field: int) -> int | None:
        offset = self._table.Offset(4 + 2 * field)
        return None if not offset else self._table.Pos + offset


def _methods(content: bytes) -> dict[str, Method]:
    size, base = len(content), 0
    if content[8:12] == _EXTENDED_HEADER:
        size, base = struct.unpack_from("<QQ", content, 16)
    program = _Table.root(content[:size])
    segments = [
        content[base + segment.number(0, "Q") :][: segment.number(1, "Q")] if base else b""
        for segment in program.tables(4)
    ]
    inline = [table.numbers(0, "uint8").tobytes() for table in program.tables(3)]
    constants = _Constants(program, segments)
    plans = program.tables(1)
    return {plan.text(0): _method(plan, constants, inline, segments) for plan in plans}


class _Constants:
    """The constants of a program: inside the flatbuffer in old files, in a segment in others."""

    def __init__(self, program: _Table, segments: Sequence[bytes]) -> None:
        self._inline = [table.numbers(0, "uint8").tobytes() for table in program.tables(2)]
        found = program.table(5)
        self._offsets = found.numbers(1, "uint64") if found is not None else np.zeros(0, np.uint64)
        self._segment = segments[found.number(0, "I")] if found is not None and len(self._offsets) else b""

    def values(self, index: int, dtype: str, sizes: tuple[int, ...], order: tuple[int, ...]) -> NDArray[np.generic]:
        count = int(np.prod(sizes, dtype=np.int64))
        content = self._segment[int(self._offsets[index]) :] if len(self._offsets) else self._inline[index]
        lying = np.frombuffer(content, dtype, count).reshape([sizes[d] for d in order])
        return lying.transpose(np.argsort(order)) if sizes else lying


def _method(plan: _Table, constants: _Constants, inline: Sequence[bytes], segments: Sequence[bytes]) -> Method:
    operators = [".".join(filter(None, (table.text(0), table.text(1)))) for table in plan.tables(6)]
    delegates = []
    for table in plan.tables(7):
        reference = table.table(1)
        if reference is None:
            raise ValueError("a delegate has no content")
        places = segments if reference.number(0, "b") == _IN_SEGMENT else inline
        delegates.append(Delegate(table.text(0), places[reference.number(1, "I")]))
    chains = plan.tables(5)
    if len(chains) != 1:
        raise ValueError(f"it has {len(chains)} chains of instructions, not 1")
    found = (_instruction(table, operators, len(delegates)) for table in chains[0].tables(2))
    values = tuple(_value(table, constants) for table in plan.tables(2))
    method = Method(
        name=plan.text(0),
        values=values,
        inputs=tuple(map(int, plan.numbers(3, "int32"))),
        outputs=tuple(map(int, plan.numbers(4, "int32"))),
        instructions=tuple(i for i in found if i is not None),
        delegates=tuple(delegates),
    )
    used = [*method.inputs, *method.outputs, *(a for i in method.instructions for a in i.arguments)]
    if any(not 0 <= place < len(values) for place in used):
        raise ValueError("an instruction names a value that is not there")
    return method


def _value(table: _Table, constants: _Constants) -> TensorValue | float | bool | None:
    kind, value = table.number(0, "B"), table.table(1)
    if value is None:
        return None
    if kind == _TENSOR:
        return _tensor(value, constants)
    if kind == _BOOL:
        return bool(value.number(0, "?"))
    if kind in {_INT, _DOUBLE}:
        number: float = value.number(0, "q" if kind == _INT else "d")
        return number
    return None


def _tensor(table: _Table, constants: _Constants) -> TensorValue:
    dtype = _DTYPES[table.number(0, "b")]
    sizes = tuple(map(int, table.numbers(2, "int32")))
    order = tuple(map(int, table.numbers(3, "uint8"))) or tuple(range(len(sizes)))
    if sorted(order) != list(range(len(sizes))) or any(size < 0 for size in sizes):
        raise ValueError(f"a tensor has the sizes {list(sizes)} in the order {list(order)}")
    index = table.number(5, "I")
    is_constant = index > 0 and table.table(6) is None
    return TensorValue(dtype, sizes, order, constants.values(index, dtype, sizes, order) if is_constant else None)


def _instruction(table: _Table, operators: Sequence[str], delegates: int) -> KernelCall | DelegateCall | None:
    """Return an instruction, or None for one that frees memory."""
    kind, value = table.number(0, "B"), table.table(1)
    if kind not in {_KERNEL_CALL, _DELEGATE_CALL}:
        if kind == _FREE:
            return None
        raise ValueError(f"it has an instruction of kind {kind}, which moves values or jumps")
    if value is None:
        raise ValueError("an instruction is empty")
    index, arguments = value.number(0, "i"), tuple(map(int, value.numbers(1, "int32")))
    if not 0 <= index < (len(operators) if kind == _KERNEL_CALL else delegates):
        raise ValueError("an instruction calls what is not there")
    return KernelCall(operators[index], arguments) if kind == _KERNEL_CALL else DelegateCall(index, arguments)
