"""Messages between processes come out as they went in, or are refused."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, boolean_dtypes, floating_dtypes, integer_dtypes

from fastserve_runtime.processes.framing import read_message, write_message

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)
tensors = arrays(
    boolean_dtypes() | integer_dtypes() | floating_dtypes(),
    array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


@given(st.dictionaries(st.text("xyz", min_size=1), json_values, max_size=3), st.dictionaries(st.text("pq"), tensors))
def test_a_message_comes_out_as_it_went_in(header, given_arrays):
    pipe = io.BytesIO()
    write_message(pipe, header, given_arrays)
    write_message(pipe, {"next": 1})
    pipe.seek(0)
    found, values = read_message(pipe)
    assert found == header
    assert list(values) == list(given_arrays)
    for name, value in given_arrays.items():
        assert values[name].dtype == value.dtype
        np.testing.assert_array_equal(values[name], value)
        assert values[name].flags.writeable
    assert read_message(pipe) == ({"next": 1}, {})


@given(st.integers(0, 60))
def test_a_message_that_is_cut_off_is_an_end(length):
    pipe = io.BytesIO()
    write_message(pipe, {"a": 1}, {"x": np.arange(5)})
    with pytest.raises(EOFError):
        read_message(io.BytesIO(pipe.getvalue()[:length]))


def test_arrays_of_objects_are_refused():
    header = json.dumps({"arrays": [{"name": "x", "dtype": "|O", "shape": [1]}]}).encode()
    with pytest.raises(ValueError, match="'x' has the dtype object"):
        read_message(io.BytesIO(len(header).to_bytes(4, "little") + header + bytes(8)))
