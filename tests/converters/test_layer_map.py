"""Which exported tensors belong to which torch module."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_converters.layer_map import (
    LAYER_MAP,
    IntermediateOutput,
    ModulePaths,
    ProgramNode,
    group_by_module,
    innermost_module,
    kept_intermediates,
    read_intermediates,
    read_modules,
    write_layer_map,
)

MODULES = [
    ("", "ExportableModel"),
    ("model", "BertModel"),
    ("model.encoder", "BertEncoder"),
    ("model.encoder.layer", "ModuleList"),
    ("model.encoder.layer.5", "BertLayer"),
    ("model.encoder.layer.5.dense", "Linear"),
]


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (["", "model", "model.encoder.layer.5", "view_7"], "model.encoder.layer.5"),
        (["model.encoder.layer.5", "model"], "model"),
        (["nothing"], None),
        ([], None),
    ],
)
def test_the_innermost_module_is_the_last_scope_that_names_one(scopes: list[str], expected: str | None) -> None:
    assert innermost_module(iter(scopes), (name for name, _ in MODULES if name)) == expected


@pytest.mark.parametrize(
    ("tensor", "module"),
    [
        ("pkg.EdgeForm/pkg.BertModel_model/pkg.BertEncoder_encoder/pkg.BertLayer_5;", "model.encoder.layer.5"),
        (
            "pkg.EdgeForm/m.BertModel_model/m.BertEncoder_encoder/m.BertLayer_5/torch.nn.modules.linear.Linear_dense;x",
            "model.encoder.layer.5.dense",
        ),
        ("pkg.EdgeForm/pkg.BertModel_model/pkg.BertEncoder_encoder/pkg.GELU_activation", "model.encoder"),
        ("pkg.EdgeForm/pkg.BertModel_model/", "model"),
        ("pkg.Other_other/pkg.Layer_9", None),
        ("serving_default_input_ids:0", None),
        ("", None),
    ],
)
def test_a_tensor_name_is_traced_to_the_nearest_module(tensor: str, module: str | None) -> None:
    assert ModulePaths(MODULES).find(tensor) == module


ATTRIBUTES = st.from_regex(r"[a-z][a-z0-9]{0,4}(_[a-z0-9]{1,3})?", fullmatch=True)


@given(st.lists(st.tuples(ATTRIBUTES, st.sampled_from(["Layer", "Linear", "ModuleList"])), min_size=1, max_size=6))
def test_every_module_is_found_by_the_path_that_is_written_for_it(path: list[tuple[str, str]]) -> None:
    if path[-1][1] == "ModuleList":
        path = [*path, ("last", "Linear")]
    names = [".".join(a for a, _ in path[: i + 1]) for i in range(len(path))]
    modules = [("", "Root"), *((name, kind) for name, (_, kind) in zip(names, path, strict=True))]
    written = "/".join(f"pkg.mod.{kind}_{a}" for a, kind in path if kind != "ModuleList")
    assert ModulePaths(modules).find(f"pkg.Root/{written};more") == names[-1]


def test_tensors_are_grouped_and_those_of_no_module_left_out() -> None:
    pairs = [("a", "1"), (None, "2"), ("b", "3"), ("a", "4")]
    assert group_by_module(iter(pairs)) == {"a": ["1", "4"], "b": ["3"]}


def test_the_map_is_written_in_a_fixed_order_without_repeats(tmp_path: Path) -> None:
    write_layer_map(tmp_path, {"b": ["y", "x", "y"], "a": []})
    content = (tmp_path / LAYER_MAP).read_text()
    assert json.loads(content) == {"modules": {"a": [], "b": ["x", "y"]}, "intermediates": []}
    assert read_modules(tmp_path) == {"a": [], "b": ["x", "y"]}
    assert content.index('"a"') < content.index('"b"')


INTERMEDIATES = [
    IntermediateOutput(ProgramNode("a.b", "linear", 0), "t1", "MatMul"),
    IntermediateOutput(ProgramNode("", "add", 1), "t2", "ADD", factor=0.25),
]


def test_intermediates_are_read_as_they_were_written_and_in_their_order(tmp_path: Path) -> None:
    write_layer_map(tmp_path, {}, INTERMEDIATES)
    assert read_intermediates(tmp_path) == INTERMEDIATES


def test_intermediates_are_kept_where_their_tensors_are_with_the_operators_of_the_later_file() -> None:
    assert kept_intermediates(INTERMEDIATES, {"t1": "Gemm", "t3": "Add"}) == [
        IntermediateOutput(ProgramNode("a.b", "linear", 0), "t1", "Gemm")
    ]


def test_a_node_is_told_in_words() -> None:
    assert [str(intermediate.program_node) for intermediate in INTERMEDIATES] == ["a.b: linear", "(model): add 2"]
