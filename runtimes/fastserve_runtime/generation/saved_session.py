"""What a model holds of a conversation, as a file: it goes on later without computing the beginning again.

The file is a `.npz` without pickles whose members are stored: `about`, UTF-8 JSON in uint8 [bytes]; `tokens`,
int64 [tokens]; and one array `cache/NAME` for each that the decoder gives away. Nothing in it is trusted: a size that
is claimed must be that of the bytes which are there, before memory is taken for it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fastserve_runtime.bundle.npz import read_npz
from fastserve_runtime.errors import FastServeError, InputError, UsageError, one_line
from fastserve_runtime.generation.chat_template import ROLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastserve_runtime.sessions.session import Tensor

FORMAT, VERSION = "fastserve-session", 1
_ABOUT, _TOKENS, _CACHE = "about", "tokens", "cache/"
_LARGEST_ABOUT = 64 * 2**20
"""Bytes of JSON that are read at most."""


@dataclass(frozen=True)
class SavedSession:
    """What a model holds.

    Attributes:
        model_id: which model, of which precision; see `fastserve_runtime.variants.model_id`.
        context: how many tokens its decoder takes.
        tokens: those that it holds, at most as many.
        cached: what the decoder keeps of them, by name; empty where it does not give it away.
        messages: the conversation, where there is one.
    """

    model_id: str
    context: int
    tokens: tuple[int, ...]
    cached: Mapping[str, Tensor] = field(default_factory=dict)
    messages: tuple[Mapping[str, Any], ...] = ()


def write_session(saved: SavedSession, stream: BinaryIO) -> None:
    """Write a session.

    Raises:
        UsageError: the messages hold what JSON does not have.
    """
    about = {
        "format": FORMAT,
        "version": VERSION,
        "model": saved.model_id,
        "context": saved.context,
        "messages": list(saved.messages),
    }
    try:
        text = json.dumps(about, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"The messages cannot be saved: {one_line(error)}.", "Give strings, numbers, lists and mappings."
        ) from error
    arrays: dict[str, Any] = {_ABOUT: np.frombuffer(text, np.uint8), _TOKENS: np.array(saved.tokens, np.int64)}
    arrays |= {f"{_CACHE}{name}": np.asarray(value, order="C") for name, value in saved.cached.items()}
    np.savez(stream, **arrays)


def read_session(stream: BinaryIO) -> SavedSession:
    """Read a session.

    Raises:
        InputError: it is damaged, of another version, or no session at all.
    """
    try:
        arrays = read_npz(stream)
        return _session(arrays)
    except FastServeError:
        raise
    except Exception as error:  # zipfile, numpy and json raise a dozen kinds for damaged files
        raise _damaged(one_line(error) or type(error).__name__) from error


def save_to_file(saved: SavedSession, file: str | os.PathLike[str]) -> None:
    """Write a session into a file, whole or not at all; only its owner may read it.

    Raises:
        UsageError: the file exists and is no session, or its folder does not exist.
        OSError: it cannot be written, as on a full disk.
    """
    path = Path(file)
    check_place(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            write_session(saved, stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_place(path: Path) -> None:
    """Refuse a place where a session cannot be saved, or would take that of something else.

    Raises:
        UsageError: the file exists and is no session, or its folder does not exist.
    """
    if path.is_dir() or (path.exists() and not _is_session(path)):
        raise UsageError(f"'{path}' exists and is no saved session.", "Choose another file.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder '{path.parent}'.", "Make it, or choose another file.")


def read_from_file(file: str | os.PathLike[str]) -> SavedSession:
    """Read a session from a file.

    Raises:
        UsageError: there is no such file.
        InputError: it is damaged, of another version, or no session at all.
        OSError: it cannot be read.
    """
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"There is no saved session at '{path}'.", "Check the path.")
    with path.open("rb") as stream:
        return read_session(stream)


def check_fits(saved: SavedSession, *, model_id: str, context: int, vocabulary: int) -> None:
    """Refuse a session that another model made.

    Args:
        saved: the session.
        model_id: that of the model which is to go on with it.
        context: how many tokens its decoder takes.
        vocabulary: how many tokens it knows.

    Raises:
        InputError: it is of another model or context, or holds a token that the model does not have.
    """
    if saved.model_id != model_id:
        raise InputError(
            f"The session is one of the model {saved.model_id:.12}; this is {model_id:.12}.",
            "Use the bundle and the variant that it was saved with.",
        )
    if saved.context != context:
        raise InputError(
            f"The session was saved with a context of {saved.context} tokens; this model has {context}.",
            "Use the bundle that it was saved with.",
        )
    if saved.tokens and max(saved.tokens) >= vocabulary:
        raise InputError(
            f"The session holds the token {max(saved.tokens)}; the model has the tokens 0 to {vocabulary - 1}.",
            "Save it again, or begin a new one.",
        )


def _is_session(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            read = read_npz(stream, only=_ABOUT)
            return bool(json.loads(read[_ABOUT].tobytes())["format"] == FORMAT)
    except Exception:  # whatever is wrong with it, it is no session that may be overwritten
        return False


def _session(arrays: Mapping[str, NDArray[Any]]) -> SavedSession:
    about_bytes, tokens = arrays.get(_ABOUT), arrays.get(_TOKENS)
    if about_bytes is None or tokens is None or about_bytes.dtype != np.uint8 or about_bytes.size > _LARGEST_ABOUT:
        raise _damaged("it is no session")
    about = json.loads(about_bytes.tobytes())
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise _damaged("it is no session")
    if about.get("version") != VERSION:
        raise InputError(
            f"The session has version {about.get('version')!r:.20}; this runtime reads {VERSION}.",
            "Update fastserve-runtime.",
        )
    model_id, context, messages = (about.get(name) for name in ("model", "context", "messages"))
    if not isinstance(model_id, str) or isinstance(context, bool) or not isinstance(context, int):
        raise _damaged("it does not tell its model")
    if tokens.dtype != np.int64 or tokens.ndim != 1 or tokens.size > context or (tokens < 0).any():
        raise _damaged("its tokens are none, or too many")
    return SavedSession(
        model_id=model_id,
        context=context,
        tokens=tuple(tokens.tolist()),
        cached={name.removeprefix(_CACHE): a for name, a in arrays.items() if name.startswith(_CACHE)},
        messages=_messages(messages),
    )


def _messages(messages: Any) -> tuple[Mapping[str, Any], ...]:
    is_sound = isinstance(messages, list) and all(
        isinstance(m, dict) and m.get("role") in ROLES and isinstance(m.get("content"), str) for m in messages
    )
    if not is_sound:
        raise _damaged("its messages are none")
    return tuple(messages)


def _damaged(why: str) -> InputError:
    return InputError(f"The saved session cannot be read: {why}.", "Save it again, or begin a new one.")
