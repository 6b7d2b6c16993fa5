"""What machine this is: latency and memory belong to it and to no other."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from fastserve_runtime.canonical_json import digest


@dataclass(frozen=True)
class Machine:
    """The traits of a machine that its measurements depend on; no host name, user or serial number.

    Attributes:
        processor: the processor's name as the system tells it.
        instruction_set: sorted names of the vector extensions that engines choose kernels by.
        memory: in bytes, rounded to whole GiB, so that a kernel update does not make another machine.
    """

    processor: str
    cores: int
    architecture: str
    instruction_set: tuple[str, ...]
    memory: int | None
    system: str

    @property
    def fingerprint(self) -> str:
        """A digest that is equal for equal traits."""
        return digest(asdict(self))

    def __str__(self) -> str:
        memory = "" if self.memory is None else f", {self.memory // 2**30} GiB"
        cores = f"{self.cores} core{'s' if self.cores != 1 else ''}"
        return f"{self.processor}, {cores}{memory}, {self.system} {self.architecture}"


_EXTENSIONS = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "fma",
    "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "neon",
)  # fmt: skip


def this_machine() -> Machine:
    """Describe the machine that this process runs on."""
    cpuinfo = _read("/proc/cpuinfo")
    return Machine(
        processor=_processor(cpuinfo),
        cores=_cores(),
        architecture=platform.machine() or "unknown",
        instruction_set=_instruction_set(cpuinfo),
        memory=_memory(),
        system=platform.system() or "unknown",
    )


def _cores() -> int:
    # A container may be given fewer cores than the machine has.
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _processor(cpuinfo: str) -> str:
    for key in ("model name", "Model", "Hardware"):
        for line in cpuinfo.splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key and value.strip():
                return " ".join(value.split())
    board = _read("/proc/device-tree/model").rstrip("\0 \n")
    return board or platform.processor() or platform.machine() or "unknown processor"


def _instruction_set(cpuinfo: str) -> tuple[str, ...]:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return tuple(sorted(set(value.split()) & set(_EXTENSIONS)))
    return ()


def _memory() -> int | None:
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return round(size / 2**30) * 2**30


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
