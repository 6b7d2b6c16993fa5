"""What is inside a bundle: a document for programs, and the words that every command shows people."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastserve_runtime.bundle import Bundle
from fastserve_runtime.errors import BundleError
from fastserve_runtime.generation.inspection import generation_document, generation_lines
from fastserve_runtime.manifest import Signature, TensorSpec, Variant, describe_dims
from fastserve_runtime.quantities import format_size, format_time

CONVERSION = "conversion"
"""The kind of evidence that tells what conversion did: to the graph, and to the output of each layer."""
COMPILATION = "compilation"
"""The kind of evidence that holds what a compiler told when a variant was made for a target."""
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_WORST_LAYERS = 3
VARIANT_HEADINGS = ("variant", "size", "quality", "p90", "peak memory", "needs", "placement")


def inspection(bundle: Bundle) -> dict[str, Any]:
    """Return a bundle's content as JSON: its id, the manifest, the size of each variant on a device, the evidence.

    `generation` is null unless the bundle generates text; see `generation_document`.
    """
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.location),
        "digest": manifest.digest,
        "manifest": manifest.document,
        "sizes": {v.id: device_size(bundle, v) for v in manifest.variants},
        "generation": generation_document(manifest),
        "evidence": bundle.evidence(),
    }


def device_size(bundle: Bundle, variant: Variant) -> int:
    """Return how many bytes a device must hold for a variant."""
    return sum(entry.bytes for entry in bundle.manifest.shipped_files(variant))


def source_lines(bundle: Bundle) -> list[str]:
    """Say what a bundle was made of: its id, the model that it came from, and what it takes."""
    manifest = bundle.manifest
    source = manifest.source
    revision = f" at {source.revision}" if source.revision else ""
    head = [
        f"id        {manifest.digest}",
        f"source    {source.name}{revision}, licence {source.licence or 'unknown'}",
    ]
    kind, generation = manifest.preprocessing.kind, generation_lines(manifest)
    if generation:  # its settings have a whole template in them
        return [*head, f"input     {kind}", *generation]
    settings = ", ".join(f"{k} {v}" for k, v in manifest.preprocessing.settings.items())
    return [*head, f"input     {kind}: {settings}"]


def variant_rows(bundle: Bundle) -> tuple[str, list[tuple[str, ...]]]:
    """Return a title that names the machines of the measurements, and a row of VARIANT_HEADINGS for every variant.

    Raises:
        BundleError: an evidence file is not what it should be.
    """
    measured = {str(d.get("variant")): d for d in bundle.evidence() if d.get("kind") == "measurement"}
    try:
        machines = sorted({d["machine"]["processor"] for d in measured.values()})
        rows = [_variant_row(bundle, v, measured.get(v.id)) for v in bundle.manifest.variants]
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"An evidence file of the bundle is damaged: {error}.", "Export the bundle again.") from error
    title = f"p90 and memory measured on {', '.join(machines)}" if machines else "no measurements"
    return title, rows


def variant_lines(variant: Variant) -> list[str]:
    """Describe a variant's graphs and its operators."""
    graphs = [f"{name} ({graph.entry}): {_signature(graph.signature)}" for name, graph in variant.graphs.items()]
    counts = sorted(variant.operators, key=lambda o: -o.count)
    return [*graphs, f"operators: {', '.join(f'{o.name} {o.count}' for o in counts)}"]


def conversion_lines(bundle: Bundle) -> dict[str, list[str]]:
    """Say what conversion did to each variant, by its id, as far as the bundle's evidence tells.

    Raises:
        BundleError: an evidence file is not what it should be.
    """
    lines: dict[str, list[str]] = {v.id: [] for v in bundle.manifest.variants}
    tellers = {CONVERSION: _conversion_lines, COMPILATION: _compilation_lines}
    for document in bundle.evidence():
        tell, own = tellers.get(str(document.get("kind"))), lines.get(str(document.get("variant")))
        if tell is not None and own is not None:
            own += tell(document)
    return lines


