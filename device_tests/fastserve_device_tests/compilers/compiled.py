"""What a vendor's compiler makes of a portable file: a target's own artifact, and what a manifest says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastserve_runtime.bundle.manifest import ExpectedPlacement, Graph, OperatorCount, Requirement
from fastserve_runtime.bundle.manifest_documents import artifact_document

ESTIMATES = "estimates"
"""The part of a report that holds what the compiler reckons rather than counts: cycles, bytes of memory in use."""


@dataclass(frozen=True)
class Compiled:
    """A target's own artifact with everything that a manifest says of it.

    Attributes:
        format: of its files; the portable file's, or the vendor's own (`rknn`).
        files: relative to the folder that they were written to.
        graphs: entry points by name.
        operators: inventory of the file.
        expected_placement: what the compiler gave to the target's processor.
        requires: the engine that opens it, and its least version.
        report: what the compiler tells, JSON; what it only reckons stands below `ESTIMATES`.
    """

    format: str
    files: tuple[str, ...]
    graphs: Mapping[str, Graph]
    operators: tuple[OperatorCount, ...]
    expected_placement: ExpectedPlacement
    requires: Requirement
    report: Mapping[str, Any]

    def as_document(self) -> dict[str, Any]:
        """Return the fields of a manifest's variant that the compiler knows, its format, and the report."""
        return {
            "format": self.format,
            **artifact_document(
                files=self.files,
                graphs=self.graphs,
                operators=self.operators,
                expected_placement=self.expected_placement,
                requires=self.requires,
            ),
            "report": dict(self.report),
        }


def graphs_in(file: str, graphs: Mapping[str, Graph]) -> dict[str, Graph]:
    """Return graphs as they are, but in another file."""
    return {name: Graph(file, graph.entry, graph.signature) for name, graph in graphs.items()}
