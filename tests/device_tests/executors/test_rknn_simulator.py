"""What stands around Rockchip's toolkit; the toolkit itself is tested with its target."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastserve_device_tests.executors.rknn_simulator import RknnSimulator, is_compiled, nodes_of_processors
from fastserve_runtime.errors import EnvironmentFailure, UsageError

LOG = """
D RKNN: [12:51:22.077] ID   OpType             DataType Target InputShape           OutputShape  RW(KB)  FullName
D RKNN: [12:51:22.077] 0    InputOperator      INT32    CPU    -                    (1,32)       0       In:ids
D RKNN: [12:51:22.077] 2    Gather             FLOAT16  CPU    (800,32),(1,32)      (1,32,32)    50      Gather:words
D RKNN: [12:51:22.077] 4    Sub                FLOAT    NPU    (1,1,1,1),(1,32,1,1) (1,32,1,1)   0       Sub:node_sub
D RKNN: [12:51:22.077] 22   ConvExGelu         FLOAT16  NPU    (1,32,1,32)          (1,64,1,32)  6       Conv:dense
D RKNN: [12:51:22.077] 23   ArgMax             FLOAT16  CPU    (1,64,1,32)          (1,1)        6       ArgMax:best
D RKNN: [12:51:22.077] 24   Gather             FLOAT16  CPU    (1,64,1,32)          (1,1)        6       Gather:more
D RKNN: [12:51:22.077] 50   OutputOperator     FLOAT16  CPU    (1,32)               -            0       Out:embedding
D RKNN: [12:51:22.079] 33   ConvAdd        transpose_9_sw   FLOAT16   NC1HWC2      (1,32,1,32) | 0x00005dc0*0x000065c0
D RKNN: [12:51:22.079] 2    Gather         embeddings       FLOAT16   (800,32)     | 0x00000000 0x00019000 0x00019000
"""


def test_layers_are_counted_by_processor_without_inputs_and_outputs() -> None:
    assert nodes_of_processors(LOG) == {"NPU": 2, "CPU (ArgMax, Gather)": 3}
    assert nodes_of_processors("nothing of this kind") == {}


@pytest.mark.parametrize(("content", "expected"), [(b"RKNN\0\0", True), (b"RKN", False), (b"\x08\x0aonnx", False)])
def test_a_compiled_file_is_known_by_its_first_bytes(tmp_path: Path, content: bytes, *, expected: bool) -> None:
    file = tmp_path / "model"
    file.write_bytes(content)
    assert is_compiled(file) is expected
    assert is_compiled(memoryview(content)) is expected


def test_a_bare_file_is_refused() -> None:
    with pytest.raises(UsageError, match="does not open bare files"):
        RknnSimulator("rk3588").open_session(memoryview(b""), None, threads=1)


def test_where_the_toolkit_is_not_installed_the_error_names_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rknn", None)
    with pytest.raises(EnvironmentFailure, match=r"scripts/setup_rknn\.sh"):
        RknnSimulator("rk3588").import_library()
