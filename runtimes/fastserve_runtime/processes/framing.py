"""Messages between two processes: a JSON header and named arrays, over a pipe. No pickle: nothing in them is executed.

A message is the header's length (4 bytes, little-endian), the header as UTF-8 JSON, and the arrays' bytes one after
another, in the order and with the dtypes and shapes that the header's field `arrays` gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor, Tensors

_LENGTH_BYTES = 4


def write_message(stream: IO[bytes], header: Mapping[str, Any], arrays: Tensors | None = None) -> None:
    """Write one message and flush.

    Args:
        stream: where to.
        header: JSON fields; `arrays` is added.
        arrays: numpy arrays of plain dtypes.

    Raises:
        OSError: the other side is gone.
    """
    tensors: dict[str, Tensor] = {}
    if arrays:  # numpy takes long to import, and most messages have none
        import numpy as np

        tensors = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    layout = [{"name": n, "dtype": v.dtype.str, "shape": list(v.shape)} for n, v in tensors.items()]
    content = json.dumps({**header, "arrays": layout}).encode()
    stream.write(len(content).to_bytes(_LENGTH_BYTES, "little"))
    stream.write(content)
    for value in tensors.values():
        stream.write(value.tobytes())
    stream.flush()


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read one message.

    Raises:
        EOFError: the other side is gone.
        ValueError: what came is no message.
    """
    length = int.from_bytes(_read(stream, _LENGTH_BYTES), "little")
    header = json.loads(_read(stream, length))
    if not isinstance(header, dict) or not isinstance(header.get("arrays"), list):
        raise ValueError("What came is no message: it names no arrays.")  # noqa: TRY004 -- data, not an argument
    arrays: dict[str, Tensor] = {}
    for layout in header.pop("arrays"):
        import numpy as np

        dtype = np.dtype(layout["dtype"])
        if dtype.hasobject:
            raise ValueError(f"The array '{layout['name']}' has the dtype {dtype}, which is not plain.")
        shape = tuple(layout["shape"])
        content = bytearray(_read(stream, dtype.itemsize * int(np.prod(shape, dtype=np.int64))))
        arrays[layout["name"]] = np.frombuffer(content, dtype).reshape(shape)
    return header, arrays


def _read(stream: IO[bytes], count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            raise EOFError("The other process closed its end.")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
