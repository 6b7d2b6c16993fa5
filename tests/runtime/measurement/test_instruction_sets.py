"""Instruction sets are read from what the system tells, on every kind of processor."""

from __future__ import annotations

import platform
import sys

import pytest

from fastserve_runtime.measurement import instruction_sets as module
from fastserve_runtime.measurement.instruction_sets import (
    DECISIVE,
    from_cpuinfo,
    from_hwcap,
    from_sysctl,
    instruction_sets,
)

EPYC = "flags\t\t: fpu sse sse4_1 sse4_2 ssse3 avx f16c fma avx2 bmi2\n"
SAPPHIRE = "flags : sse4_2 avx2 avx_vnni avx512f avx512_vnni amx_tile amx_int8\n"
ALDER = "flags : avx2 avx_vnni fma\n"
CORTEX_A53 = "Features\t: fp asimd evtstrm crc32 cpuid\n"
CORTEX_A76 = "Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm asimddp\n"
NEOVERSE_V1 = "Features\t: fp asimd atomics asimdhp asimddp sve i8mm bf16\n"
CORTEX_A7 = "Features\t: half thumb fastmult vfp neon vfpv4\n"


@pytest.mark.parametrize(
    ("cpuinfo", "architecture", "wanted"),
    [
        (EPYC, "x86_64", {"avx2"}),
        (SAPPHIRE, "x86_64", {"avx2", "avx_vnni", "avx512_vnni", "amx_int8"}),
        (ALDER, "AMD64", {"avx2", "avx_vnni"}),
        (CORTEX_A53, "aarch64", {"neon"}),
        (CORTEX_A76, "aarch64", {"neon", "dotprod"}),
        (NEOVERSE_V1, "aarch64", {"neon", "dotprod", "i8mm", "sve"}),
        (CORTEX_A7, "armv7l", {"neon"}),
        ("flags : sse sse2\n", "x86_64", set()),
        ("", "x86_64", set()),
    ],
)
def test_what_decides_arithmetic_is_found_in_cpuinfo(cpuinfo: str, architecture: str, wanted: set[str]) -> None:
    found = from_cpuinfo(f"processor : 0\n{cpuinfo}", architecture)
    assert set(found) & set(DECISIVE) == wanted
    assert list(found) == sorted(set(found))


def test_of_cores_that_differ_what_all_have_counts() -> None:
    assert from_cpuinfo(CORTEX_A53 + CORTEX_A76, "aarch64") == ("crc", "neon")


def test_an_emulated_arm_does_not_take_its_hosts_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(module, "_cpuinfo", lambda: EPYC)
    monkeypatch.setattr(module, "_auxiliary_values", lambda: (0, 0))
    assert instruction_sets("aarch64") == ()
    monkeypatch.setattr(module, "_auxiliary_values", lambda: (1 << 1 | 1 << 20, 1 << 13))
    assert instruction_sets("aarch64") == ("dotprod", "i8mm", "neon")


def test_the_kernels_bits_are_those_of_its_header() -> None:
    # Seen on a Raspberry Pi 5 (Cortex-A76): fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid
    # asimdrdm lrcpc dcpop asimddp.
    assert from_hwcap(0x119FFF, 0) == ("crc", "dotprod", "fp16", "lse", "neon")
    assert from_hwcap(0, 0) == ()


def test_macos_tells_by_sysctl(monkeypatch: pytest.MonkeyPatch) -> None:
    m1 = {"hw.optional.AdvSIMD": 1, "hw.optional.arm.FEAT_DotProd": 1, "hw.optional.arm.FEAT_I8MM": 0}
    assert from_sysctl(lambda key: m1.get(key, 0)) == ("dotprod", "neon")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(module, "_sysctl", lambda: lambda key: int(key == "hw.optional.avx2_0"))
    assert instruction_sets("x86_64") == ("avx2",)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell in other ways")
def test_this_processor_has_some() -> None:
    found = instruction_sets(platform.machine())
    assert found
    assert found == instruction_sets(platform.machine())
