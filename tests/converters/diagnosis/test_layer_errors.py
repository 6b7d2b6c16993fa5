"""The errors of layers, from a small program and values that were recorded of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastserve_converters.diagnosis.layer_errors import Recorded, layer_errors, segments
from fastserve_converters.diagnosis.program_nodes import nodes_of_program
from fastserve_converters.layer_map import IntermediateOutput, ProgramNode

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
PROGRAM_NODES = [
    ProgramNode("first", "linear", 0),
    ProgramNode("act", "gelu", 0),
    ProgramNode("second", "linear", 0),
    ProgramNode("", "mul", 0),
]


@pytest.fixture(scope="module")
def program() -> Any:
    exported = torch.export.export(Block().eval(), (), {"x": torch.zeros(3, 4)})
    return exported.module(check_guards=False)


def artifact(x: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray] = lambda v: v) -> list[np.ndarray]:
    """What a file computes whose GELU is wrong: the values at all nodes."""
    block = Block()
    with torch.no_grad():
        first = block.first(torch.from_numpy(x))
        act = torch.from_numpy(wrong(block.act(first).numpy()))
        second = block.second(act)
        return [v.numpy() for v in (first, act, second, second.reshape(-1, 2, 2) * 2)]


def recorded(
    folder: Path, program_nodes: list[ProgramNode], count: int = 3, factor: float = 1.0, **how: Any
) -> Recorded:
    for number in range(count):
        x = np.random.default_rng(number).normal(size=(3, 4)).astype(np.float32)
        values = dict(zip(PROGRAM_NODES, artifact(x, **how), strict=True))
        tensors = {
            f"tensor/{n}": values[program_node] * np.float32(factor) for n, program_node in enumerate(program_nodes)
        }
        np.savez(folder / f"{number:04d}.npz", **{"input/x": x, "output/y": values[PROGRAM_NODES[-1]], **tensors})
    return Recorded(folder, {n: IntermediateOutput(p, f"t{n}", "Op", factor) for n, p in enumerate(program_nodes)})


def compared(program: Any, folder: Path, recording: Recorded) -> dict[str, Any]:
    return layer_errors(program, MODULES, [recording], range(3), folder / "trace")


def test_nodes_are_named_by_module_operator_and_call(program: Any) -> None:
    reshape = ProgramNode("", "view", 0)
    assert list(nodes_of_program(program, MODULES).values()) == [*PROGRAM_NODES[:3], reshape, PROGRAM_NODES[3]]


def test_an_honest_file_has_no_error_anywhere(program: Any, tmp_path: Path) -> None:
    found = compared(program, tmp_path, recorded(tmp_path, PROGRAM_NODES))
    assert [intermediate["local"]["sqnr_db"] > 130 for intermediate in found["intermediates"]] == [True] * 4
    assert found["outputs"]["y"]["sqnr_db"] > 120
    assert [intermediate["before"] for intermediate in found["intermediates"]] == [[], [0], [1], [2]]


def test_a_fault_is_the_layers_own_error_and_everybodys_cumulative_one(program: Any, tmp_path: Path) -> None:
    found = compared(program, tmp_path, recorded(tmp_path, PROGRAM_NODES, wrong=lambda v: np.maximum(v, 0)))
    assert [intermediate["local"]["sqnr_db"] < 40 for intermediate in found["intermediates"]] == [
        False,
        True,
        False,
        False,
    ]
    assert [intermediate["cumulative"]["sqnr_db"] < 40 for intermediate in found["intermediates"]] == [
        False,
        True,
        True,
        True,
    ]
    assert found["intermediates"][1]["local"]["worst_sample"] in range(3)


def test_a_node_that_was_not_recorded_joins_the_next_one(program: Any, tmp_path: Path) -> None:
    program_nodes = [PROGRAM_NODES[0], PROGRAM_NODES[2]]
    found = compared(program, tmp_path, recorded(tmp_path, program_nodes, wrong=lambda v: np.maximum(v, 0)))
    assert [intermediate["module"] for intermediate in found["intermediates"]] == ["first", "second"]
    assert found["intermediates"][1]["modules"] == ["act", "second"]
    assert found["intermediates"][1]["local"]["sqnr_db"] < 40


def test_what_the_exporter_scaled_is_scaled_back(program: Any, tmp_path: Path) -> None:
    found = compared(program, tmp_path, recorded(tmp_path, PROGRAM_NODES[:1], factor=0.25))
    assert found["intermediates"][0]["local"]["sqnr_db"] > 130


def test_one_channel_with_all_of_the_error_is_named(program: Any, tmp_path: Path) -> None:
    def wrong(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed[:, 5] += 1
        return changed

    local = compared(program, tmp_path, recorded(tmp_path, PROGRAM_NODES, wrong=wrong))["intermediates"][1]["local"]
    assert local["channel"] == 5
    assert local["channel_sqnr_db"] < local["sqnr_db"]
    # It is the same for every row.
    assert local["steady_sqnr_db"] == pytest.approx(local["sqnr_db"], abs=0.1)


def test_values_that_are_not_finite_are_wrong_in_their_layer_alone(program: Any, tmp_path: Path) -> None:
    recording = recorded(tmp_path, PROGRAM_NODES, wrong=lambda v: v * np.nan)
    for file in tmp_path.glob("*.npz"):
        with np.load(file) as content:
            values = dict(content)
        honest = artifact(values["input/x"])
        np.savez(file, **{**values, "tensor/2": honest[2], "tensor/3": honest[3]})
    found = compared(program, tmp_path, recording)
    assert [intermediate["local"]["sqnr_db"] for intermediate in found["intermediates"]][1] == -999
    assert found["intermediates"][2]["local"]["sqnr_db"] > 130


def test_a_reshape_counts_where_what_it_moves_was_not_recorded(program: Any) -> None:
    reshape = IntermediateOutput(ProgramNode("", "view", 0), "r", "Reshape")
    second = IntermediateOutput(PROGRAM_NODES[2], "s", "MatMul")
    assert [s.intermediate for s in segments(program, MODULES, [reshape])] == [reshape]
    assert [s.intermediate for s in segments(program, MODULES, [second, reshape])] == [second]
