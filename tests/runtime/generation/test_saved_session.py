"""A saved session goes on as if it had never ended, and what is no session is refused."""

from __future__ import annotations

import io
import json
import os
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.errors import InputError, UsageError
from fastserve_runtime.generation.saved_session import (
    SavedSession,
    check_fits,
    read_from_file,
    read_session,
    save_to_file,
    write_session,
)

MESSAGES = ({"role": "user", "content": "Hi 🙂"}, {"role": "assistant", "content": "שלום"})
SAVED = SavedSession("m" * 64, 8, (3, 1, 2), {"past.0": np.arange(6, dtype=np.float16).reshape(1, 2, 3)}, MESSAGES)


def content(saved: SavedSession = SAVED) -> bytes:
    stream = io.BytesIO()
    write_session(saved, stream)
    return stream.getvalue()


def arrays(**changes) -> bytes:
    """A session with other arrays; None leaves one out."""
    with np.load(io.BytesIO(content())) as file:
        kept = {**file, **changes}
    stream = io.BytesIO()
    np.savez(stream, **{name: value for name, value in kept.items() if value is not None})
    return stream.getvalue()


def about(**changes) -> bytes:
    with np.load(io.BytesIO(content())) as file:
        document = json.loads(file["about"].tobytes()) | changes
    return arrays(about=np.frombuffer(json.dumps(document).encode(), np.uint8))


def assert_equal(read: SavedSession, wanted: SavedSession) -> None:
    assert (read.model_id, read.context, read.tokens) == (wanted.model_id, wanted.context, wanted.tokens)
    assert read.messages == wanted.messages
    assert read.cached.keys() == wanted.cached.keys()
    for name, value in wanted.cached.items():
        assert read.cached[name].dtype == value.dtype
        np.testing.assert_array_equal(read.cached[name], value)


@given(
    st.lists(st.integers(0, 2**31), max_size=20),
    st.sampled_from(["float32", "float16", "int8"]),
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.text(),
)
def test_what_is_written_is_read(tokens, dtype, shape, said):
    cache = np.asfortranarray(np.random.default_rng(1).normal(size=shape).astype(dtype))
    saved = SavedSession("x", 20, tuple(tokens), {"a/b.key": cache}, ({"role": "user", "content": said},))
    assert_equal(read_session(io.BytesIO(content(saved))), saved)


@given(st.data())
def test_damaged_bytes_are_an_error_or_harmless(data):
    whole = bytearray(content())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(whole)))
    with suppress(InputError):
        read = read_session(io.BytesIO(bytes(whole[: data.draw(st.sampled_from([end, len(whole)]))])))
        assert_equal(read, SAVED)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(some):
    with pytest.raises(InputError):
        read_session(io.BytesIO(some))


def claiming(shape: str) -> bytes:
    """A session whose tokens claim another shape than they have."""
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}"
    length = 128 - 10
    member = b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + header.ljust(length - 1).encode() + b"\n" + bytes(24)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content())) as old, zipfile.ZipFile(stream, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, member if info.filename == "tokens.npy" else old.read(info))
    return stream.getvalue()


def compressed() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, about=np.zeros(10**6, np.uint8))
    return stream.getvalue()


def pickled() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, about=np.array([{}], object), tokens=np.zeros(0, np.int64))
    return stream.getvalue()


def twice() -> bytes:
    stream = io.BytesIO(content())
    with zipfile.ZipFile(stream, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("tokens.npy", b"")
    return stream.getvalue()


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(lambda: content()[:-30], id="cut"),
        pytest.param(lambda: claiming("(1000000000000,)"), id="huge"),
        pytest.param(lambda: claiming("(-3,)"), id="negative"),
        pytest.param(lambda: claiming("(3, 0, -1)"), id="negative beside nothing"),
        pytest.param(compressed, id="compressed"),
        pytest.param(pickled, id="pickled"),
        pytest.param(twice, id="twice"),
        pytest.param(lambda: arrays(tokens=None), id="no tokens"),
        pytest.param(lambda: arrays(tokens=np.zeros(3, np.float32)), id="tokens are floats"),
        pytest.param(lambda: arrays(tokens=np.zeros((1, 3), np.int64)), id="tokens have two dimensions"),
        pytest.param(lambda: arrays(tokens=np.array([1, -1])), id="a negative token"),
        pytest.param(lambda: arrays(tokens=np.zeros(9, np.int64)), id="more tokens than the context"),
        pytest.param(lambda: arrays(about=None), id="nothing about it"),
        pytest.param(lambda: arrays(about=np.frombuffer(b"[" * 5000, np.uint8)), id="nested"),
        pytest.param(lambda: about(format="other"), id="other format"),
        pytest.param(lambda: about(version=2), id="other version"),
        pytest.param(lambda: about(model=None), id="no model"),
        pytest.param(lambda: about(context=True), id="no context"),
        pytest.param(lambda: about(messages=[{"role": "wizard", "content": ""}]), id="unknown role"),
        pytest.param(lambda: about(messages={"role": "user"}), id="messages are none"),
    ],
)
def test_what_is_no_session_is_refused(damaged):
    with pytest.raises(InputError, match="session"):
        read_session(io.BytesIO(damaged()))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_id": "n"}, "of the model mmmmmmmmmmmm; this is n"),
        ({"context": 9}, "8 tokens"),
        ({"vocabulary": 3}, "token 3"),
    ],
)
def test_a_session_of_another_model_is_refused(changes, match):
    fitting = {"model_id": "m" * 64, "context": 8, "vocabulary": 4}
    check_fits(SAVED, **fitting)
    with pytest.raises(InputError, match=match):
        check_fits(SAVED, **{**fitting, **changes})


def test_a_file_is_written_whole_and_for_its_owner_alone(tmp_path):
    file = tmp_path / "chat.session"
    save_to_file(SAVED, file)
    save_to_file(SAVED, file)
    assert_equal(read_from_file(file), SAVED)
    assert [f.name for f in tmp_path.iterdir()] == ["chat.session"]
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    file = tmp_path / "chat.session"
    save_to_file(SAVED, file)
    for wrong in ({"content": {1, 2}}, {"content": float("nan")}):
        with pytest.raises(UsageError, match="messages cannot be saved"):
            save_to_file(SavedSession("x", 8, (), {}, (wrong,)), file)
    assert_equal(read_from_file(file), SAVED)
    assert [f.name for f in tmp_path.iterdir()] == ["chat.session"]


def test_other_files_are_not_overwritten(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    other = tmp_path / "other.npz"
    np.savez(other, about=np.frombuffer(b"{}", np.uint8))
    for file in (notes, other, tmp_path):
        with pytest.raises(UsageError, match="is no saved session"):
            save_to_file(SAVED, file)
    assert notes.read_text() == "mine"
    with pytest.raises(UsageError, match="no folder"):
        save_to_file(SAVED, tmp_path / "nowhere" / "a")
    with pytest.raises(UsageError, match="no saved session at"):
        read_from_file(tmp_path / "nowhere")
