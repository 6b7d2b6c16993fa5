"""What an exporter says of its artifact reads back as what the manifest means."""

from __future__ import annotations

import json
from collections import Counter

from fastserve_converters.artifact import Artifact, count_operators
from fastserve_runtime.bundle.manifest import ExpectedPlacement, Graph, OperatorCount, Requirement, parse_manifest
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from manifests import valid_manifest

IDS = TensorSpec("input_ids", "int32", (1, SymbolicDim("length", 1, 64)), ("batch", "tokens"))
OUTPUT = TensorSpec("logits", "float32", (1, 3), ("batch", "classes"))
GRAPH = Graph("model.onnx", "main", Signature((IDS,), (OUTPUT,)))


def test_operators_are_counted_in_a_fixed_order() -> None:
    counts = Counter({("b", "MatMul", 13): 2, ("a", "Gather", 1): 1, ("b", "Add", 14): 5})
    assert count_operators(counts) == (
        OperatorCount("a", "Gather", 1, 1),
        OperatorCount("b", "Add", 14, 5),
        OperatorCount("b", "MatMul", 13, 2),
    )


def test_an_artifact_reads_back_from_a_manifest_as_it_was() -> None:
    manifest = valid_manifest()
    variant = manifest["variants"][0]
    artifact = Artifact(
        files=tuple(variant["files"]),
        graphs={"main": Graph(variant["files"][0], "forward", GRAPH.signature)},
        operators=count_operators({("tflite", "ADD", 3): 4}),
        expected_placement=ExpectedPlacement("cpu", "XNNPACK", None, 7),
        requires=Requirement("litert", "2.0", ("XNNPACK",), ("linux",)),
    )
    variant |= json.loads(json.dumps(artifact.as_document()))
    read = parse_manifest(manifest).variants[0]
    assert read.files == artifact.files
    assert read.graphs == artifact.graphs
    assert read.operators == artifact.operators
    assert read.expected_placement == artifact.expected_placement
    assert read.requires == artifact.requires
    assert read.state == ()
