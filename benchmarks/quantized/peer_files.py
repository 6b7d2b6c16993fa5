"""Making peers, one process after another, and keeping their files by what they were made from."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastserve.cache.cache import Cache, Entry
from fastserve.cache.keys import tool_versions
from fastserve_converters.checkpoints.checkpoint import file_sha256
from fastserve_runtime.bundle.canonical_json import digest
from quantized import plain_model
from quantized.peers import PEERS, SUFFIX, Peer
from quantized.processes import run_module
from quantized.subjects import Subject, Texts, read_texts, subject_to_json, write_texts
from quantized.variant import Variant


def find_texts(subject: Subject, cache: Cache) -> Texts:
    """Return the texts of a model with the reference's outputs, from the cache or made in a process of their own."""
    key = {
        "checkpoint": _checkpoint_digest(subject),
        "length": subject.length,
        "data": [file_sha256(d) for d in subject.data],
        "code": digest({"code": inspect.getsource(write_texts)}),
    }
    entry = cache.find("texts", key)
    if entry is None:
        print(f"reference outputs of {subject.name} ...", flush=True)
        entry = cache.make("texts", key, lambda folder: _write_texts(subject, folder))
    return read_texts(entry.folder, entry.result)


def _write_texts(subject: Subject, folder: Path) -> Any:
    result = folder / "texts.json"
    failure = run_module(
        f"{subject.name}-texts", "quantized.subjects", "texts", subject_to_json(subject), str(folder), str(result)
    )
    if failure is not None:
        raise SystemExit(f"The reference's outputs of {subject.name} cannot be made: {failure}")
    return json.loads(result.read_text())


def make_peers(
    subject: Subject, texts: Texts, cache: Cache, formats: Sequence[str], wanted: Sequence[str], *, with_slow: bool
) -> list[Variant]:
    """Make the peers of a model, or find them made.

    Args:
        subject: the model.
        texts: its calibration texts and task.
        cache: where files are kept.
        formats: which formats.
        wanted: ids; empty for all.
        with_slow: whether to make those that take long; they are used all the same where they are cached.
    """
    entries: dict[str, Entry | str] = {}
    found = []
    for peer in PEERS:
        if peer.format not in formats or (peer.tasks and texts.task not in peer.tasks):
            continue
        is_wanted = not wanted or peer.id in wanted
        if not is_wanted and peer.id not in _bases(wanted):
            continue
        base = entries.get(peer.base) if peer.base else None
        if isinstance(base, str):
            entries[peer.id] = f"it is made from {peer.base}: {base}"
        else:
            entries[peer.id] = _entry(peer, base, subject, texts, cache, with_slow=with_slow)
        if is_wanted:
            found.append(_variant(peer, entries[peer.id], subject, texts))
    return found


def _bases(wanted: Sequence[str]) -> set[str]:
    """Return what the wanted peers are made from."""
    named = {peer.id: peer.base for peer in PEERS}
    found: set[str] = set()
    for name in wanted:
        base = named[name]
        while base is not None:
            found.add(base)
            base = named[base]
    return found


def _entry(
    peer: Peer, base: Entry | None, subject: Subject, texts: Texts, cache: Cache, *, with_slow: bool
) -> Entry | str:
    key = {
        "peer": peer.id,
        "checkpoint": _checkpoint_digest(subject),
        "length": subject.length,
        "calibration": file_sha256(texts.folder / "calibration.npz"),
        "base": base.key if base else None,
        "tools": tool_versions(peer.tools),
        "code": digest({"make": inspect.getsource(peer.make), "model": inspect.getsource(plain_model)}),
    }
    entry = cache.find("peers", key)
    if entry is not None:
        return entry
    if peer.is_slow and not with_slow:
        return "it takes long to make: run with --slow-peers once"
    print(f"making {peer.id} for {subject.name} ...", flush=True)
    try:
        return cache.make("peers", key, lambda folder: _make(peer, base, subject, texts, folder))
    except _NotMadeError as error:
        print(f"  not made: {error}", flush=True)
        return str(error)


class _NotMadeError(Exception):
    """A peer's tool failed; the message is its last line."""


def _make(peer: Peer, base: Entry | None, subject: Subject, texts: Texts, folder: Path) -> dict[str, Any]:
    request = {
        "peer": peer.id,
        "checkpoint": str(subject.checkpoint),
        "task": texts.task,
        "length": subject.length,
        "calibration": str(texts.folder / "calibration.npz"),
        "base": str(base.folder / base.result["file"]) if base else None,
        "out": str(folder / f"model{SUFFIX[peer.format]}"),
    }
    (folder / "request.json").write_text(json.dumps(request))
    failure = run_module(f"{subject.name}-{peer.id}", "quantized.peers", str(folder / "request.json"))
    if failure is not None or not Path(request["out"]).is_file():
        raise _NotMadeError(failure or "it wrote no file")
    return {"file": Path(request["out"]).name}


def _variant(peer: Peer, entry: Entry | str, subject: Subject, texts: Texts) -> Variant:
    if isinstance(entry, str):
        return Variant(peer.id, peer.format, peer.tool, peer.title, failure=entry)
    graphs = None
    if peer.format == "executorch":
        # The file of a program has no names of inputs.
        graphs = {"main": _signature(entry.result["file"], subject, texts)}
    return Variant(peer.id, peer.format, peer.tool, peer.title, entry.folder / entry.result["file"], graphs)


def _signature(file: str, subject: Subject, texts: Texts) -> dict[str, Any]:
    with_names = [{"name": n, "dtype": "int64", "dims": [1, subject.length]} for n in ("input_ids", "attention_mask")]
    with_outputs = [{"name": texts.output, "dtype": "float32", "dims": [1, _width(texts)]}]
    return {"file": file, "entry": "forward", "inputs": with_names, "outputs": with_outputs}


def _width(texts: Texts) -> int:
    import numpy as np

    with np.load(texts.folder / "reference.npz") as arrays:
        return int(arrays[texts.output].shape[-1])


def _checkpoint_digest(subject: Subject) -> str:
    files = sorted(f for f in subject.checkpoint.rglob("*") if f.is_file())
    return digest({str(f.relative_to(subject.checkpoint)): file_sha256(f) for f in files})
