"""What is in a cache, and removing what was not used for longest; what a run uses stays while it is at work."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastserve.cache.cache import Cache
from fastserve.cache.records import ENTRY, DamagedEntry, entry_of, read_record
from fastserve.progress import PlannedStep, Reporter


@dataclass(frozen=True)
class KeptEntry:
    """One finished step in a cache.

    Attributes:
        stage: kind of work.
        key: digest of what it was made from.
        folder: where it is.
        bytes: what its files take.
        seconds: how long it took when it was made; None where its record cannot be read.
        used: when it was last used, in seconds since 1970.
        about: what it is of, in a few words; may be empty.
    """

    stage: str
    key: str
    folder: Path
    bytes: int
    seconds: float | None
    used: float
    about: str

    @property
    def short_key(self) -> str:
        """As much of the key as people need to tell entries apart."""
        return self.key[:12]

    @property
    def is_damaged(self) -> bool:
        """Whether its record cannot be read, so that it will be made again."""
        return self.seconds is None

    def as_document(self) -> dict[str, Any]:
        """Return the entry as JSON."""
        return {
            "stage": self.stage,
            "key": self.key,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "last_used": datetime.fromtimestamp(self.used, timezone.utc).isoformat(timespec="seconds"),
            "about": self.about,
            "damaged": self.is_damaged,
        }


def kept_entries(cache: Cache) -> list[KeptEntry]:
    """Return the entries of a cache, those used last first. Their records are read, and not their files."""
    found = [entry for stage, folder in cache.entry_folders() if (entry := _kept(stage, folder)) is not None]
    return sorted(found, key=lambda e: (-e.used, e.stage, e.key))


def superfluous(
    entries: Sequence[KeptEntry],
    *,
    max_bytes: int | None = None,
    max_age: float | None = None,
    now: float | None = None,
) -> list[KeptEntry]:
    """Return what to remove, in this order: damaged entries, then those that were not used for longest.

    Args:
        entries: of the cache, those used last first.
        max_bytes: so much may stay.
        max_age: what was not used for so many seconds goes.
        now: the time, in seconds since 1970; this moment if left out.
    """
    oldest = None if max_age is None else (time.time() if now is None else now) - max_age
    staying = sum(e.bytes for e in entries)
    going = []
    for entry in sorted(entries, key=lambda e: (not e.is_damaged, e.used, e.stage, e.key)):
        is_old = oldest is not None and entry.used < oldest
        is_too_much = max_bytes is not None and staying > max_bytes
        if entry.is_damaged or is_old or is_too_much:
            going.append(entry)
            staying -= entry.bytes
    return going


def remove_entries(
    cache: Cache, entries: Sequence[KeptEntry], reporter: Reporter
) -> tuple[list[KeptEntry], list[KeptEntry]]:
    """Remove entries, and return those that are gone and those that stay, since a run uses them or they are not ours.

    Args:
        cache: theirs.
        entries: which.
        reporter: gets told of each.
    """
    steps = [PlannedStep(f"Remove {e.stage} {e.short_key}", 1 + e.bytes / 1e6) for e in entries]
    reporter.plan(steps)
    gone: list[KeptEntry] = []
    kept: list[KeptEntry] = []
    for step, entry in zip(steps, entries, strict=True):
        reporter.start(step.name)
        (gone if cache.discard(entry.folder) else kept).append(entry)
        reporter.finish(step.name)
    for entry in gone:
        with suppress(OSError):  # other entries begin alike
            entry.folder.parent.rmdir()
    return gone, kept


def _kept(stage: str, folder: Path) -> KeptEntry | None:
    """Describe an entry; None where it has just been removed."""
    try:
        size, used = sum(f.lstat().st_size for f in _files(folder)), folder.stat().st_mtime
        with suppress(OSError):
            used = (folder / ENTRY).stat().st_mtime
    except FileNotFoundError:
        return None
    except OSError:
        size, used = 0, 0.0
    try:
        record = read_record(folder)
        entry = entry_of(folder.name, folder, record)
    except (OSError, DamagedEntry):
        return KeptEntry(stage, folder.name, folder, size, None, used, "damaged")
    return KeptEntry(stage, folder.name, folder, size, entry.seconds, used, _about(record["key"]))


def _files(folder: Path) -> Iterator[Path]:
    return (f for f in folder.rglob("*") if f.is_symlink() or f.is_file())


def _about(key: dict[str, Any]) -> str:
    """Say what an entry is of, from what its key tells of itself."""
    job = key["job"] if isinstance(key.get("job"), dict) else key
    source = key["source"] if isinstance(key.get("source"), dict) else {}
    target = key.get("target") if isinstance(key.get("target"), str) else None
    words = (source.get("task"), job.get("format"), target or job.get("target"), job.get("precision"))
    return " ".join(word for word in words if isinstance(word, str))