def _conversion_lines(document: Mapping[str, Any]) -> list[str]:
    lines = []
    try:
        graph, layers, twin = (document.get(name) for name in ("graph_optimization", "layers", "twin"))
        if graph:
            before, after = graph["before"], graph["after"]
            gone = {n: before[n] - after.get(n, 0) for n in before if before[n] > after.get(n, 0)}
            come = {n: after[n] - before.get(n, 0) for n in after if after[n] > before.get(n, 0)}
            total = f"{sum(before.values())} operators to {sum(after.values())}"
            lines.append(f"graph: {total}; gone: {_counted(gone)}; new: {_counted(come)}")
        if layers:
            known = {name: db for name, db in layers["sqnr_db"].items() if db is not None}
            worst = sorted(known, key=known.__getitem__)[:_WORST_LAYERS]
            shown = ", ".join(f"{name} {known[name]:.1f} dB" for name in worst)
            lines.append(f"layers: SQNR of {len(known)} against fp32; lowest: {shown}")
        if twin and twin["sqnr_db"] is not None:
            lines.append(f"twin: SQNR {twin['sqnr_db']:.1f} dB against {twin['executor']}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"An evidence file of the bundle is damaged: {error}.", "Export the bundle again.") from error
    return lines


def _compilation_lines(document: Mapping[str, Any]) -> list[str]:
    """Say what a compiler made for a target, and what it reckons of it, which nobody measured."""
    try:
        report, target = document["report"], document["target"]
        lines = [f"made for {target} from what gives the outputs of {document['outputs_of']}"]
        if "cpu" in report["operators"]:
            taken = sum(count for where, count in report["operators"].items() if where != "cpu")
            left = report["operators"]["cpu"]
            lines.append(f"compiled: {taken} operators on the target's processor; left to the CPU: {_counted(left)}")
        estimates = {name: f"{value:.4g}" for name, value in report.get("estimates", {}).items()}
        if estimates:
            scope = f" ({report['estimates_of']})" if "estimates_of" in report else ""
            told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in estimates.items())
            lines.append(f"predicted{scope}: {told}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"An evidence file of the bundle is damaged: {error}.", "Export the bundle again.") from error
    return lines


def _counted(operators: Mapping[str, int]) -> str:
    ordered = sorted(operators.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"


def _variant_row(bundle: Bundle, variant: Variant, measurement: Mapping[str, Any] | None) -> tuple[str, ...]:
    mark = " (chosen)" if variant.id == bundle.manifest.chosen else ""
    placement = variant.expected_placement
    return (
        variant.id + mark,
        format_size(device_size(bundle, variant)),
        *_figures(measurement),
        f"{variant.requires.engine} ≥ {variant.requires.least_version}",
        f"{placement.backend}: {placement.delegated} of {placement.total}",
    )


def _figures(measurement: Mapping[str, Any] | None) -> tuple[str, str, str]:
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
    return f"{_tensors(signature.inputs)} → {_tensors(signature.outputs)}"


def _tensors(specs: Sequence[TensorSpec]) -> str:
    """Describe tensors; those that differ in one number of their names alone, such as a layer's, are told together."""
    together: dict[tuple[str, str], list[TensorSpec]] = {}
    for spec in specs:
        pattern = _NUMBER.sub("{}", spec.name, count=1)
        together.setdefault((pattern, f"{spec.dtype}{describe_dims(spec.dims)}"), []).append(spec)
    texts = []
    for (pattern, kind), alike in together.items():
        numbers = [found[0] for t in alike if (found := _NUMBER.search(t.name))]
        name = pattern.replace("{}", f"{{{numbers[0]}..{numbers[-1]}}}") if len(alike) > 1 else alike[0].name
        texts.append(f"{name} {kind}")
    return ", ".join(texts)
