import mmap
import sys

import pytest

from fastserve_runtime.measurement import memory
from fastserve_runtime.measurement.memory import MemoryReading, parse_status, read_memory

STATUS = """Name:\tmodel of 3 kB
VmPeak:\t  900000 kB
VmHWM:\t   2048 kB
VmRSS:\t   1500 kB
RssAnon:\t   1000 kB
RssFile:\t    400 kB
RssShmem:\t    100 kB
Threads:\t4
"""
MIB = 2**20


def without(*names):
    return "".join(line for line in STATUS.splitlines(keepends=True) if not line.startswith(names))


def test_peak_anonymous_and_file_backed_memory_are_read_in_bytes():
    assert parse_status(STATUS) == MemoryReading(2048 * 1024, 1000 * 1024, 500 * 1024)


def test_what_an_older_kernel_does_not_tell_is_unknown():
    assert parse_status(without("RssAnon", "RssFile", "RssShmem")) == MemoryReading(2048 * 1024, None, None)
    assert parse_status(without("RssShmem")).file_backed == 400 * 1024
    assert parse_status("") == MemoryReading(None, None, None)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells anonymous memory apart")
def test_memory_that_is_taken_shows_as_anonymous_and_raises_the_peak():
    before = read_memory()
    block = mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.write(b"\1" * (64 * MIB))
    after = read_memory()
    assert after.anonymous - before.anonymous > 48 * MIB
    assert after.peak >= before.peak
    block.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module")
def test_other_unix_systems_tell_the_peak_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "absent")
    monkeypatch.setattr(sys, "platform", "darwin")
    in_bytes = read_memory()
    monkeypatch.setattr(sys, "platform", "freebsd")
    in_kib = read_memory()
    assert (in_bytes.anonymous, in_bytes.file_backed) == (None, None)
    assert in_kib.peak >= 1024 * in_bytes.peak > 0


def test_a_system_that_tells_nothing_gives_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "absent")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert read_memory() == MemoryReading(None, None, None)
