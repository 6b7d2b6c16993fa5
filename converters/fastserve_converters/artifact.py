"""An exported model file with everything that a manifest says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fastserve_runtime.manifest import (
    ExpectedPlacement,
    Graph,
    OperatorCount,
    Requirement,
    StateSpec,
    signature_document,
    tensor_document,
)

LAYER_SQNR = "layer_sqnr.json"
"""Beside an artifact: the signal-to-quantization-noise ratio of every layer's output."""
GRAPH_OPTIMIZATION = "graph_optimization.json"
"""Beside an artifact whose graph was rewritten: `before` and `after`, operator → count."""
RESTORED = "restored.json"
"""Beside an artifact of static ranges: which layers were left in float, and how near it came by that."""
TWIN_OUTPUTS = "twin_outputs.npz"
"""Beside an artifact of static ranges: what the same quantized graph gives on an executor that is trusted."""

GENAI_CONFIG = "genai_config.json"
"""Beside a decoder in ONNX: how ONNX Runtime GenAI opens it."""


@dataclass(frozen=True)
class Artifact:
    """What an exporter returns. Files lie in the folder it was given; `layer_map.json` beside them.

    Attributes:
        files: model files, relative to that folder.
        graphs: entry points by name.
        operators: inventory of the main graph.
        state: what the model keeps between calls.
    """

    files: tuple[str, ...]
    graphs: Mapping[str, Graph]
    operators: tuple[OperatorCount, ...]
    expected_placement: ExpectedPlacement
    requires: Requirement
    state: tuple[StateSpec, ...] = ()

    def as_document(self) -> dict[str, Any]:
        """Return the fields of a manifest's variant that the exporter knows."""
        return {
            "files": list(self.files),
            "graphs": {name: graph_document(graph) for name, graph in self.graphs.items()},
            "state": [{**tensor_document(s.tensor), "reset": s.reset} for s in self.state],
            "operators": [asdict(o) for o in self.operators],
            "expected_placement": asdict(self.expected_placement),
            "requires": {
                "engine": self.requires.engine,
                "least_version": self.requires.least_version,
                "backends": list(self.requires.backends),
                "platforms": list(self.requires.platforms),
            },
        }


def graph_document(graph: Graph) -> dict[str, Any]:
    """Return a graph's JSON fields."""
    return {"file": graph.file, "entry": graph.entry, **signature_document(graph.signature)}


def count_operators(operators: Mapping[tuple[str, str, int], int]) -> tuple[OperatorCount, ...]:
    """Return counts by (domain, name, version) as an inventory in a fixed order."""
    return tuple(OperatorCount(*key, count) for key, count in sorted(operators.items()))
