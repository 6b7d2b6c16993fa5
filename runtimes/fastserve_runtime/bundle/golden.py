"""Golden inputs and outputs that ship with a bundle: `.npz` files without pickles.

Each holds, for every sample: the text (of a pair both), what kind of input it is, whether it is realistic, the tensors,
the reference's outputs, and this artifact's outputs on the building machine.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_runtime.bundle.npz import read_npz
from fastserve_runtime.bundle.raw_inputs import Text
from fastserve_runtime.errors import BundleError

Arrays = dict[str, NDArray[np.generic]]
GROUPS = ("inputs", "reference", "artifact")
_PAIR_TEXTS = "pair_texts"


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
        pair_texts: the second texts of a model that takes pairs, shape [n]; None for one that takes single texts.
    """

    texts: NDArray[np.str_]
    kinds: NDArray[np.str_]
    realistic: NDArray[np.bool_]
    inputs: Arrays
    reference: Arrays
    artifact: Arrays
    pair_texts: NDArray[np.str_] | None = None

    @property
    def samples(self) -> list[Text]:
        """The raw inputs: texts, or pairs of texts."""
        if self.pair_texts is None:
            return [str(text) for text in self.texts]
        return [(str(one), str(other)) for one, other in zip(self.texts, self.pair_texts, strict=True)]


def write_golden(golden: Golden) -> bytes:
    """Return the golden as the bytes of an `.npz` file; equal goldens give equal bytes."""
    arrays: dict[str, Any] = {"texts": golden.texts, "kinds": golden.kinds, "realistic": golden.realistic}
    if golden.pair_texts is not None:
        arrays[_PAIR_TEXTS] = golden.pair_texts
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
            texts=arrays["texts"].astype(np.str_),
            kinds=arrays["kinds"].astype(np.str_),
            realistic=arrays["realistic"].astype(bool),
            **{group: of_group(group, arrays) for group in GROUPS},
            pair_texts=arrays[_PAIR_TEXTS].astype(np.str_) if _PAIR_TEXTS in arrays else None,
        )
    except Exception as error:  # numpy and zipfile raise a dozen kinds for damaged files
        raise BundleError(f"A golden file is damaged: {error}.", "Export the bundle again.") from error


def in_group(group: str, arrays: Arrays) -> Arrays:
    """Return arrays under the names that they have as a group of a file, in an order of their own."""
    return {f"{group}/{name}": value for name, value in sorted(arrays.items())}


def of_group(group: str, arrays: Arrays) -> Arrays:
    """Return the arrays of a group under their own names."""
    return {name.partition("/")[2]: value for name, value in arrays.items() if name.startswith(f"{group}/")}
