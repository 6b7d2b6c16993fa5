"""Calibration data that says nothing is refused; what is good keeps its lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastserve_converters.models.calibration import MIN_SAMPLES, check, check_activations, read
from fastserve_converters.models.reference import CALIBRATION
from fastserve_converters.models.samples import batches, single_samples
from fastserve_runtime.errors import EnvironmentFailure, UsageError

LENGTH = 24


def test_good_data_passes(samples) -> None:
    check(samples, LENGTH)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: {n: v[:0] for n, v in s.items()}, "There are 0 calibration samples"),
        (lambda s: {n: v[: MIN_SAMPLES - 1] for n, v in s.items()}, "There are 15 calibration samples"),
        (lambda s: {n: np.repeat(v[:1], 20, axis=0) for n, v in s.items()}, "All 20 calibration samples are the same"),
        (lambda s: {n: v[:, :-1] for n, v in s.items()}, r"has the shape \[24, 23\]; the model takes \[samples, 24\]"),
        (lambda s: {**s, "attention_mask": s["attention_mask"][:20]}, r"'attention_mask' has the shape \[20, 24\]"),
        (lambda s: {"input_ids": s["input_ids"]}, "has no 'attention_mask'"),
        (lambda s: {**s, "attention_mask": s["attention_mask"] * (np.arange(24) != 3)[:, None]}, "padding alone"),
    ],
)
def test_useless_data_is_refused(samples, spoil, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(spoil(samples), LENGTH)


def test_a_file_is_checked_when_it_is_read(samples, tmp_path) -> None:
    np.savez(tmp_path / CALIBRATION, **samples)
    assert read(tmp_path / CALIBRATION, LENGTH).keys() == samples.keys()
    with pytest.raises(UsageError, match=r"\[samples, 32\]"):
        read(tmp_path / CALIBRATION, 32)


def test_batches_hold_every_sample_once_with_no_more_padding_than_needed(samples) -> None:
    found = list(batches(samples, 5))
    rows = sum(len(b["input_ids"]) for b in found)
    assert rows == len(samples["input_ids"])
    assert all((b["attention_mask"].sum(1) == b["attention_mask"].shape[1]).any() for b in found)
    tokens = sum(int(b["attention_mask"].sum()) for b in found)
    assert tokens == int(samples["attention_mask"].sum())


def test_single_samples_are_cut_to_their_own_tokens_or_left_whole(samples) -> None:
    cut = list(single_samples(samples, min_tokens=2))
    assert [s["input_ids"].shape[1] for s in cut] == samples["attention_mask"].sum(1).astype(int).tolist()
    assert all(s["input_ids"].shape == (1, LENGTH) for s in single_samples(samples))


def test_the_first_layer_that_gives_nan_on_calibration_data_is_located(encoder, samples) -> None:
    part = encoder()
    model = part.module
    check_activations(part, samples)
    # Finite weights whose products are not.
    with torch.no_grad():
        model.get_submodule("model.encoder.layer.0.intermediate.dense").weight[:] = 3e38
    with pytest.raises(EnvironmentFailure, match=r"The layer 'model\.encoder\.layer\.0\.intermediate\.dense' gives"):
        check_activations(part, samples)
