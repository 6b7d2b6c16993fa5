"""Samples of tensors are held against a model's inputs before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_converters.inputs.tensors import (
    checked_samples,
    golden_tensors,
    read_tensor_samples,
    split_tensors,
)
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.errors import UsageError

SIGNATURE = Signature(
    (
        TensorSpec("series", "float32", (SymbolicDim("time", 2, 8), 1, 3), ("time", "batch", "channels")),
        TensorSpec("user", "int64", (1,), ("batch",)),
        TensorSpec("gain", "float32", ()),
    ),
    (),
)


def samples(count: int = 4, **changes: Any) -> dict[str, np.ndarray]:
    values = {
        "series": np.ones((count, 5, 3)),
        "user": np.arange(count, dtype=np.int32),
        "gain": np.arange(count, dtype=np.float32),
    }
    return {name: value for name, value in {**values, **changes}.items() if value is not None}


def test_samples_are_converted_where_no_value_changes() -> None:
    found = checked_samples(samples(), SIGNATURE)
    assert {name: (str(v.dtype), v.shape) for name, v in found.items()} == {
        "series": ("float32", (4, 5, 3)),
        "user": ("int64", (4,)),
        "gain": ("float32", (4,)),
    }
    np.testing.assert_array_equal(found["user"], range(4))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (samples(gain=None), "Sample 0: The inputs given are series, user; .* Add: gain"),
        (samples(label=np.ones(4)), "Leave out: label"),
        (samples(user=np.arange(3)), "other numbers along their first axis: series 4, user 3"),
        (samples(user=np.array(3)), "user 0"),
        ({}, "along their first axis: none"),
        (samples(series=np.ones((4, 9, 3))), r"'series' was given with shape \[9, 1, 3\]; the model takes \[time 2..8"),
        (samples(series=np.ones((4, 3))), "'series' was given with shape"),
        (samples(user=np.full(4, 0.5)), "'user' was given as float64; the model takes int64"),
        (samples(series=np.full((4, 5, 3), np.nan)), "The samples of 'series' have values that are not finite"),
    ],
)
def test_samples_that_do_not_fit_are_told(given: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checked_samples(given, SIGNATURE)


def test_files_are_read_one_behind_the_other_and_without_pickles(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        np.savez_compressed(tmp_path / f"{name}.npz", x=np.full((2, 3), value))
    found = read_tensor_samples([tmp_path / "a.npz", tmp_path / "b.npz"])
    assert found["x"][:, 0].tolist() == [1, 1, 2, 2]
    np.savez(tmp_path / "pickled.npz", x=np.array([{}]))
    np.savez(tmp_path / "other.npz", y=np.ones((2, 3)))
    (tmp_path / "text.csv").write_text("text\n")
    for names, message in (
        (["pickled.npz"], "'pickled.npz' cannot be read"),
        (["a.npz", "other.npz"], "do not go together"),
        (["text.csv"], "'text.csv' holds no tensors"),
    ):
        with pytest.raises(UsageError, match=message):
            read_tensor_samples([tmp_path / name for name in names])


@given(st.integers(1, 900), st.integers(0, 5))
def test_every_sample_is_on_one_side_at_most(count: int, seed: int) -> None:
    split = split_tensors({"x": np.arange(count)}, seed)
    evaluation, calibration = (side["x"].tolist() for side in (split.evaluation, split.calibration))
    assert 1 <= len(evaluation) <= 400
    assert len(set(evaluation + calibration)) == len(evaluation) + len(calibration) <= count
    assert split_tensors({"x": np.arange(count)}, seed).evaluation["x"].tolist() == evaluation


def test_goldens_are_the_first_samples_and_zeros() -> None:
    goldens = golden_tensors({"x": np.ones((12, 2))})
    assert goldens.inputs["x"].sum(1).tolist() == [2.0] * 10 + [0.0]
    assert [d["realistic"] for d in goldens.descriptions] == [True] * 10 + [False]
