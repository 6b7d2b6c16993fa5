"""Programs are read as they are, and damaged ones are told as damaged."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastserve_device_tests.executors.executorch_interpreter import KERNELS, placed_calls
from fastserve_device_tests.executors.executorch_program import (
    Delegate,
    DelegateCall,
    KernelCall,
    Method,
    TensorValue,
    read_program,
)
from fastserve_runtime.errors import BundleError

pytest.importorskip("executorch.exir", reason="ExecuTorch is not installed")


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.arange(6, dtype=torch.float32).reshape(2, 3))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.mul(values + self.rows, 2.5).sum(1)


@pytest.fixture(scope="module")
def content() -> bytes:
    from executorch.exir import to_edge

    program = torch.export.export(Model(), (torch.zeros(2, 3),))
    written: bytes = to_edge(program).to_executorch().buffer
    return written


def test_a_program_is_read_with_its_constants_and_instructions(content: bytes) -> None:
    (method,) = read_program(content).values()
    assert method.name == "forward"
    names = ["aten::add.out", "aten::mul.out", "aten::sum.IntList_out"]
    assert [i.name for i in method.instructions] == names
    (constant,) = (v for v in method.values if isinstance(v, TensorValue) and v.constant is not None and v.sizes)
    np.testing.assert_array_equal(constant.constant, np.arange(6).reshape(2, 3))
    assert {(v.dtype, v.sizes) for i in method.inputs if isinstance(v := method.values[i], TensorValue)} == {
        ("float32", (2, 3))
    }
    assert placed_calls(method) == {KERNELS: 3}


def test_another_file_is_none() -> None:
    with pytest.raises(BundleError, match="not an ExecuTorch program"):
        read_program(b"anything else")


@settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_anywhere_is_told_or_harmless(content: bytes, data: st.DataObject) -> None:
    spoilt = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(8, len(content) - 1))
        spoilt[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(8, len(content)))
    for damaged in (bytes(spoilt), bytes(spoilt[:end])):
        with contextlib.suppress(BundleError):  # and nothing else is raised
            read_program(damaged)


def test_rounding_of_inputs_and_outputs_is_not_counted_as_left_out() -> None:
    tensors = tuple(TensorValue("float32", (1,), (0,), None) for _ in range(4))
    quantize, add = "quantized_decomposed::quantize_per_tensor.out", "aten::add.out"
    steps = (KernelCall(quantize, (0, 1)), DelegateCall(0, (1, 2)), KernelCall(add, (2, 2, 3)))
    method = Method("forward", tensors, (0,), (3,), steps, (Delegate("TOSABackend", b""),))
    assert placed_calls(method) == {"TOSABackend": 1, KERNELS: 1}
