"""Measures how near honest models come to the limits of the conformance suite's policies.

Exports small random models of several families, in every precision of the formats, and MiniLM; checks them with the
suite on this machine's processor; and keeps, for each row of `fastserve_runtime.conformance.policy.POLICIES`, the worst
figures. The seeds are its own: `benchmarks/faults.py` counts false alarms on others. What was found is kept in
build/benchmarks after each model, and `--resume` goes on from it.

A whole run writes `benchmarks/results/policies.json` and the tables in docs/policies.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fastserve.exporting.export import run_export
from fastserve.exporting.request import ExportRequest
from fastserve_device_tests.checks.metric_check import METRIC
from fastserve_device_tests.suite.suite import run_suite
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.policy import ANY, EXECUTOR, MIN_METRIC, POLICIES, QUALITY
from fastserve_runtime.conformance.verdict import figures_document
from fastserve_runtime.conformance.verification import output_kind
from fastserve_runtime.conformance.widths import width_of
from fastserve_runtime.errors import FastServeError
from fastserve_runtime.measurement.machine import this_machine
from report import ROOT, minilm, write_document, write_table

sys.path.insert(0, str(ROOT / "tests"))
from checkpoints import save_checkpoint
from decoder_checkpoints import save_decoder_checkpoint

PAGE = ROOT / "docs" / "policies.md"
KEPT = ROOT / "build" / "benchmarks" / "policies.json"
FIRST_SEED = 10_000
FORMATS = ("onnx", "tflite", "executorch")
PRECISIONS = ("fp32", "fp16", "int8-dynamic", "int8-static", "int8-weight-only", "a16w8", "int4", "int8-embedding-int4")
OF_DECODERS = ("fp32", "int8")
"""Random ones have nothing that survives four bits."""
KINDS = ("sentence", "classify", "hidden")
FAMILIES = ("bert", "roberta", "distilbert", "albert")
Figures = dict[str, float]
Worst = dict[str, Figures]


def models(folder: Path, count: int) -> Iterator[tuple[Path, tuple[str, ...], str]]:
    """Yield checkpoints, the precisions that they are exported in, and the format."""
    for number in range(count):
        seed = FIRST_SEED + number
        kind, family = KINDS[number % len(KINDS)], FAMILIES[number % len(FAMILIES)]
        options = {} if kind == "hidden" else {kind: True}
        checkpoint = save_checkpoint(folder / f"m{seed}", family, seed=seed, **options)
        yield checkpoint, PRECISIONS, FORMATS[number % len(FORMATS)]
    for number, family in enumerate(("llama", "gpt2")[: count // 4]):
        yield save_decoder_checkpoint(folder / f"d{number}", family), OF_DECODERS, "onnx"


def observed(bundle: Path) -> Iterator[tuple[str, str, str, Figures]]:
    """Check a bundle, and yield check, kind of output, width and figures; failures are told, and count too."""
    with open_bundle(bundle) as source:
        manifest = source.manifest
    kinds = {}
    for variant in manifest.variants:
        (name, *_) = next(iter(variant.graphs.values())).signature.outputs
        kinds[variant.id] = (output_kind(manifest.task, name.name), width_of(variant))
    if manifest.task == "text-generation":
        kinds = {variant: ("log-probabilities", bits) for variant, (_, bits) in kinds.items()}
    for verdict in run_suite(bundle):
        if verdict.outcome.is_failure:
            print(f"  {verdict.variant} {verdict.check}: {verdict.outcome.value} {verdict.message}", flush=True)
        if verdict.check in {QUALITY, EXECUTOR, METRIC} and verdict.figures:
            yield verdict.check, *kinds[verdict.variant], dict(verdict.figures)


def worse(known: Figures | None, found: Figures) -> Figures:
    """Return the worse of each figure, and how many were seen."""
    seen = {"seen": 1.0, **{n: v for n, v in found.items() if n not in {"largest_error", "samples"}}}
    if known is None:
        return seen
    maximum = {"relative_error", "kl"}
    together = {n: max(known.get(n, v), v) if n in maximum else min(known.get(n, v), v) for n, v in seen.items()}
    return {**known, **together, "seen": known["seen"] + 1}


def table(worst: Worst) -> str:
    """Return the policies as a table of Markdown, with the worst honest figures in brackets."""
    heads = ["policy", "output", "precision", "SQNR, dB", "cosine of a row", "error of a value", "KL, nats"]
    heads += ["best class held above", "seen", "from"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * 3}{'--:|' * 6}---|"]
    for row in POLICIES:
        found = worst.get(place(row.judged, row.kind, row.width), {})
        policy = asdict(row.policy)
        cells = [
            cell(policy[limit], found.get(figure))
            for limit, figure in (
                ("min_sqnr_db", "sqnr_db"),
                ("min_cosine", "min_cosine"),
                ("max_error", "relative_error"),
                ("max_kl", "kl"),
                ("top1_margin", None),
            )
        ]
        seen = f"{found.get('seen', 0):.0f}"
        lines.append(f"| {' | '.join([row.judged, row.kind, row.width, *cells, seen, row.source])} |")
    return "\n".join(lines)


def metric_table(worst: Worst) -> str:
    """Return the rule for the task's metric as a table of Markdown."""
    lines = ["| Precision | least share of the reference's metric | worst seen: metric |", "|---|---:|---:|"]
    for bits, minimum in MIN_METRIC.items():
        values = [f["value"] for where, f in worst.items() if where.startswith(f"{METRIC}/") and where.endswith(bits)]
        lines.append(f"| {bits} | {minimum:g} | {f'{min(values):.4f}' if values else '-'} |")
    return "\n".join(lines)


