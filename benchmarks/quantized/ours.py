"""Our variants: every precision of every format, by `fastserve.export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import fastserve
from fastserve_converters.formats import FORMATS, Format, missing_modules
from quantized.folders import EXPORTS
from quantized.subjects import Subject
from quantized.variant import Variant

FORMAT_NAMES = ("onnx", "tflite", "executorch")
MIXED_SHARE = 0.15
"""The size limit of mixed precision, against the fp32 file."""


class PrintingReporter:
    """Prints each step as it begins."""

    def plan(self, steps: Sequence[object]) -> None:
        """Do nothing."""

    def start(self, name: str) -> None:
        """Print it."""
        print(f"  {name} ...", flush=True)

    def finish(self, name: str) -> None:
        """Do nothing."""


def make_ours(
    subject: Subject, bundle: Path, formats: Sequence[str], wanted: Sequence[str]
) -> tuple[list[Variant], dict[str, float]]:
    """Export a model in all precisions; one that fails has its reason.

    Args:
        subject: the model.
        bundle: where the bundles go.
        formats: which formats.
        wanted: precisions; empty for all that a format has. fp32 always comes along, to compare with.

    Returns:
        The variants, and by format the seconds that scoring all layers took, when it was done.
    """
    found: list[Variant] = []
    scoring: dict[str, float] = {}
    for name in formats:
        exporter: Format = FORMATS.load(name)
        missing = missing_modules(exporter)
        if missing:
            found.append(Variant(f"{name}-fp32", name, "ours", "fp32", failure=f"{', '.join(missing)} is not there"))
            continue
        chosen = [p for p in exporter.PRECISIONS if not wanted or p in wanted or p == "fp32"]
        mixed = [p for p in chosen if exporter.PRECISIONS[p].choices is not None]
        print(f"exporting {subject.name} to {name}: {', '.join(chosen)}", flush=True)
        try:
            result = _export(subject, bundle / f"{name}.fsb", name, [p for p in chosen if p not in mixed], None)
        except fastserve.FastServeError as error:
            found.append(Variant(f"{name}-fp32", name, "ours", "fp32", failure=str(error)))
            continue
        found += [_variant(c) for c in result.candidates]
        fp32 = next(c for c in result.candidates if c.precision == "fp32")
        size = _variant(fp32).size
        if mixed and size and fp32.size:
            limit = int(MIXED_SHARE * size) + fp32.size - size
            try:
                result = _export(subject, bundle / f"{name}-mixed.fsb", name, mixed, limit)
            except fastserve.FastServeError as error:
                found += [Variant(f"{name}-{p}", name, "ours", p, failure=str(error)) for p in mixed]
            else:
                found += [_variant(c) for c in result.candidates if c.precision in mixed]
                scoring[name] = sum(t.seconds for t in result.stages if t.stage.startswith("Sensitivity"))
    return found, scoring


def _export(
    subject: Subject, bundle: Path, name: str, precisions: Sequence[str], max_size: int | None
) -> fastserve.ExportResult:
    return fastserve.export(
        subject.checkpoint,
        bundle,
        formats=[name],
        precisions=precisions,
        keep="all",
        max_size=max_size,
        cache_dir=EXPORTS,
        force=True,
        reporter=PrintingReporter(),
        **subject.export_settings,
    )


def _variant(candidate: fastserve.Candidate) -> Variant:
    made = Variant(candidate.id, candidate.format, "ours", candidate.precision, failure=candidate.failure)
    if candidate.folder is None or candidate.artifact is None:
        return made
    graphs = candidate.artifact["graphs"]
    file = candidate.folder / next(iter(graphs.values()))["file"]
    return replace(made, file=file, graphs=graphs)
