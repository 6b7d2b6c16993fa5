import dataclasses
import os
import platform

import pytest

from fastserve_runtime.measurement import machine
from fastserve_runtime.measurement.machine import Machine, this_machine

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R)  Xeon(R)   CPU @ 2.20GHz
flags\t\t: fpu avx2 sse fma avx512f
"""
RASPBERRY = """processor\t: 0
Features\t: fp asimd evtstrm crc32
Model\t: Raspberry Pi 5
"""
BOARD = """processor\t: 0
Features\t: fp asimddp asimd
"""


@pytest.fixture
def files(monkeypatch):
    """The system's files as a test wants them; those not given are empty."""
    given = {}
    monkeypatch.setattr(machine, "_read", lambda path: given.get(path, ""))
    monkeypatch.setattr(machine, "instruction_sets", lambda _: ())
    return given


def test_this_machine_is_described():
    found = this_machine()
    assert found.cores >= 1
    assert found.memory is None or (found.memory > 0 and found.memory % 2**30 == 0)
    assert found.architecture == platform.machine()
    assert found.system == platform.system()
    assert found.processor.strip()
    assert list(found.instruction_sets) == sorted(found.instruction_sets)
    assert this_machine().fingerprint == found.fingerprint


def test_nothing_personal_is_in_the_description():
    assert platform.node() not in str(dataclasses.astuple(this_machine()))


@pytest.mark.parametrize(
    ("cpuinfo", "processor"), [(X86, "Intel(R) Xeon(R) CPU @ 2.20GHz"), (RASPBERRY, "Raspberry Pi 5")]
)
def test_the_processors_name_comes_from_the_system(files, cpuinfo, processor):
    files["/proc/cpuinfo"] = cpuinfo
    assert this_machine().processor == processor


def test_a_board_without_a_processor_name_is_named_by_itself(files):
    files["/proc/cpuinfo"] = BOARD
    files["/proc/device-tree/model"] = "Acme Board\0"
    assert this_machine().processor == "Acme Board"


def test_without_system_files_python_names_the_processor(files, monkeypatch):
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert this_machine().processor == "arm"
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "")
    assert this_machine().processor == "unknown processor"
    assert this_machine().architecture == "unknown"
    assert this_machine().instruction_sets == ()


def test_a_file_that_cannot_be_read_is_as_if_empty(monkeypatch, tmp_path):
    assert machine._read(str(tmp_path / "absent")) == ""


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert this_machine().cores == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert this_machine().cores == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert this_machine().cores == 1


def test_memory_is_rounded_to_whole_gib_and_may_be_unknown(monkeypatch):
    pages = {"SC_PHYS_PAGES": 2_031_000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
    assert this_machine().memory == 8 * 2**30

    def refuse(name):
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", refuse)
    assert this_machine().memory is None


PI = Machine("Cortex-A76", 4, "aarch64", ("dotprod", "neon"), 8 * 2**30, "Linux")


@pytest.mark.parametrize(
    "change",
    [
        {"processor": "Cortex-A72"},
        {"cores": 2},
        {"architecture": "armv7l"},
        {"instruction_sets": ("neon",)},
        {"memory": None},
        {"system": "Darwin"},
    ],
)
def test_a_machine_with_another_trait_has_another_fingerprint(change):
    other = dataclasses.replace(PI, **change)
    assert other.fingerprint != PI.fingerprint
    assert dataclasses.replace(PI).fingerprint == PI.fingerprint


def test_a_machine_is_written_in_one_line():
    assert str(PI) == "Cortex-A76, 4 cores, 8 GiB, Linux aarch64, neon dotprod"
    assert str(dataclasses.replace(PI, cores=1, memory=None)) == "Cortex-A76, 1 core, Linux aarch64, neon dotprod"


def test_a_machine_that_tells_no_instruction_sets_says_so():
    assert str(dataclasses.replace(PI, instruction_sets=())).endswith("Linux aarch64, instruction sets unknown")
    assert "none of avx2" in str(dataclasses.replace(PI, instruction_sets=("sse4_2",)))
