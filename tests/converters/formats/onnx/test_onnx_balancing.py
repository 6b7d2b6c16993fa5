"""Balancing: nothing changes in real numbers, and it is done where rounding loses less by it."""

from __future__ import annotations

import numpy as np
import torch

from fastserve_converters.formats.onnx.smoothing import choose_balancing, find_balancing, input_statistics, noise
from fastserve_converters.precisions import INT8
from fastserve_converters.quantization.weights import quantize_nearest


class Scaled(torch.nn.Module):
    """A linear layer whose inputs differ in size as told."""

    def __init__(self, channels: np.ndarray) -> None:
        super().__init__()
        self.channels = torch.from_numpy(channels.astype(np.float32))
        self.dense = torch.nn.Linear(len(channels), 24)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        rows = torch.sin(input_ids[0].float()[:, None] * torch.arange(1, len(self.channels) + 1))
        result: torch.Tensor = self.dense(rows * self.channels)
        return result


def calibration() -> dict[str, np.ndarray]:
    ids = np.random.default_rng(0).integers(1, 999, (20, 12)).astype(np.int32)
    return {"input_ids": ids, "attention_mask": np.ones(ids.shape, np.float32)}


def weights_of(module: Scaled) -> np.ndarray:
    return module.dense.weight.detach().numpy()


def test_channels_that_stand_out_are_divided_by_more() -> None:
    torch.manual_seed(0)
    channels = np.ones(32)
    channels[5] = 40
    module = Scaled(channels)
    found = find_balancing(module, {"dense": quantize_nearest(weights_of(module), INT8)}, calibration())
    factors = found["dense"].factors
    assert factors is not None
    assert factors.argmax() == 5
    statistics = input_statistics(module, ["dense"], [{name: value[:1] for name, value in calibration().items()}])[
        "dense"
    ]
    assert noise(statistics, weights_of(module), factors) < 0.5 * noise(
        statistics, weights_of(module), np.ones(32, np.float32)
    )


def test_even_channels_are_left_alone() -> None:
    torch.manual_seed(0)
    module = Scaled(np.ones(32))
    assert find_balancing(module, {"dense": quantize_nearest(weights_of(module), INT8)}, calibration()) == {}


def test_without_calibration_nothing_is_balanced() -> None:
    module = Scaled(np.ones(8))
    assert find_balancing(module, {"dense": quantize_nearest(weights_of(module), INT8)}, {}) == {}


def test_a_token_that_stands_out_is_scaled_by_itself() -> None:
    torch.manual_seed(0)
    module = torch.nn.Linear(16, 8)
    rows = torch.randn(20, 16)
    rows[3] *= 60
    passed = torch.nn.Sequential(module)
    passed.forward = lambda rows: module(rows)  # type: ignore[method-assign]
    statistics = input_statistics(passed, ["0"], [{"rows": rows.numpy()}])["0"]
    weight = module.weight.detach().numpy()
    assert choose_balancing(statistics, weight, may_scale_tokens=True).by_token
    assert not choose_balancing(statistics, weight, may_scale_tokens=False).by_token
