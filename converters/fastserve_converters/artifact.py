"""An exported model file with everything that a manifest says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastserve_runtime.bundle.manifest import ExpectedPlacement, Graph, OperatorCount, Requirement, StateSpec
from fastserve_runtime.bundle.manifest_documents import artifact_document

LAYER_SQNR = "layer_sqnr.json"
"""Beside an artifact: the signal-to-quantization-noise ratio of every layer's output."""
GRAPH_OPTIMIZATION = "graph_optimization.json"
"""Beside an artifact whose graph was rewritten: `before` and `after`, operator → count."""
KEPT_IN_FLOAT = "kept_in_float.json"
"""Beside an artifact of static ranges: which layers were left in float, and how near it came by that."""
FAKE_QUANT_OUTPUTS = "fake_quant_outputs.npz"
"""Beside an artifact of static ranges: what the same quantized graph gives on an executor that is trusted."""
NOT_FINITE_DB = -999.0
"""The ratio that documents give where values that are not finite are compared, as JSON has no infinity."""

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
        return artifact_document(
            files=self.files,
            graphs=self.graphs,
            operators=self.operators,
            expected_placement=self.expected_placement,
            requires=self.requires,
            state=self.state,
        )


def count_operators(operators: Mapping[tuple[str, str, int], int]) -> tuple[OperatorCount, ...]:
    """Return counts by (domain, name, version) as an inventory in a fixed order."""
    return tuple(OperatorCount(*key, count) for key, count in sorted(operators.items()))
