"""Reading `.npz` files that nobody vouches for: a size that is claimed must be that of the bytes which are there."""

from __future__ import annotations

import io
import zipfile
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_MEMBER_END = ".npy"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(stream: BinaryIO, *, only: str = "") -> dict[str, NDArray[Any]]:
    """Read the arrays of a file whose members are stored; pickles are refused.

    numpy's own reader takes memory for what a header claims before it looks for it.

    Args:
        stream: the file, from its beginning; it must be seekable.
        only: read this array alone; all if empty.

    Raises:
        ValueError: the file is damaged, compressed, or claims more than it has.
        Exception: zipfile and numpy raise a dozen kinds beside for damaged files.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if any(m.file_size != m.compress_size for m in members):
            raise ValueError("its members are compressed")
        if sum(m.file_size for m in members) > size:
            raise ValueError("its members are larger than the file")
        for member in members:
            name = member.filename.removesuffix(_MEMBER_END)
            if name in arrays:
                raise ValueError(f"it has '{name}' twice")
            if not only or name == only:
                with archive.open(member) as content:
                    arrays[name] = _array(content, member.file_size)
    return arrays


def _array(content: Any, size: int) -> NDArray[Any]:
    version = np.lib.format.read_magic(content)
    if version not in _HEADERS:
        raise ValueError(f"it has an array of version {version}")
    shape, is_fortran, dtype = _HEADERS[version](content)
    count = 1
    for length in shape:
        count *= int(length)
    if dtype.itemsize * count != size - content.tell() or min(shape, default=0) < 0:
        raise ValueError("an array is not what its header says")
    flat = np.frombuffer(bytearray(content.read()), dtype)  # refuses arrays of objects
    return flat.reshape(shape[::-1]).T if is_fortran else flat.reshape(shape)
