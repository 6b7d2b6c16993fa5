"""What is inside a bundle, as tables for people and as a document for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from fastserve.units import format_size, format_time
from fastserve_runtime.bundle import Bundle
from fastserve_runtime.manifest import Signature, Variant
from fastserve_runtime.tensors import describe_dims
from fastserve_runtime.verdict import Outcome, Verdict


def inspection(bundle: Bundle) -> dict[str, Any]:
    """Return a bundle's content as JSON: its id, the manifest, the size of each variant on a device, the evidence."""
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.location),
        "digest": manifest.digest,
        "manifest": manifest.document,
        "sizes": {v.id: device_size(bundle, v) for v in manifest.variants},
        "evidence": bundle.evidence(),
    }


def device_size(bundle: Bundle, variant: Variant) -> int:
    """Return how many bytes a device must hold for a variant."""
    return sum(entry.bytes for entry in bundle.manifest.shipped_files(variant))


def inspection_tables(bundle: Bundle) -> Iterator[RenderableType]:
    """Yield what a bundle holds, for a terminal."""
    manifest = bundle.manifest
    source = manifest.source
    yield f"[bold]{escape(str(bundle.location))}[/]  {escape(manifest.task)}, schema {manifest.schema_version}"
    yield f"id        {manifest.digest}"
    revision = f" at {source.revision}" if source.revision else ""
    yield escape(f"source    {source.name}{revision}, licence {source.licence or 'unknown'}")
    settings = ", ".join(f"{k} {v}" for k, v in manifest.preprocessing.settings.items())
    yield escape(f"input     {manifest.preprocessing.kind}: {settings}")
    yield _variants(bundle)
    for variant in manifest.variants:
        yield f"[bold]{escape(variant.id)}[/]"
        for name, graph in variant.graphs.items():
            yield escape(f"  {name} ({graph.entry}): {_signature(graph.signature)}")
        yield escape(f"  operators: {_operators(variant)}")


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Make a table of verdicts with the figures that they rest on."""
    table = Table("variant", "target", "check", "verdict", "figures")
    styles = {Outcome.PASS: "green", Outcome.NOT_RUN: "yellow"}
    for verdict in verdicts:
        figures = ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in verdict.figures.items())
        detail = "; ".join(x for x in (verdict.message, figures) if x)
        outcome = f"[{styles.get(verdict.outcome, 'bold red')}]{verdict.outcome.value}[/]"
        table.add_row(escape(verdict.variant), verdict.target, verdict.check, outcome, escape(detail))
    return table


def _variants(bundle: Bundle) -> Table:
    measured = {d["variant"]: d for d in bundle.evidence() if d.get("kind") == "measurement"}
    machines = {d["machine"]["processor"] for d in measured.values()}
    title = f"p90 and memory measured on {escape(', '.join(sorted(machines)))}" if machines else "no measurements"
    table = Table(title=title, title_justify="left", title_style="")
    for heading in ("variant", "size", "quality", "p90", "peak memory", "needs", "placement"):
        table.add_column(heading)
    for variant in bundle.manifest.variants:
        mark = " (chosen)" if variant.id == bundle.manifest.chosen else ""
        needs = f"{variant.requires.engine} ≥ {variant.requires.least_version}"
        placement = variant.expected_placement
        where = f"{placement.backend}: {placement.delegated} of {placement.total}"
        table.add_row(
            escape(variant.id + mark),
            format_size(device_size(bundle, variant)),
            *_figures(measured.get(variant.id)),
            escape(needs),
            escape(where),
        )
    return table


def _figures(measurement: dict[str, Any] | None) -> tuple[str, str, str]:
    if measurement is None:
        return "-", "-", "-"
    quality = measurement.get("quality")
    latency = measurement["latency"]
    p90 = format_time(latency["p90"]) if latency["trustworthy"] else "not trustworthy"
    peak = measurement["memory"]["peak"]
    mark = " *" if measurement["brings_pytorch"] else ""
    memory = "unknown" if peak is None else f"{format_size(peak)}{mark}"
    return ("-" if quality is None else f"{quality['value']:.4f}", p90, memory)


def _signature(signature: Signature) -> str:
    def tensors(specs: Sequence[Any]) -> str:
        return ", ".join(f"{t.name} {t.dtype}{describe_dims(t.dims)}" for t in specs)

    return f"{tensors(signature.inputs)} → {tensors(signature.outputs)}"


def _operators(variant: Variant) -> str:
    counts = sorted(variant.operators, key=lambda o: -o.count)
    return ", ".join(f"{o.name} {o.count}" for o in counts)
