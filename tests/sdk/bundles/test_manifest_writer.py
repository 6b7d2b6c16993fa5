"""What a manifest says of padding: that of a graph which takes any number of tokens costs time and quality."""

from __future__ import annotations

import pytest

from fastserve.bundles.manifest_writer import padding_of
from manifests import tensor

OPEN = {"symbol": "length", "min": 2, "max": 64}


def graph(*dims):
    return {"inputs": [tensor("input_ids", "int32", *dims), tensor("attention_mask", "float32", *dims)]}


@pytest.mark.parametrize(
    ("graphs", "padding"),
    [
        ({"main": graph(1, OPEN)}, "do_not_pad"),
        ({"main": graph(1, 64)}, "max_length"),
        ({"short": graph(1, 16), "main": graph(1, 64)}, "max_length"),
        ({"main": {"inputs": [tensor("x", "float32", 1)]}}, "max_length"),
    ],
)
def test_texts_are_padded_only_where_a_graph_takes_one_length(graphs, padding) -> None:
    assert padding_of(graphs) == padding
