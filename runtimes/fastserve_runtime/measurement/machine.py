"""What machine this is: latency and memory belong to it and to no other."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from fastserve_runtime.bundle.canonical_json import digest
from fastserve_runtime.measurement.instruction_sets import DECISIVE, instruction_sets


@dataclass(frozen=True)
class Machine:
    """The traits of a machine that its measurements depend on; no host name, user or serial number.

    Attributes:
        processor: the processor's name as the system tells it.
        instruction_sets: sorted names of those that engines choose kernels by, so that results depend on them too;
            empty where the system tells none. See `fastserve_runtime.measurement.instruction_sets`.
        memory: in bytes, rounded to whole GiB, so that a kernel update does not make another machine.
    """

    processor: str
    cores: int
    architecture: str
    instruction_sets: tuple[str, ...]
    memory: int | None
    system: str

    @property
    def fingerprint(self) -> str:
        """A digest that is equal for equal traits."""
        return digest(asdict(self))

    def __str__(self) -> str:
        memory = "" if self.memory is None else f", {self.memory // 2**30} GiB"
        cores = f"{self.cores} core{'s' if self.cores != 1 else ''}"
        return f"{self.processor}, {cores}{memory}, {self.system} {self.architecture}, {self._decisive()}"

    def _decisive(self) -> str:
        if not self.instruction_sets:
            return "instruction sets unknown"
        return " ".join(name for name in DECISIVE if name in self.instruction_sets) or f"none of {' '.join(DECISIVE)}"


def this_machine() -> Machine:
    """Describe the machine that this process runs on."""
    architecture = platform.machine() or "unknown"
    return Machine(
        processor=_processor(_read("/proc/cpuinfo")),
        cores=_cores(),
        architecture=architecture,
        instruction_sets=instruction_sets(architecture),
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
