"""A traced part: any module with several named inputs and outputs, with padded texts or without."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastserve_converters.models.model import TracedPart
from fastserve_converters.models.stages import run
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec

WIDTH = SymbolicDim("width", 2, 32)
TOKENS = SymbolicDim("tokens", 2, 8)


class TwoTowers(torch.nn.Module):
    """Takes floats of any width, integers and booleans, and gives two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(9, 3)

    def forward(self, left: torch.Tensor, ids: torch.Tensor, flag: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return a vector of 3, and the floats again, as wide as they came."""
        return {"joined": self.table(ids) + left.mean(1, keepdim=True), "masked": torch.where(flag, left, -left)}


class Starts(torch.nn.Module):
    """Gives a vector and a number for every token."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the ids as floats, also in vectors of 2; padding has other values in every batch."""
        values = input_ids.float() + 100.0 * input_ids.shape[1] * (1 - attention_mask)
        return {"start_logits": values, "states": values[..., None].expand(-1, -1, 2)}


@pytest.fixture
def towers() -> TracedPart:
    dims = {"left": ("float32", (1, WIDTH)), "ids": ("int64", (1,)), "flag": ("bool", (1, WIDTH))}
    example = {
        "left": torch.ones(1, 4),
        "ids": torch.tensor([3]),
        "flag": torch.tensor([[True, False, True, True]]),
    }
    outputs = (TensorSpec("joined", "float32", (1, 3)), TensorSpec("masked", "float32", (1, WIDTH)))
    signature = Signature(tuple(TensorSpec(name, *spec) for name, spec in dims.items()), outputs)
    return TracedPart(TwoTowers().eval(), example, signature)


@pytest.fixture
def starts() -> TracedPart:
    example = {"input_ids": torch.ones(1, 8, dtype=torch.int32), "attention_mask": torch.ones(1, 8)}
    by_token, axes = (1, TOKENS), ("batch", "tokens")
    inputs = (
        TensorSpec("input_ids", "int32", by_token, axes),
        TensorSpec("attention_mask", "float32", by_token, axes),
    )
    outputs = (
        TensorSpec("start_logits", "float32", by_token, axes),
        TensorSpec("states", "float32", (*by_token, 2), (*axes, "channels")),
    )
    return TracedPart(Starts(), example, Signature(inputs, outputs), batch=2)


def samples_of(towers: TracedPart) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    left = random.normal(size=(3, 6)).astype(np.float32)
    return {"left": left, "ids": np.array([0, 5, 8]), "flag": left > 0}


def test_an_open_axis_takes_other_sizes_and_a_fixed_one_does_not(towers: TracedPart) -> None:
    wider = {"left": torch.ones(1, 7), "ids": torch.tensor([1]), "flag": torch.ones(1, 7, dtype=torch.bool)}
    assert towers.program.module()(**wider)["masked"].shape == (1, 7)
    fixed = towers.with_axes(is_open=False)
    assert [spec.dims for spec in fixed.signature.inputs] == [(1, 4), (1,), (1, 4)]
    assert [spec.dims for spec in fixed.signature.outputs] == [(1, 3), (1, 4)]
    with pytest.raises(Exception, match="4"):
        fixed.program.module()(**wider)
    assert towers.with_axes(is_open=True) is towers
    assert towers.with_axes(is_open=False) is fixed


def test_samples_without_a_mask_run_one_by_one_and_in_order(towers: TracedPart) -> None:
    samples = samples_of(towers)
    found = run(towers, samples)
    assert {name: values.shape for name, values in found.items()} == {"joined": (3, 3), "masked": (3, 6)}
    np.testing.assert_allclose(found["masked"], np.abs(samples["left"]))
    table = towers.module.get_submodule("table").weight.detach().numpy()
    np.testing.assert_allclose(
        found["joined"], table[samples["ids"]] + samples["left"].mean(1, keepdims=True), atol=1e-6
    )


def test_the_loss_is_that_of_all_outputs(towers: TracedPart) -> None:
    truth = {"joined": np.array([[3.0, 4.0]], np.float32), "masked": np.array([[10.0]], np.float32)}
    assert towers.loss(truth, truth) == 0
    assert towers.loss(truth, {**truth, "masked": truth["masked"] * 1.1}) == pytest.approx(0.01)
    assert towers.loss(truth, {name: values * 1.1 for name, values in truth.items()}) == pytest.approx(0.02)


def test_values_by_token_say_nothing_of_padding(starts: TracedPart) -> None:
    ids = np.arange(24, dtype=np.int32).reshape(3, 8)
    mask = (np.arange(8) < np.array([[3], [8], [5]])).astype(np.float32)
    found = run(starts, {"input_ids": ids, "attention_mask": mask})
    np.testing.assert_array_equal(found["start_logits"], ids * mask)
    means = (ids * mask).sum(1) / mask.sum(1)
    np.testing.assert_allclose(found["states"], np.repeat(means[:, None], 2, axis=1))
