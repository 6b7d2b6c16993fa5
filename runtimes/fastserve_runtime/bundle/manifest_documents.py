"""Writing what a manifest says of an artifact, as JSON; `manifest.parse_variant` reads it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fastserve_runtime.bundle.manifest import ExpectedPlacement, Graph, OperatorCount, Requirement, StateSpec
from fastserve_runtime.bundle.signatures import signature_document, tensor_document


def artifact_document(
    *,
    files: Sequence[str],
    graphs: Mapping[str, Graph],
    operators: Sequence[OperatorCount],
    expected_placement: ExpectedPlacement,
    requires: Requirement,
    state: Sequence[StateSpec] = (),
) -> dict[str, Any]:
    """Return the fields of a manifest's variant that whatever made its artifact knows; see `manifest.Variant`."""
    return {
        "files": list(files),
        "graphs": {name: graph_document(graph) for name, graph in graphs.items()},
        "state": [{**tensor_document(s.tensor), "reset": s.reset} for s in state],
        "operators": [asdict(o) for o in operators],
        "expected_placement": asdict(expected_placement),
        "requires": {
            **asdict(requires),
            "backends": list(requires.backends),
            "platforms": list(requires.platforms),
        },
    }


def graph_document(graph: Graph) -> dict[str, Any]:
    """Return a graph's JSON fields."""
    return {"file": graph.file, "entry": graph.entry, **signature_document(graph.signature)}
