"""What is written of an artifact reads back as what the manifest means."""

from __future__ import annotations

import json

from fastserve_runtime.bundle.manifest import (
    ExpectedPlacement,
    Graph,
    OperatorCount,
    Requirement,
    StateSpec,
    parse_variant,
)
from fastserve_runtime.bundle.manifest_documents import artifact_document, graph_document
from fastserve_runtime.bundle.signatures import tensor_document
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.parsing import Fields
from manifests import variant

IDS = TensorSpec("input_ids", "int32", (1, SymbolicDim("length", 1, 64)), ("batch", "tokens"))
OUTPUT = TensorSpec("logits", "float32", (1, 3), ("batch", "classes"))
GRAPH = Graph("model.onnx", "main", Signature((IDS,), (OUTPUT,)))


def test_a_tensor_keeps_symbolic_dimensions_with_their_bounds() -> None:
    assert tensor_document(IDS) == {
        "name": "input_ids",
        "dtype": "int32",
        "dims": [1, {"symbol": "length", "min": 1, "max": 64}],
        "axes": ["batch", "tokens"],
    }


def test_a_graph_names_its_file_and_entry() -> None:
    document = graph_document(GRAPH)
    assert (document["file"], document["entry"]) == ("model.onnx", "main")
    assert [t["name"] for t in document["inputs"] + document["outputs"]] == ["input_ids", "logits"]


def test_every_field_of_an_artifact_reads_back_as_it_was() -> None:
    state = StateSpec(TensorSpec("cache", "float32", (1, 8)), "conversation")
    operators = (OperatorCount("tflite", "ADD", 3, 4),)
    placement = ExpectedPlacement("cpu", "XNNPACK", None, 7)
    requires = Requirement("litert", "2.0", ("XNNPACK",), ("linux",))
    document = artifact_document(
        files=("model.onnx",),
        graphs={"main": GRAPH},
        operators=operators,
        expected_placement=placement,
        requires=requires,
        state=(state,),
    )
    read = parse_variant(Fields({**variant(), **json.loads(json.dumps(document))}, "the variant"))
    assert (read.files, read.graphs, read.state) == (("model.onnx",), {"main": GRAPH}, (state,))
    assert (read.operators, read.expected_placement, read.requires) == (operators, placement, requires)
