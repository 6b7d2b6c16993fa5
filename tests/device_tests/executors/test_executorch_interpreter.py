"""Programs are executed instruction by instruction, with the backend's part by what stands for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators that round

from fastserve_device_tests.executors import executorch_interpreter
from fastserve_device_tests.executors.executorch_interpreter import Backend, open_program
from fastserve_device_tests.executors.executorch_program import (
    Delegate,
    DelegateCall,
    KernelCall,
    Method,
    TensorValue,
)
from fastserve_runtime.bundle.manifest import Graph
from fastserve_runtime.bundle.tensor_specs import Signature, TensorSpec
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError

SCALE, ZERO, MIN, MAX, INT8 = 0.0371, -3, -128, 127, 1
SHAPE = (1, 2, 3, 4)
ORDER = (0, 2, 3, 1)
QUANTIZE = "quantized_decomposed::quantize_per_tensor.out"
DEQUANTIZE = "quantized_decomposed::dequantize_per_tensor.out"


def method(*kernels: str, order: tuple[int, ...] = ORDER, sizes: tuple[int, ...] = SHAPE) -> Method:
    """Rounds its input, hands it to a backend in some order of dimensions, and gives floats again."""
    plain = (0, 1, 2, 3)
    values = (
        TensorValue("float32", SHAPE, plain, None),
        TensorValue("int8", SHAPE, order, None),
        TensorValue("int8", sizes, order, None),
        TensorValue("float32", SHAPE, plain, None),
        *(SCALE, ZERO, MIN, MAX, INT8, None),
    )
    steps = (
        KernelCall(QUANTIZE, (0, 4, 5, 6, 7, 8, 1, 1)),
        DelegateCall(0, (1, 2)),
        KernelCall(DEQUANTIZE, (2, 4, 5, 6, 7, 8, 9, 3, 3)),
        *(KernelCall(name, (3, 3)) for name in kernels),
    )
    return Method("forward", values, (0,), (3,), steps, (Delegate("B", b"graph"),))


def graphs(dtype: str = "float32") -> dict[str, Graph]:
    signature = Signature((TensorSpec("x", dtype, SHAPE),), (TensorSpec("y", "float32", SHAPE),))
    return {"main": Graph("model.pte", "forward", signature)}


@pytest.fixture
def open_with(monkeypatch: pytest.MonkeyPatch):
    """Opens a method that is given as it is, and returns the session and what the backend got."""

    def make(given: Method, results=lambda arrays: arrays, wanted: dict[str, Graph] | None = None):
        monkeypatch.setattr(executorch_interpreter, "read_program", lambda _: {given.name: given})
        got: list[np.ndarray] = []

        def open_delegate(content: bytes, inputs: object, outputs: object):
            assert content == b"graph"
            return lambda arrays: (got.extend(arrays), results(arrays))[1]

        return open_program(memoryview(b""), wanted or graphs(), Backend("B", "it", open_delegate), threads=1), got

    return make


def test_inputs_are_rounded_as_pytorch_rounds_them_and_lie_in_the_order_that_the_program_says(open_with) -> None:
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32) * 4
    session, got = open_with(method())
    outputs = session.run({"x": values})["y"]
    rounded = torch.ops.quantized_decomposed.quantize_per_tensor(
        torch.from_numpy(values), SCALE, ZERO, MIN, MAX, torch.int8
    )
    np.testing.assert_array_equal(got[0], rounded.numpy().transpose(ORDER))
    expected = torch.ops.quantized_decomposed.dequantize_per_tensor(rounded, SCALE, ZERO, MIN, MAX, torch.int8)
    np.testing.assert_array_equal(outputs, expected.numpy())
    assert session.placement().operators == {"B": 1}


@pytest.mark.parametrize(
    ("results", "words"),
    [(lambda _: [], "gave 0 outputs; the program has 1"), (lambda a: [a[0][:, :1]], r"gave int8 \[1, 1, 4, 2\]")],
)
def test_results_that_the_program_does_not_know_are_an_error(open_with, results, words: str) -> None:
    session, _ = open_with(method(), results)
    with pytest.raises(EnvironmentFailure, match=words):
        session.run({"x": np.zeros(SHAPE, np.float32)})


@pytest.mark.parametrize(
    ("given", "wanted", "words"),
    [
        (method("aten::add.out", "aten::mul.out"), graphs(), "leaves aten::add.out, aten::mul.out to ExecuTorch"),
        (method(), graphs("int32"), r"tensors \(float32 \[1, 2, 3, 4\]\) are not those of the manifest"),
        (method(), {"main": Graph("model.pte", "other", graphs()["main"].signature)}, "no method 'other'"),
    ],
)
def test_a_program_that_cannot_be_executed_is_refused(open_with, given: Method, wanted, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        open_with(given, wanted=wanted)


def test_a_bare_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not open bare files"):
        open_program(tmp_path / "model.pte", None, Backend("B", "it", lambda *_: list), threads=1)