def cell(limit: float | None, found: float | None) -> str:
    """Return a limit, and in brackets what was seen."""
    if limit is None:
        return ""
    return f"{limit:g}" + ("" if found is None else f" ({found:.3g})")


def place(check: str, kind: str, bits: str) -> str:
    """Return where figures are kept; the executor is judged the same for every kind."""
    return f"{check}/{ANY if check == EXECUTOR else kind}/{bits}"


def measured(listed: Sequence[tuple[Path, tuple[str, ...], str]], folder: Path, kept: dict[str, Any]) -> Worst:
    """Export and check models, and return the worst figures by place; what was kept before is gone on from.

    Args:
        listed: checkpoints, the precisions that they are exported in, and the format.
        folder: for the bundles.
        kept: how many were `done`, and the `worst` of them.
    """
    worst: Worst = kept.get("worst", {})
    for number, (checkpoint, precisions, format_name) in list(enumerate(listed))[kept.get("done", 0) :]:
        bundle = folder / f"{number}.fsb"
        request = ExportRequest(str(checkpoint), bundle, formats=(format_name,), precisions=precisions, keep="all")
        if format_name in {"onnx", "executorch"} and checkpoint != minilm():
            request = replace(request, cache_dir=folder / "cache")
        print(f"{checkpoint.name} {format_name}", flush=True)
        try:
            run_export(request)
        except FastServeError as error:
            print(f"  not exported: {error}", flush=True)
        else:
            for check, kind, bits, figures in observed(bundle):
                where = place(check, kind, bits)
                worst[where] = worse(worst.get(where), figures)
        KEPT.write_text(json.dumps({"done": number + 1, "worst": worst}, indent=1))
    return worst


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=24, help="how many random encoders")
    parser.add_argument("--no-minilm", action="store_true", help="leave MiniLM out; nothing is written then")
    parser.add_argument("--resume", action="store_true", help="keep what was measured before")
    options = parser.parse_args(arguments)
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if options.resume and KEPT.is_file() else {}
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        trained = [] if options.no_minilm else [(minilm(), PRECISIONS, name) for name in FORMATS]
        worst = measured([*trained, *models(folder, options.models)], folder, kept)
    text = table(worst)
    print(text)
    if options.no_minilm:
        return
    write_table(PAGE, "policies", text)
    write_table(PAGE, "policies metric", metric_table(worst))
    results = {"machine": asdict(this_machine()), "models": options.models, "first_seed": FIRST_SEED}
    document = {where: figures_document(figures) for where, figures in sorted(worst.items())}
    write_document("policies", {**results, "worst": document})


if __name__ == "__main__":
    main()
