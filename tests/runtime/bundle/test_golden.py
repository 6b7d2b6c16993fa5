import contextlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.bundle.golden import Golden, read_golden, write_golden
from fastserve_runtime.errors import BundleError

names = st.text("abcXYZ019_.-/ é", min_size=1, max_size=8)


def golden(**changes):
    parts = {
        "texts": np.array(["short", "größer 模型", ""]),
        "kinds": np.array(["short", "non-latin", "empty"]),
        "realistic": np.array([True, True, False]),
        "inputs": {"ids": np.arange(6, dtype=np.int32).reshape(3, 2), "mask": np.ones((3, 2), np.float32)},
        "reference": {"hidden/state": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)},
        "artifact": {"hidden/state": np.zeros((3, 4), np.float16)},
    }
    return Golden(**parts | changes)


def archive(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def plain():
    return {"texts": np.array(["a"]), "kinds": np.array(["short"]), "realistic": np.array([True])}


def assert_equal(left, right):
    for part in ("texts", "kinds", "realistic"):
        np.testing.assert_array_equal(getattr(left, part), getattr(right, part))
    for part in ("inputs", "reference", "artifact"):
        assert getattr(left, part).keys() == getattr(right, part).keys()
        for name, value in getattr(left, part).items():
            assert getattr(right, part)[name].dtype == value.dtype
            np.testing.assert_array_equal(getattr(right, part)[name], value)


@pytest.mark.parametrize("form", [bytes, memoryview])
def test_what_was_written_is_read(form):
    assert_equal(read_golden(form(write_golden(golden()))), golden())


@given(st.dictionaries(names, st.integers(-9, 9), max_size=4), st.dictionaries(names, st.floats(width=32), max_size=4))
def test_any_names_of_inputs_and_outputs_come_back(inputs, outputs):
    written = golden(
        inputs={name: np.array([value]) for name, value in inputs.items()},
        reference={name: np.array([value], np.float32) for name, value in outputs.items()},
        artifact={},
    )
    assert_equal(read_golden(write_golden(written)), written)


def test_equal_goldens_give_equal_bytes():
    turned = golden(inputs=dict(reversed(golden().inputs.items())))
    assert list(turned.inputs) != list(golden().inputs)
    assert write_golden(turned) == write_golden(golden())


def test_another_value_gives_other_bytes():
    assert write_golden(golden(realistic=np.array([True, False, False]))) != write_golden(golden())


def test_nothing_but_the_samples_is_written():
    with zipfile.ZipFile(io.BytesIO(write_golden(golden()))) as file:
        assert {name.split("/")[0].removesuffix(".npy") for name in file.namelist()} == {
            "texts",
            "kinds",
            "realistic",
            "inputs",
            "reference",
            "artifact",
        }


def test_unknown_arrays_are_passed_over():
    read = read_golden(archive(**plain(), **{"inputs/ids": np.ones(1), "later/thing": np.ones(2)}))
    assert list(read.inputs) == ["ids"]
    assert (read.reference, read.artifact) == ({}, {})


@pytest.mark.parametrize("part", ["texts", "kinds", "realistic"])
def test_a_golden_without_one_of_its_parts_is_refused(part):
    arrays = plain()
    del arrays[part]
    with pytest.raises(BundleError, match=f"A golden file is damaged: '{part}"):
        read_golden(archive(**arrays))


def test_pickled_objects_are_refused():
    with pytest.raises(BundleError, match="golden file is damaged"):
        read_golden(archive(**plain() | {"texts": np.array([{"a": 1}], dtype=object)}))


def test_a_single_array_is_refused():
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    with pytest.raises(BundleError, match="golden file is damaged"):
        read_golden(buffer.getvalue())


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04N."])
def test_something_else_is_refused(content):
    with pytest.raises(BundleError, match="golden file is damaged"):
        read_golden(content)


def test_a_golden_cut_off_anywhere_is_refused():
    whole = write_golden(golden())
    for length in range(0, len(whole), 61):
        with pytest.raises(BundleError, match="golden file is damaged"):
            read_golden(whole[:length])


WHOLE = write_golden(golden())


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_golden_with_any_byte_altered_is_read_or_refused(place, value):
    altered = WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :]
    with contextlib.suppress(BundleError):
        np.testing.assert_array_equal(read_golden(altered).realistic, golden().realistic)
