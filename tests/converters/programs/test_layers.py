"""A program's linear layers and embeddings become modules again, and it computes what it did."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from fastserve_converters.models.dynamic_shapes import dynamic_shapes
from fastserve_converters.programs.archive import read_archive
from fastserve_converters.programs.layers import layered_program
from fastserve_converters.programs.loading import load_program
from fastserve_converters.programs.program_signature import signature_of_program
from fastserve_converters.programs.saving import save_program
from torch_modules import TOWERS_EXAMPLE, TwoTowers


class Tied(nn.Module):
    """An embedding whose table is also the head's, and a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.twice = nn.Embedding(9, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.twice(self.twice(self.table(ids))))
        return found


def test_layers_have_their_names_in_copies_and_new_traces_too(tmp_path: Path) -> None:
    save_program(TwoTowers(), TOWERS_EXAMPLE, tmp_path / "m.pt2")
    archive = read_archive(tmp_path / "m.pt2")
    signature, program = signature_of_program(archive), load_program(archive)
    layered = layered_program(program, signature)
    kinds = {n: type(m) for n, m in layered.named_modules() if isinstance(m, (nn.Linear, nn.Embedding))}
    assert kinds == {
        **{f"program.{name}": nn.Embedding for name in ("users", "items")},
        **{f"program.{name}": nn.Linear for name in ("user.0", "user.2", "item.0", "item.2")},
    }
    with torch.no_grad():
        expected = program.module(check_guards=False)(**TOWERS_EXAMPLE)
        copied = copy.deepcopy(layered)
        copied.get_submodule("program.user.0").weight.zero_()
        found, other = layered(**TOWERS_EXAMPLE), copied(**TOWERS_EXAMPLE)
    assert list(found) == ["score", "user_vector", "is_match"]
    torch.testing.assert_close(found, expected)
    assert not torch.equal(other["user_vector"], expected["user_vector"])
    again = torch.export.export(layered, (), TOWERS_EXAMPLE, dynamic_shapes=dynamic_shapes(signature))
    names = {list(n.meta["nn_module_stack"].values())[-1][0] for n in again.graph.nodes if "linear" in str(n.target)}
    assert names >= {"program.user.0", "program.item.2"}


def test_shared_weights_stay_shared(tmp_path: Path) -> None:
    ids = {"ids": torch.tensor([[1, 2]])}
    save_program(Tied(), ids, tmp_path / "m.pt2")
    archive = read_archive(tmp_path / "m.pt2")
    program = load_program(archive)
    layered = layered_program(program, signature_of_program(archive))
    linears = [m for m in layered.modules() if isinstance(m, nn.Linear)]
    (table,) = (m for m in layered.modules() if isinstance(m, nn.Embedding))
    assert len(linears) == 2
    assert any(linear.weight is table.weight for linear in linears)
    with torch.no_grad():
        expected = program.module(check_guards=False)(**ids)
        torch.testing.assert_close(layered(**ids)["output"], expected)
