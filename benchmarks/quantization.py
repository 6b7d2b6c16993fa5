"""Measures our quantized variants and what other tools make of the same models, in one run on one machine.

For MiniLM at 64 and 128 tokens, and for a sentiment classifier with its true accuracy: size, latency and quality of
every precision of every format, and of each peer's own default from the plain model. Every variant runs in a process
of its own with one thread; they take turns, in both orders. What is made (exports, peers, outputs) is cached in
build/benchmarks, so that a second run only measures; `--prepare` makes it all and times nothing.

A whole run writes `benchmarks/results/quantization.json`, a summary in README.md and all of it in
docs/measurements.md; a part of it (`--only`, `--quick`, `--no-peers`) writes to build/benchmarks/quantization
instead.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastserve.cache.cache import Cache
from fastserve.cache.keys import tool_versions
from fastserve_runtime.measurement.machine import this_machine
from quantized.figures import rows_of
from quantized.folders import LOGS, OWN
from quantized.ours import FORMAT_NAMES, make_ours
from quantized.peer_files import find_texts, make_peers
from quantized.peers import PEERS
from quantized.processes import child_environment
from quantized.profiles import profile
from quantized.subjects import SUBJECTS, find_subject
from quantized.tables import summary, tables
from quantized.timing import Measured, measure, write_cases
from quantized.variant import Variant
from report import MEASUREMENTS, README, write_results

QUICK_PRECISIONS = ("fp32", "int8-dynamic", "int8-embedding-int4")
QUICK_PEERS = ("onnx-plain", "onnx-ort-fused-dynamic", "tflite-dynamic-wi8-afp32", "executorch-pt2e-dynamic")
SUBJECTS_IN_FULL = "minilm64"
FASTEST_PRECISIONS = ("fp32", "fp32-fused", "int8-dynamic", "int8-embedding-int4")
"""Ours for the other models, unless `--everything` asks for all."""
PROFILED = ("fp32", "fp32-fused", "int8-dynamic")
"""Precisions whose operators are shown: before and after."""


def run_subject(name: str, cache: Cache, options: argparse.Namespace) -> tuple[dict[str, Any], list[Measured]]:
    """Make and measure all variants of one model; return its results and what was measured."""
    subject = find_subject(name)
    texts = find_texts(subject, cache)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        precisions: Sequence[str] = ()
        if options.quick:
            precisions = QUICK_PRECISIONS
        elif name != SUBJECTS_IN_FULL and not options.everything:
            precisions = FASTEST_PRECISIONS
        variants: list[Variant]
        variants, scoring = make_ours(subject, folder, options.formats, precisions)
        if not options.no_peers:
            wanted = QUICK_PEERS if options.quick else ()
            variants += make_peers(subject, texts, cache, options.formats, wanted, with_slow=options.slow_peers)
        print(f"measuring {len(variants)} variants of {subject.name} ...", flush=True)
        cases = write_cases(texts, folder)
        measured = measure(
            variants,
            texts,
            cases,
            cache,
            LOGS / f"{subject.name}-engines.log",
            # The classifier is there for its accuracy.
            rounds=0 if options.prepare else options.rounds if name != "classifier" else max(2, options.rounds // 2),
            calls=options.calls,
        )
        if options.prepare:
            return {}, []
        profiles = _profiles(measured, cases["full"]) if name == "minilm64" else {}
    rows = rows_of(measured)
    document = {"title": subject.title, "length": subject.length, "sensitivity_seconds": scoring, "variants": rows}
    return {**document, "profiles": profiles}, measured


def _profiles(measured: Sequence[Measured], inputs: Path) -> dict[str, Any]:
    """Profile fp32 and dynamic int8 of each format, ours and the plain exports."""
    environment = child_environment()
    return {
        m.variant.id: profile(m.variant, inputs, environment)
        for m in measured
        if m.failure is None
        and (m.variant.title in PROFILED if m.variant.is_ours else m.variant.id in {*QUICK_PEERS, "onnx-ort-dynamic"})
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Do the measurements and return them."""
    cache = Cache(OWN)
    subjects: dict[str, Any] = {}
    engines: dict[str, str] = {}
    profiles: dict[str, Any] = {}
    for name in options.only or SUBJECTS:
        found, measured = run_subject(name, cache, options)
        if found:
            profiles |= found.pop("profiles")
            subjects[name] = found
        engines |= {m.variant.format: m.version for m in measured if m.version is not None}
    return {
        "machine": str(this_machine()),
        "engines": engines,
        "tools": tool_versions(sorted({tool for peer in PEERS for tool in peer.tools})),
        "rounds": options.rounds,
        "calls": options.calls,
        "subjects": subjects,
        "profiles": profiles,
    }


def pages(results: Mapping[str, Any]) -> dict[Path, str]:
    """Return what each page shows of the results."""
    return {README: summary(results), MEASUREMENTS: tables(results)}


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="even, so that both orders count alike")
    parser.add_argument("--calls", type=int, default=20, help="calls of each variant in a round, of each case")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, help="some of the models")
    parser.add_argument("--formats", nargs="+", choices=FORMAT_NAMES, default=FORMAT_NAMES, help="some of the formats")
    parser.add_argument("--quick", action="store_true", help="three precisions alone, and few peers")
    parser.add_argument("--everything", action="store_true", help="all our precisions of every model")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--slow-peers", action="store_true", help="make those that take long, if they are not cached")
    parser.add_argument("--prepare", action="store_true", help="only make what is measured, and judge it")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    results = run(options)
    if options.prepare:
        return
    text = tables(results)
    print(text)
    is_part = options.only or options.quick or options.no_peers or len(options.formats) < len(FORMAT_NAMES)
    if is_part:
        (OWN / "part.json").write_text(json.dumps(results, indent=1) + "\n")
        (OWN / "part.md").write_text(text + "\n")
    else:
        write_results("quantization", results, pages(results))


if __name__ == "__main__":
    main()
