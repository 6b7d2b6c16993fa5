"""The errors of layers, from a small program and values that were recorded of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastserve_converters.diagnosis.layer_errors import Recorded, layer_errors, segments
from fastserve_converters.diagnosis.program_places import program_places
from fastserve_converters.layer_map import Place, Tap

Values = dict[str, np.ndarray]


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = torch.nn.Linear(4, 8)
        self.act = torch.nn.GELU()
        self.second = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": self.second(self.act(self.first(x))).reshape(-1, 2, 2) * 2.0}


MODULES = ["", "first", "act", "second"]
PLACES = [Place("first", "linear", 0), Place("act", "gelu", 0), Place("second", "linear", 0), Place("", "mul", 0)]


@pytest.fixture(scope="module")
def program() -> Any:
    exported = torch.export.export(Block().eval(), (), {"x": torch.zeros(3, 4)})
    return exported.module(check_guards=False)


def artifact(x: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray] = lambda v: v) -> list[np.ndarray]:
    """What a file computes whose GELU is wrong: the values at all places."""
    block = Block()
    with torch.no_grad():
        first = block.first(torch.from_numpy(x))
        act = torch.from_numpy(wrong(block.act(first).numpy()))
        second = block.second(act)
        return [v.numpy() for v in (first, act, second, second.reshape(-1, 2, 2) * 2)]


def recorded(folder: Path, places: list[Place], count: int = 3, factor: float = 1.0, **how: Any) -> Recorded:
    for number in range(count):
        x = np.random.default_rng(number).normal(size=(3, 4)).astype(np.float32)
        values = dict(zip(PLACES, artifact(x, **how), strict=True))
        tensors = {f"tensor/{n}": values[place] * np.float32(factor) for n, place in enumerate(places)}
        np.savez(folder / f"{number:04d}.npz", **{"input/x": x, "output/y": values[PLACES[-1]], **tensors})
    return Recorded(folder, {n: Tap(p, f"t{n}", "Op", factor) for n, p in enumerate(places)})


def compared(program: Any, folder: Path, recording: Recorded) -> dict[str, Any]:
    return layer_errors(program, MODULES, [recording], range(3), folder / "trace")


def test_places_are_named_by_module_operator_and_call(program: Any) -> None:
    reshape = Place("", "view", 0)
    assert list(program_places(program, MODULES).values()) == [*PLACES[:3], reshape, PLACES[3]]


def test_an_honest_file_has_no_error_anywhere(program: Any, tmp_path: Path) -> None:
    found = compared(program, tmp_path, recorded(tmp_path, PLACES))
    assert [tap["local"]["sqnr_db"] > 130 for tap in found["taps"]] == [True] * 4
    assert found["outputs"]["y"]["sqnr_db"] > 120
    assert [tap["before"] for tap in found["taps"]] == [[], [0], [1], [2]]


def test_a_fault_is_the_layers_own_error_and_everybodys_cumulative_one(program: Any, tmp_path: Path) -> None:
    found = compared(program, tmp_path, recorded(tmp_path, PLACES, wrong=lambda v: np.maximum(v, 0)))
    assert [tap["local"]["sqnr_db"] < 40 for tap in found["taps"]] == [False, True, False, False]
    assert [tap["cumulative"]["sqnr_db"] < 40 for tap in found["taps"]] == [False, True, True, True]
    assert found["taps"][1]["local"]["worst_sample"] in range(3)


def test_a_place_that_was_not_recorded_joins_the_next_one(program: Any, tmp_path: Path) -> None:
    places = [PLACES[0], PLACES[2]]
    found = compared(program, tmp_path, recorded(tmp_path, places, wrong=lambda v: np.maximum(v, 0)))
    assert [tap["module"] for tap in found["taps"]] == ["first", "second"]
    assert found["taps"][1]["modules"] == ["act", "second"]
    assert found["taps"][1]["local"]["sqnr_db"] < 40


def test_what_the_exporter_scaled_is_scaled_back(program: Any, tmp_path: Path) -> None:
    found = compared(program, tmp_path, recorded(tmp_path, PLACES[:1], factor=0.25))
    assert found["taps"][0]["local"]["sqnr_db"] > 130


def test_one_channel_with_all_of_the_error_is_named(program: Any, tmp_path: Path) -> None:
    def wrong(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed[:, 5] += 1
        return changed

    local = compared(program, tmp_path, recorded(tmp_path, PLACES, wrong=wrong))["taps"][1]["local"]
    assert local["channel"] == 5
    assert local["channel_sqnr_db"] < local["sqnr_db"]
    # It is the same for every row.
    assert local["steady_sqnr_db"] == pytest.approx(local["sqnr_db"], abs=0.1)


def test_values_that_are_not_finite_are_wrong_in_their_layer_alone(program: Any, tmp_path: Path) -> None:
    recording = recorded(tmp_path, PLACES, wrong=lambda v: v * np.nan)
    for file in tmp_path.glob("*.npz"):
        with np.load(file) as content:
            values = dict(content)
        honest = artifact(values["input/x"])
        np.savez(file, **{**values, "tensor/2": honest[2], "tensor/3": honest[3]})
    found = compared(program, tmp_path, recording)
    assert [tap["local"]["sqnr_db"] for tap in found["taps"]][1] == -999
    assert found["taps"][2]["local"]["sqnr_db"] > 130


def test_a_reshape_counts_where_what_it_moves_was_not_recorded(program: Any) -> None:
    reshape = Tap(Place("", "view", 0), "r", "Reshape")
    second = Tap(PLACES[2], "s", "MatMul")
    assert [s.tap for s in segments(program, MODULES, [reshape])] == [reshape]
    assert [s.tap for s in segments(program, MODULES, [second, reshape])] == [second]
