"""What is inside a bundle: a document for programs, and the words that every command shows people."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from fastserve_runtime.bundle.generation_description import generation_document, generation_lines
from fastserve_runtime.bundle.manifest import Manifest, Variant
from fastserve_runtime.bundle.reader import Bundle
from fastserve_runtime.bundle.tensor_specs import Signature, TensorSpec, describe_dims
from fastserve_runtime.conformance.quality import reference_name
from fastserve_runtime.errors import one_line
from fastserve_runtime.preprocessors.text_prompts import SETTINGS, Prompts
from fastserve_runtime.quantities import format_size, format_time

CONVERSION = "conversion"
"""The kind of evidence that tells what conversion did: to the graph, and to the output of each layer."""
COMPILATION = "compilation"
"""The kind of evidence that holds what a compiler told when a variant was made for a target."""
MEASUREMENT = "measurement"
_DAMAGE = (AttributeError, KeyError, TypeError, ValueError, ArithmeticError)
"""What reading the fields of a document raises that is not what it should be."""
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_WORST_LAYERS = 3
VARIANT_HEADINGS = ("variant", "size", "quality", "p90", "peak memory", "needs", "placement")
VARIANT_NUMBERS = ("size", "quality", "p90", "peak memory")


def inspection(bundle: Bundle) -> dict[str, Any]:
    """Return a bundle's content as JSON: its id, the manifest, the size of each variant on a device, the evidence.

    `notes` say what evidence is left out. `generation` is null unless the bundle generates text; see
    `generation_document`.
    """
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.location),
        "digest": manifest.digest,
        "manifest": manifest.document,
        "sizes": {v.id: device_size(bundle, v) for v in manifest.variants},
        "generation": generation_document(manifest),
        "evidence": bundle.evidence(),
        "notes": evidence_notes(bundle),
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
    settings = ", ".join(f"{k} {v}" for k, v in manifest.preprocessing.settings.items() if k not in SETTINGS)
    return [*head, f"input     {kind}{f': {settings}' if settings else ''}", *_prompt_lines(manifest)]


def _prompt_lines(manifest: Manifest) -> list[str]:
    prompts = Prompts.from_document(manifest.preprocessing.settings, "preprocessing.settings")
    if prompts is None:
        return []
    pooled = "" if prompts.unpooled is None else "; not pooled"
    told = [f"{n} {t!r}{' (the default)' if n == prompts.default else ''}" for n, t in prompts.texts.items()]
    return [f"prompts   {', '.join(told)}{pooled}"]


def variant_rows(bundle: Bundle) -> tuple[str, list[tuple[str, ...]]]:
    """Return a title that names the machines of the measurements, and a row of VARIANT_HEADINGS for every variant."""
    measured = {str(d.get("variant")): told for d, told in _told(bundle, MEASUREMENT)}
    machines = sorted({told[0] for told in measured.values()})
    rows = [_variant_row(bundle, v, measured[v.id][1:] if v.id in measured else None) for v in bundle.manifest.variants]
    title = f"p90 and memory measured on {', '.join(machines)}" if machines else "no measurements"
    return title, rows


def evidence_notes(bundle: Bundle) -> list[str]:
    """Return a sentence for every piece of evidence that cannot be read or shown, and is left out."""
    notes = bundle.evidence_notes()
    for document in bundle.evidence():
        kind = str(document.get("kind"))
        try:
            _TELLERS.get(kind, list)(document)
        except _DAMAGE as error:
            variant = str(document.get("variant"))
            notes.append(f"The {kind} evidence of '{variant:.60}' is damaged and was left out: {one_line(error)}.")
    return notes


def _told(bundle: Bundle, *kinds: str) -> Iterator[tuple[Mapping[str, Any], list[str]]]:
    """Yield each sound document of these kinds with what is told of it."""
    for document in bundle.evidence():
        kind = str(document.get("kind"))
        if kind in kinds:
            with suppress(*_DAMAGE):  # `evidence_notes` tells of it
                yield document, _TELLERS[kind](document)


def variant_lines(variant: Variant) -> list[str]:
    """Describe a variant's graphs and its operators."""
    graphs = [f"{name} ({graph.entry}): {_signature(graph.signature)}" for name, graph in variant.graphs.items()]
    counts = sorted(variant.operators, key=lambda o: -o.count)
    return [*graphs, f"operators: {', '.join(f'{o.name} {o.count}' for o in counts)}"]


def conversion_lines(bundle: Bundle) -> dict[str, list[str]]:
    """Say what conversion did to each variant, by its id, as far as the bundle's evidence tells."""
    lines: dict[str, list[str]] = {v.id: [] for v in bundle.manifest.variants}
    for document, told in _told(bundle, CONVERSION, COMPILATION):
        lines.get(str(document.get("variant")), []).extend(told)
    return lines


def _conversion_lines(document: Mapping[str, Any]) -> list[str]:
    lines = []
    graph, layers, fake_quant_reference = (
        document.get(name) for name in ("graph_optimization", "layers", "fake_quant_reference")
    )
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
    if fake_quant_reference and fake_quant_reference["sqnr_db"] is not None:
        lines.append(
            f"fake-quant reference: SQNR {fake_quant_reference['sqnr_db']:.1f} dB against "
            f"{fake_quant_reference['executor']}"
        )
    return lines


def _compilation_lines(document: Mapping[str, Any]) -> list[str]:
    """Say what a compiler made for a target, and what it reckons of it, which nobody measured."""
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
    return lines


def _counted(operators: Mapping[str, int]) -> str:
    ordered = sorted(operators.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"


def _variant_row(bundle: Bundle, variant: Variant, figures: Sequence[str] | None) -> tuple[str, ...]:
    mark = " (chosen)" if variant.id == bundle.manifest.chosen else ""
    placement = variant.expected_placement
    return (
        variant.id + mark,
        format_size(device_size(bundle, variant)),
        *(("-", "-", "-") if figures is None else figures),
        f"{variant.requires.engine} ≥ {variant.requires.min_version}",
        f"{placement.backend}: {placement.delegated} of {placement.total}",
    )


def _measurement(document: Mapping[str, Any]) -> list[str]:
    """Return the processor, and the figures of a variant's row."""
    quality, latency = document.get("quality"), document["latency"]
    p90 = format_time(latency["p90"]) if latency["trustworthy"] else "not trustworthy"
    peak = document["memory"]["peak"]
    mark = " *" if document["brings_pytorch"] else ""
    memory = "unknown" if peak is None else f"{format_size(peak)}{mark}"
    return [str(document["machine"]["processor"]), "-" if quality is None else _quality(quality), p90, memory]


def _quality(quality: Mapping[str, Any]) -> str:
    """Write a quality; a ratio with the figures that it is of, since it may be above 1."""
    beside = quality.get("beside") or {}
    ratios = [
        f"{n} {v:.4f} of {beside[reference_name(n)]:.4f}" for n, v in beside.items() if reference_name(n) in beside
    ]
    return f"{quality['value']:.4f}" + (f" ({', '.join(ratios)})" if ratios else "")


_TELLERS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    MEASUREMENT: _measurement,
    CONVERSION: _conversion_lines,
    COMPILATION: _compilation_lines,
}
"""Kind of evidence → what is told of a document of it."""


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
