"""Arrays of files that nobody vouches for: what is not there takes no memory."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastserve_runtime.bundle.npz import read_npz


def written(**given_arrays) -> io.BytesIO:
    stream = io.BytesIO()
    np.savez(stream, **given_arrays)
    return stream


def claiming(shape: tuple, dtype: str = "<f4", content: bytes = b"1234") -> io.BytesIO:
    """A file whose header claims a shape that its bytes are not of."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": dtype, "fortran_order": False, "shape": shape})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", member.getvalue() + content)
    return stream


@given(
    arrays(
        st.sampled_from(["int32", "float32", "<U3", "bool", "float16"]), st.tuples(st.integers(1, 3), st.integers(0, 4))
    )
)
def test_what_numpy_writes_is_read_again(array) -> None:
    for order in "CF":
        (read,) = read_npz(written(a=np.asarray(array, order=order))).values()
        np.testing.assert_array_equal(read, array)
        assert read.dtype == array.dtype
        assert read.flags.writeable


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((10**9,), "<f4"), ((10**12, 10**12), "<f4"), ((1,), "<U999999999"), ((-1,), "<f4"), ((10**12,), "|V0")],
)
def test_a_size_that_is_only_claimed_takes_no_memory(shape, dtype) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"not what its header says|itemsize|descr"):
        read_npz(claiming(shape, dtype))
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_compressed_members_and_pickles_are_refused() -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.zeros(10**6))
    with pytest.raises(ValueError, match="compressed"):
        read_npz(stream)
    with pytest.raises(ValueError, match=r"."):
        read_npz(written(a=np.array([{}], object)))


def test_one_array_can_be_read_alone() -> None:
    assert list(read_npz(written(a=np.ones(2), b=np.ones(3)), only="b")) == ["b"]
