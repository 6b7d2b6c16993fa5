"""Golden inputs and outputs that ship with a bundle: `.npz` files without pickles.

Each holds, for every sample: the text, what kind of input it is, whether it is realistic, the tensors, the
reference's outputs, and this artifact's outputs on the building machine.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_runtime.errors import BundleError
from fastserve_runtime.npz import read_npz

Arrays = dict[str, NDArray[np.generic]]
GROUPS = ("inputs", "reference", "artifact")


@dataclass(frozen=True)
class Golden:
    """Samples along the first axis of every array.

    Attributes:
        texts: the raw inputs, shape [n].
        kinds: `short`, `padded`, `full`, `non-latin`, `empty`, `extreme`, shape [n].
        realistic: whether a sample counts in quality, shape [n]; degenerate ones do not.
        inputs: by name, shape [n, ...]; one sample is fed at a time.
        reference: the reference's outputs by name.
        artifact: the artifact's outputs on the building machine by name.
    """

    texts: NDArray[np.str_]
    kinds: NDArray[np.str_]
    realistic: NDArray[np.bool_]
    inputs: Arrays
    reference: Arrays
    artifact: Arrays


def write_golden(golden: Golden) -> bytes:
    """Return the golden as the bytes of an `.npz` file; equal goldens give equal bytes."""
    arrays: dict[str, Any] = {"texts": golden.texts, "kinds": golden.kinds, "realistic": golden.realistic}
    for group in GROUPS:
        arrays |= in_group(group, getattr(golden, group))
    buffer = io.BytesIO()
    # numpy's keyword arguments become member names (before 2.1 `allow_pickle` too), with the same fixed time for all.
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def read_golden(content: memoryview | bytes) -> Golden:
    """Read a golden.

    Raises:
        BundleError: it is damaged, or holds something else.
    """
    try:
        arrays: Arrays = read_npz(io.BytesIO(content))
        return Golden(
            arrays["texts"].astype(np.str_),
            arrays["kinds"].astype(np.str_),
            arrays["realistic"].astype(bool),
            *(of_group(group, arrays) for group in GROUPS),
        )
    except Exception as error:  # numpy and zipfile raise a dozen kinds for damaged files
        raise BundleError(f"A golden file is damaged: {error}.", "Export the bundle again.") from error


def in_group(group: str, arrays: Arrays) -> Arrays:
    """Return arrays under the names that they have as a group of a file, in an order of their own."""
    return {f"{group}/{name}": value for name, value in sorted(arrays.items())}


def of_group(group: str, arrays: Arrays) -> Arrays:
    """Return the arrays of a group under their own names."""
    return {name.partition("/")[2]: value for name, value in arrays.items() if name.startswith(f"{group}/")}
