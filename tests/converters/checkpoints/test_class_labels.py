"""Class names are one for each output of the model, or refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_converters.checkpoints.class_labels import check_head_rows, check_outputs, label_names, label_notes
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_runtime.errors import UsageError


@given(st.lists(st.text(), min_size=1, max_size=20, unique=True), st.randoms())
def test_names_come_in_the_order_of_their_ids_whatever_order_the_file_has(names: list[str], random) -> None:
    items = [(str(i), name) for i, name in enumerate(names)]
    random.shuffle(items)
    assert label_names({"id2label": dict(items)}) == tuple(names)


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"id2label": {"a": 0, "b": 1}}, "the key 'a'; with 2 labels, 0 to 1 are wanted"),
        ({"id2label": {"1": "a", "2": "b"}}, "the key '2'"),
        ({"id2label": {"0": "a", "2": "b"}}, "the key '2'"),
        ({"id2label": ["a", "b"]}, "an object from ids to names is wanted"),
        ({"id2label": {"0": "a", "1": "a"}}, "the label 'a' more than once"),
        ({"id2label": {"0": "a", "1": "b"}, "num_labels": 3}, "names 2 labels, and its 'num_labels' is 3"),
        ({"id2label": {"0": None, "1": "b"}}, "has None in the place of a name"),
        ({"id2label": {"0": {"en": "a"}, "1": "b"}}, "in the place of a name"),
        ({"num_labels": 0}, "'num_labels' is 0"),
        ({"num_labels": "3"}, "'num_labels' is '3'"),
    ],
)
def test_names_that_do_not_fit_the_outputs_are_refused(config: dict, part: str) -> None:
    with pytest.raises(UsageError) as failure:
        label_names(config)
    assert part in failure.value.problem


@pytest.mark.parametrize(
    ("ids", "differs"),
    [
        (None, False),
        ({}, False),
        ({"a": 0, "b": 1}, False),
        ({"b": "1", "a": "0"}, False),
        ({"a": 1, "b": 0}, True),
        ({"a": 0}, True),
    ],
)
def test_ids_that_contradict_the_names_are_pointed_out(ids: dict | None, differs: bool) -> None:
    assert bool(label_notes({"id2label": {"0": "a", "1": "b"}, "label2id": ids})) is differs


@pytest.mark.parametrize("name", ["classifier.weight", "classifier.out_proj.weight"])
def test_a_head_has_a_row_for_each_label(name: str) -> None:
    check_head_rows(("a", "b"), {name: (2, 8)})
    check_head_rows(("a", "b"), {name: None})
    with pytest.raises(UsageError, match=f"names 2 labels, and the model's head '{name}' has 3 outputs"):
        check_head_rows(("a", "b"), {name: (3, 8)})


def test_what_the_model_gives_counts_in_the_end() -> None:
    check_outputs(("a", "b"), 2)
    check_outputs((), 5)
    with pytest.raises(UsageError, match="names 2 labels, and the model scores 3"):
        check_outputs(("a", "b"), 3)


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "distilbert"])
def test_a_config_that_lost_a_label_is_refused_before_anything_is_loaded(tiny_copy, family: str) -> None:
    folder = tiny_copy(family, classify=True)
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"names 2 labels, and the model's head 'classifier\..*' has 3 outputs"):
        read_checkpoint(folder)
