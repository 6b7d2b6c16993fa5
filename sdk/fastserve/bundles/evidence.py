"""What a bundle carries beside its manifest: what was measured of each variant, and what its conversion did to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fastserve.search.candidate import Candidate
from fastserve_converters.artifact import GRAPH_OPTIMIZATION, KEPT_IN_FLOAT, LAYER_SQNR
from fastserve_device_tests.compilers.compiled import ESTIMATES
from fastserve_runtime.cli.inspection import COMPILATION, CONVERSION
from fastserve_runtime.measurement.measurement import measurement_document


def evidence_of(candidate: Candidate, time: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and document of the evidence for a candidate.

    Args:
        candidate: one that was measured, or made for a target.
        time: when, in ISO 8601.
    """
    if candidate.compilation is not None:
        yield f"{COMPILATION}-{candidate.id}", _compilation(candidate, candidate.compilation, time)
        return
    assert candidate.measurement is not None
    yield (
        f"measurement-{candidate.id}",
        {
            "kind": "measurement",
            "status": candidate.measurement.status,
            "time": time,
            "variant": candidate.id,
            "size": candidate.size,
            "quality": None if candidate.quality is None else candidate.quality.__dict__,
            **measurement_document(candidate.measurement),
        },
    )
    found = {
        "layers": _beside(candidate, LAYER_SQNR),
        "fake_quant_reference": candidate.fake_quant_reference,
        "graph_optimization": _beside(candidate, GRAPH_OPTIMIZATION),
        "kept_in_float": _beside(candidate, KEPT_IN_FLOAT),
    }
    if any(value is not None for value in found.values()):
        document = {"kind": CONVERSION, "status": "measured", "time": time, "variant": candidate.id, **found}
        yield f"{CONVERSION}-{candidate.id}", document


def _compilation(candidate: Candidate, compilation: Mapping[str, Any], time: str) -> dict[str, Any]:
    """Return what made a candidate for a target; it is `predicted` where the compiler's estimates are part of it."""
    return {
        "kind": COMPILATION,
        "status": "predicted" if compilation["report"].get(ESTIMATES) else "measured",
        "time": time,
        "variant": candidate.id,
        "target": candidate.target,
        "size": candidate.size,
        "quality": None if candidate.quality is None else candidate.quality.__dict__,
        **compilation,
    }


def _beside(candidate: Candidate, name: str) -> dict[str, Any] | None:
    """Return a document that the exporter wrote beside the artifact, or None."""
    file = None if candidate.folder is None else candidate.folder / name
    if file is None or not file.is_file():
        return None
    document: dict[str, Any] = json.loads(file.read_text())
    return document
