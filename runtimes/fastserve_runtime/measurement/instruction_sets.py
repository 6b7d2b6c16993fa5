"""Which instruction sets a processor has: engines choose their kernels by them, and these compute in different ways.

Names are those of Linux on x86-64, and those of compilers' `-march` on Arm (`neon` for what Linux calls `asimd`).
Standard library only.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

DECISIVE = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8", "neon", "dotprod", "i8mm", "sve")
"""Those by which engines choose how integers are multiplied, and so what a heading names."""

NEEDED_BY_NUMPY: Mapping[str, tuple[str, ...]] = {"x86_64": ("ssse3", "sse4_1", "sse4_2"), "aarch64": ("neon",)}
"""Architecture → without these numpy ends, and every engine with it. With these all precisions of ONNX Runtime 1.32.0,
LiteRT 2.3.0 and fastserve-executorch ran, beside numpy 2.4.6, on emulated processors (Nehalem, Cortex-A53)."""

_X86 = (
    "ssse3", "sse4_1", "sse4_2", "avx", "f16c", "fma", "bmi2", "avx2", "avx_vnni", "avx_vnni_int8",
    "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16",
)  # fmt: skip
_X86_MACHINES = {"x86_64", "amd64", "i386", "i686", "x86"}
_ARM: Mapping[str, str] = {
    "neon": "neon", "asimd": "neon", "asimddp": "dotprod", "asimdhp": "fp16", "atomics": "lse", "crc32": "crc",
    "i8mm": "i8mm", "bf16": "bf16", "sve": "sve", "sve2": "sve2", "sme": "sme",
}  # fmt: skip
"""What Linux calls an instruction set of Arm → its name here."""
_ARM_64 = {"aarch64", "arm64"}

_AT_HWCAP, _AT_HWCAP2 = 16, 26
_HWCAP: Mapping[int, str] = {1: "neon", 7: "crc", 8: "lse", 10: "fp16", 20: "dotprod", 22: "sve"}
_HWCAP2: Mapping[int, str] = {1: "sve2", 13: "i8mm", 14: "bf16", 23: "sme"}
"""Bit → name, of what the kernel tells a 64-bit Arm program (Linux, `arch/arm64/include/uapi/asm/hwcap.h`)."""

_SYSCTL: Mapping[str, str] = {
    "hw.optional.AdvSIMD": "neon",
    "hw.optional.neon": "neon",
    "hw.optional.armv8_crc32": "crc",
    "hw.optional.arm.FEAT_LSE": "lse",
    "hw.optional.arm.FEAT_FP16": "fp16",
    "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_SME": "sme",
    "hw.optional.supplementalsse3": "ssse3",
    "hw.optional.sse4_1": "sse4_1",
    "hw.optional.sse4_2": "sse4_2",
    "hw.optional.avx1_0": "avx",
    "hw.optional.f16c": "f16c",
    "hw.optional.fma": "fma",
    "hw.optional.bmi2": "bmi2",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.avx512bw": "avx512bw",
    "hw.optional.avx512dq": "avx512dq",
    "hw.optional.avx512vl": "avx512vl",
    "hw.optional.avx512vnni": "avx512_vnni",
}
"""Key of macOS's `sysctl` that is 1 → name."""


def instruction_sets(architecture: str) -> tuple[str, ...]:
    """Return the sorted names of the instruction sets that this process can use; empty where the system tells none.

    Args:
        architecture: as `platform.machine` names it.
    """
    if sys.platform == "darwin":
        return from_sysctl(_sysctl())
    if architecture.lower() in _ARM_64:
        # An emulator of Arm shows its host's /proc/cpuinfo, and tells its own processor here.
        found = from_hwcap(*_auxiliary_values())
        if found:
            return found
    return from_cpuinfo(_cpuinfo(), architecture)


def from_cpuinfo(content: str, architecture: str) -> tuple[str, ...]:
    """Read Linux's `/proc/cpuinfo`. Where cores differ, what all of them have counts: work moves between them."""
    is_x86 = architecture.lower() in _X86_MACHINES
    known = {name: name for name in _X86} if is_x86 else _ARM
    cores = []
    for line in content.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == ("flags" if is_x86 else "Features"):
            cores.append({known[word] for word in value.split() if word in known})
    return tuple(sorted(set.intersection(*cores))) if cores else ()


def from_hwcap(first: int, second: int) -> tuple[str, ...]:
    """Read `AT_HWCAP` and `AT_HWCAP2` of Linux on 64-bit Arm."""
    found = {
        name for bits, names in ((first, _HWCAP), (second, _HWCAP2)) for bit, name in names.items() if bits >> bit & 1
    }
    return tuple(sorted(found))


def from_sysctl(read: Callable[[str], int]) -> tuple[str, ...]:
    """Read macOS's `sysctl`.

    Args:
        read: gives the value of a key, 0 where there is none.
    """
    return tuple(sorted({name for key, name in _SYSCTL.items() if read(key) == 1}))


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""


def _auxiliary_values() -> tuple[int, int]:
    try:
        getauxval = ctypes.CDLL(None).getauxval
    except (AttributeError, OSError, TypeError):
        return 0, 0
    getauxval.restype, getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    return int(getauxval(_AT_HWCAP)), int(getauxval(_AT_HWCAP2))


def _sysctl() -> Callable[[str], int]:
    try:
        by_name = ctypes.CDLL(None).sysctlbyname
    except (AttributeError, OSError, TypeError):
        return lambda _: 0

    def read(key: str) -> int:
        value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
        failed = by_name(key.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
        return 0 if failed else value.value

    return read
