"""Taking one variant out of a bundle as plain files for an app."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.errors import UsageError


def pack(bundle: str | Path, output: str | Path, *, variant: str | None = None, force: bool = False) -> list[Path]:
    """Write a variant's model and preprocessing files, and the licences, into a folder, without bundle structure.

    Args:
        bundle: a bundle's directory or zip file.
        output: the folder; it is made.
        variant: which; the chosen one if left out.
        force: write into a folder that has files already.

    Returns:
        The files that were written.

    Raises:
        UsageError: the folder has files already and `force` is not set.
        BundleError: the bundle is damaged, or has no such variant.
    """
    target = Path(output)
    if target.exists() and not target.is_dir():
        raise UsageError(f"'{target}' is a file.", "Name a folder.")
    if target.is_dir() and any(target.iterdir()) and not force:
        raise UsageError(f"The folder '{target}' has files in it already.", "Name another, or use --force.")
    written = []
    with open_bundle(bundle) as source:
        manifest = source.manifest
        chosen = manifest.variant(variant or manifest.chosen)
        licences = [e for e in manifest.files.values() if e.role in {"licence", "model-card"}]
        entries = (*manifest.shipped_files(chosen), *licences)
        contents = {_plain_place(e.path, chosen): source.read(e.path) for e in entries}
        unfinished = target.absolute().with_name(f".{target.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            for name, content in contents.items():
                (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
                (unfinished / name).write_bytes(content)
            target.mkdir(parents=True, exist_ok=True)
            for name in contents:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (unfinished / name).replace(target / name)
                written.append(target / name)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return written


def _plain_place(path: str, variant: Variant) -> str:
    """Return where a bundle's file goes; a model that is a folder, such as Core ML's package, stays one."""
    own = f"variants/{variant.id}/"
    return path.removeprefix(own) if path.startswith(own) else PurePosixPath(path).name
