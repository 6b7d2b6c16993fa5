"""A program's inputs and outputs have names, types, and named axes with bounds, without PyTorch looking at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fastserve_converters.programs.archive import read_archive
from fastserve_converters.programs.program_signature import signature_of_program
from fastserve_converters.programs.saving import save_program
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.errors import UsageError
from torch_modules import TOWERS_EXAMPLE, Convolutional, Deciding, Recurrent, TwoTowers

IMAGE = torch.ones(1, 3, 8, 8)
NAMED = {"image": ("batch", "channels", "height", "width")}


def signature(tmp_path: Path, module: nn.Module, example: Any, **options: Any) -> Signature:
    save_program(module, example, tmp_path / "m.pt2", **options)
    return signature_of_program(read_archive(tmp_path / "m.pt2"))


def test_names_come_from_the_module(tmp_path: Path) -> None:
    found = signature(tmp_path, TwoTowers(), TOWERS_EXAMPLE)
    assert found.inputs == (
        TensorSpec("user", "int64", (1,), ("batch",)),
        TensorSpec("features", "float32", (1, 4), ("batch", "axis1")),
        TensorSpec("item", "int64", (1,), ("batch",)),
        TensorSpec("is_new", "bool", (1,), ("batch",)),
    )
    assert [(t.name, t.dtype, t.dims) for t in found.outputs] == [
        ("score", "float32", (1, 1)), ("user_vector", "float32", (1, 16)), ("is_match", "bool", (1, 1)),
    ]  # fmt: skip


def test_open_axes_have_names_bounds_and_steps(tmp_path: Path) -> None:
    height, many = torch.export.Dim("height", min=1, max=8), torch.export.Dim("many", max=6)
    shapes = {"image": {0: many, 2: 2 * height}}
    found = signature(tmp_path, Convolutional(), {"image": torch.ones(2, 3, 8, 8)}, dynamic_shapes=shapes, axes=NAMED)
    (image,), (output,) = found.inputs, found.outputs
    assert image.axes == NAMED["image"]
    assert image.dims == (SymbolicDim("batch", 0, 6), 3, SymbolicDim("height", 4, 16, 2), 8)
    assert (output.name, output.dims) == ("output", (SymbolicDim("batch", 0, 6), 2, SymbolicDim("height", 4, 16, 2), 8))


def test_outputs_of_a_tuple_are_numbered_and_a_batch_may_be_anywhere(tmp_path: Path) -> None:
    axes = {"series": ("time", "batch", "channels"), "output_1": ("layers", "batch", "channels")}
    found = signature(tmp_path, Recurrent(), torch.ones(6, 1, 3), axes=axes)
    assert [t.name for t in found.outputs] == ["output_0", "output_1"]
    assert found.outputs[1].axes == axes["output_1"]


class Integer(nn.Module):
    def forward(self, x: torch.Tensor, times: int) -> torch.Tensor:
        return x * times


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + self.calls


@pytest.mark.parametrize(
    ("module", "example", "options", "message"),
    [
        (Integer(), (IMAGE, 3), {}, "takes a number, a text or nothing in the place of a tensor"),
        (Counting(), IMAGE, {}, "keeps state between calls"),
        (nn.Identity(), IMAGE.double(), {}, "'input' is of the type float64; models are exported for float32"),
        (
            Convolutional(),
            {"image": IMAGE},
            {"dynamic_shapes": {"image": {3: torch.export.Dim.DYNAMIC}}},
            r"The axis 'axis3' of the input 'image' is open without an upper bound. .*max=512",
        ),
        (Convolutional(), IMAGE, {"axes": {"picture": ("batch",)}}, "Axes were named of 'picture', which the program"),
        (Convolutional(), IMAGE, {"axes": {"image": ("batch", "batch", "h", "w")}}, "Give each dimension a name"),
        (Convolutional(), None, {}, "The example input of the module is missing"),
        (Convolutional(), torch.ones(1, 4, 8, 8), {}, "torch.export cannot trace the module"),
        ("module", IMAGE, {}, "A model was given as str"),
        (
            Deciding(),
            torch.ones(3),
            {},
            r"decides by the values of its inputs at torch_modules.py:\d+ in forward: if x.sum\(\) > 0:.*torch.where",
        ),
    ],
)
def test_what_cannot_be_exported_is_told(tmp_path: Path, module: Any, example: Any, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        signature(tmp_path, module, example, **options)
