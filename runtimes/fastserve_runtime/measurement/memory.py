"""How much memory this process uses, as the operating system counts it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class MemoryReading:
    """Memory of one process at one moment, in bytes; None where the system does not tell.

    Attributes:
        peak: most resident memory since the process started (Linux `VmHWM`, elsewhere `ru_maxrss`).
        anonymous: resident memory of its own now (`RssAnon`): heap, stacks, unpacked weights.
        file_backed: resident pages of mapped files now (`RssFile` + `RssShmem`): libraries and mapped weights, which
            the system can drop when memory is short.
    """

    peak: int | None
    anonymous: int | None
    file_backed: int | None


def read_memory() -> MemoryReading:
    """Read the memory of this process."""
    if _STATUS.exists():
        return parse_status(_STATUS.read_text())
    try:
        import resource
    except ImportError:
        return MemoryReading(None, None, None)
    unit = 1 if sys.platform == "darwin" else 1024
    return MemoryReading(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, None, None)


def parse_status(text: str) -> MemoryReading:
    """Read the lines of Linux's `/proc/PID/status` (proc(5)); sizes there are in KiB."""
    sizes = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name in {"VmHWM", "RssAnon", "RssFile", "RssShmem"}:
            sizes[name] = int(value.split()[0]) * 1024
    file_backed = None if "RssFile" not in sizes else sizes["RssFile"] + sizes.get("RssShmem", 0)
    return MemoryReading(sizes.get("VmHWM"), sizes.get("RssAnon"), file_backed)
