"""Copies of bundles in which something is changed, with or without a manifest that says so."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from fastserve_runtime.bundle.canonical_json import canonical_json

MANIFEST = "manifest.json"


def single_variants(bundle: Path, folder: Path) -> dict[str, Path]:
    """Write a bundle for each variant of one; return them by the variants' ids."""
    document = json.loads((bundle / MANIFEST).read_bytes())
    found = {}
    for variant in document["variants"]:
        others = [v for v in document["variants"] if v is not variant]
        foreign = {f for v in others for f in (*v["files"], v["golden"])} - {*variant["files"], variant["golden"]}
        files = {p: e for p, e in document["files"].items() if p not in foreign}
        own = {**document, "variants": [variant], "chosen": variant["id"], "files": files}
        found[variant["id"]] = location = folder / f"{variant['id']}.fsb"
        shutil.rmtree(location, ignore_errors=True)
        for path in files:
            _link(bundle / path, location / path)
        (location / MANIFEST).write_bytes(canonical_json(own))
    return found


def changed_copy(
    bundle: Path,
    folder: Path,
    path: str,
    change: Callable[[Path, Path], None],
    *,
    tells: bool = True,
) -> Path:
    """Write a copy of a bundle with one file changed.

    Args:
        bundle: a directory.
        folder: where the copy goes; what is there is replaced.
        path: of the file in the bundle.
        change: writes the changed file: from the old one, to the new place.
        tells: whether the copy's manifest has the new file's digest, as if the fault had come before packing.
    """
    shutil.rmtree(folder, ignore_errors=True)
    document = json.loads((bundle / MANIFEST).read_bytes())
    for name in document["files"]:
        if name != path:
            _link(bundle / name, folder / name)
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    change(bundle / path, folder / path)
    if tells:
        content = (folder / path).read_bytes()
        document["files"][path] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / MANIFEST).write_bytes(canonical_json(document))
    return folder


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, which a bundle takes where it takes no link; nobody writes to either."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
