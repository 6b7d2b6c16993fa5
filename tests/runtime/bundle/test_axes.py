"""Axes are found by name; tensors of bundles from before they were named are known."""

from __future__ import annotations

import pytest

from fastserve_runtime.bundle.axes import BATCH, TOKENS, batch_place, dim_of, is_valid, named, numbered_axes, place_of
from fastserve_runtime.bundle.manifest import parse_manifest
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.errors import BundleError
from manifests import valid_manifest

LENGTH = SymbolicDim("length", 2, 64)


def test_an_axis_is_found_wherever_it_stands() -> None:
    series = TensorSpec("series", "float32", (LENGTH, 1, 12), ("time", "batch", "channels"))
    assert (place_of(series, BATCH), dim_of(series, "time"), place_of(series, TOKENS)) == (1, LENGTH, None)
    assert batch_place(series) == 1


@pytest.mark.parametrize(
    ("dims", "axes", "place"), [((4, 2), (), 0), ((), (), None), ((4,), ("channels",), None), ((4,), ("batch",), 0)]
)
def test_a_bare_file_has_its_samples_first_and_a_named_tensor_where_it_says(dims, axes, place) -> None:
    assert batch_place(TensorSpec("x", "float32", dims, axes)) == place


def test_known_tensors_without_names_get_them() -> None:
    ids, other = TensorSpec("input_ids", "int32", (1, LENGTH)), TensorSpec("x", "float32", (1, 2))
    logits = TensorSpec("logits", "float32", (1, 3))
    signature = named(Signature((ids, other), (logits,)))
    assert [t.axes for t in signature.inputs] == [("batch", "tokens"), ()]
    assert signature.outputs[0].axes == ("batch", "classes")
    past = TensorSpec("past_key_values.0.key", "float32", (1, 2, LENGTH, 8))
    decoder = named(Signature((ids, past), (logits,)))
    assert decoder.inputs[1].axes == ("batch", "heads", "positions", "channels")
    assert decoder.outputs[0].axes == ("batch", "vocabulary")


def test_names_that_are_told_stay() -> None:
    own = TensorSpec("logits", "float32", (1, 3), ("batch", "places"))
    assert named(Signature((), (own,))).outputs == (own,)


def test_dimensions_of_which_nothing_is_known_are_numbered() -> None:
    assert numbered_axes((1, 2, 3), BATCH) == ("batch", "axis1", "axis2")
    assert numbered_axes((5,)) == ("axis0",)


@pytest.mark.parametrize("axes", [["batch"], ["batch", "batch"], ["batch", ""], ["batch", "a b"], ["batch", "x", "y"]])
def test_a_manifest_with_other_axes_than_dimensions_is_damaged(axes: list[str]) -> None:
    document = valid_manifest()
    document["variants"][0]["graphs"]["main"]["inputs"][0]["axes"] = axes
    with pytest.raises(BundleError, match=r"the axes .*; each dimension has one of its own"):
        parse_manifest(document)


def test_a_word_of_the_users_is_an_axis_too() -> None:
    assert is_valid(["batch", "frequency_bins", "mic-2"])
