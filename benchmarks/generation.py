"""Measures generating text with SmolLM2-135M beside llama.cpp and ONNX Runtime GenAI.

Run by `make bench`. In one run on one machine, with 1 and with 2 threads, all contenders alternating: prefill of 128
and of 512 tokens, decoding of 64 tokens behind a prompt of 128; and apart from that, perplexity on the same text, peak
memory, bytes of the model's files. ONNX Runtime GenAI also runs the very file that our loop runs.

Perplexities are given as the reference's divided by each one's, on the same tokens, all but the first 32 of each
stretch of text. The reference is the shipped file (Q4_1) dequantized, so that type loses nothing of its weights.

Writes `benchmarks/results/generation.json`, and what README.md and docs/measurements.md show of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import fastserve
from fastserve.cli.report import print_export
from fastserve.progress import terminal_reporter
from fastserve_runtime.measurement.machine import this_machine
from generating.files import FOLDER, LOGS, checkpoint, folder_bytes, genai_folder, gguf_of_type, smollm2
from generating.processes import Process
from generating.tables import short_table, table
from quantized.folders import EXPORTS
from report import MEASUREMENTS, README, write_results

CONTEXT = 1024
PREFILLS = (128, 512)
PROMPT, COUNT = 128, 64
THREADS = (1, 2)
FORMATS = ("onnx", "tflite", "executorch")
PRECISIONS = ("int8", "int4", "int4-embedding-int8", "source")
BUNDLE = FOLDER / "smollm2.fsb"


@dataclass(frozen=True)
class Entry:
    """One contender.

    Attributes:
        name: as the table shows it.
        kind: see `generating.contender`.
        model: what it opens.
        bytes: of the model's files.
    """

    name: str
    kind: str
    model: str
    bytes: int


@dataclass
class Observed:
    """What was seen of a contender: seconds by the clock and of the processor, by threads and what was done."""

    seconds: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    scores: list[float | None] = field(default_factory=list)
    memory: dict[str, int | None] = field(default_factory=dict)


def export(data: Path | None, formats: Sequence[str]) -> list[Entry]:
    """Export the model in all formats; return its variants. Writes the traces that judge them, too."""
    with terminal_reporter(Console(stderr=True)) as reporter:
        result = fastserve.export(
            smollm2(),
            BUNDLE,
            formats=formats,
            precisions=PRECISIONS,
            context=CONTEXT,
            keep="all",
            data=[] if data is None else [data],
            cache_dir=EXPORTS,
            force=True,
            reporter=reporter,
        )
    print_export(result, Console())
    write_traces(result)
    entries = []
    for candidate in result.candidates:
        if candidate.failure is not None or candidate.folder is None or candidate.artifact is None:
            print(f"{candidate.id}: {candidate.failure}", file=sys.stderr)
            continue
        size = sum((candidate.folder / f).stat().st_size for f in candidate.artifact["files"])
        entries.append(Entry(f"FastServe {candidate.id}", "ours", f"{BUNDLE}#{candidate.id}", size))
    return entries


def write_traces(result: fastserve.ExportResult) -> None:
    """Write the evaluation traces of an export as JSON: lists of tokens and how many are fed at once."""
    from fastserve.pipeline.work.judging import read_arrays
    from fastserve_runtime.generation import traces

    inputs = read_arrays(result.reference / "inputs.npz")
    expected = read_arrays(result.reference / "reference.npz")
    count = json.loads((result.reference / "reference.json").read_text())["evaluation"]
    rows = [(t.tokens.tolist(), t.prompt) for t in list(traces.traces(inputs))[:count]]
    (FOLDER / "traces.json").write_text(json.dumps(rows))
    scored = np.asarray(inputs[traces.SCORED][:count], bool)
    log_probabilities = expected[traces.NEXT_TOKEN][:count][scored][:, 0].tolist()
    (FOLDER / "reference.json").write_text(json.dumps({"log_probabilities": log_probabilities}))


def peers() -> list[Entry]:
    """Make the peers' files and return them."""
    shipped = smollm2()
    found = [Entry("llama.cpp Q4_1 (shipped)", "llama.cpp", str(shipped), shipped.stat().st_size)]
    for name in ("Q4_0", "Q8_0"):
        file = gguf_of_type(name)
        found.append(Entry(f"llama.cpp {name}", "llama.cpp", str(file), file.stat().st_size))
    built = genai_folder()
    found.append(Entry("ONNX Runtime GenAI, its int4", "genai", str(built), folder_bytes(built)))
    config = BUNDLE / "genai_config.json"
    if config.is_file():
        model = BUNDLE / json.loads(config.read_text())["model"]["decoder"]["filename"]
        found.append(Entry(f"ONNX Runtime GenAI, our {model.parent.name}", "genai", str(BUNDLE), model.stat().st_size))
    return found


def measure(entries: list[Entry], rounds: int, threads: int, observed: dict[str, Observed]) -> None:
    """Time all contenders in turn, the order reversed in every other round."""
    tokens = [t for row, _ in json.loads((FOLDER / "traces.json").read_text()) for t in row]
    with ExitStack() as stack:
        processes = {
            e.name: stack.enter_context(Process(e.kind, e.model, threads, CONTEXT, LOGS / f"{i}-{threads}.log"))
            for i, e in enumerate(entries)
        }
        for number in range(rounds + 1):  # the first one warms up
            for entry in entries if number % 2 else entries[::-1]:
                process, seen = processes[entry.name], observed[entry.name].seconds
                for count in PREFILLS:
                    seconds = process.ask("prefill", tokens[:count])
                    if number:
                        seen.setdefault(f"prefill {count}, {threads}", []).append(seconds)
                seconds = process.ask("decode", tokens[:PROMPT], COUNT)
                if number:
                    seen.setdefault(f"decode, {threads}", []).append(seconds)
            print(f"{threads} threads, round {number} of {rounds}", flush=True)


def judge(entries: list[Entry], observed: dict[str, Observed]) -> None:
    """Take each contender's scores, which are kept for later runs, and its memory in a fresh process."""
    tokens = [t for row, _ in json.loads((FOLDER / "traces.json").read_text()) for t in row]
    kept = FOLDER / "scores.json"
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    for number, entry in enumerate(entries):
        key = f"{entry.name}, {entry.bytes} bytes, {digest_of_traces()}"
        if key not in known:
            memory = {}
            for threads in THREADS:
                with Process(entry.kind, entry.model, threads, CONTEXT, LOGS / f"{number}-memory.log") as process:
                    process.ask("prefill", tokens[: PREFILLS[0]])
                    process.ask("decode", tokens[:PROMPT], COUNT)
                    memory[str(threads)] = process.ask("memory")
                    if threads == THREADS[0]:
                        scores = process.ask("score", str(FOLDER / "traces.json"))
            known[key] = {"memory": memory, "scores": scores}
            kept.write_text(json.dumps(known))
        observed[entry.name].memory = known[key]["memory"]
        observed[entry.name].scores = known[key]["scores"]
        print(f"judged {entry.name}", flush=True)


def digest_of_traces() -> str:
    """Return what tells one text from another."""
    return hashlib.sha256((FOLDER / "traces.json").read_bytes()).hexdigest()[:12]


def perplexities(observed: dict[str, Observed]) -> tuple[float, dict[str, float], int]:
    """Return the reference's and each contender's perplexity on the tokens that all of them tell, and how many."""
    reference = np.array(json.loads((FOLDER / "reference.json").read_text())["log_probabilities"])
    scores = {name: np.array(seen.scores, float) for name, seen in observed.items()}
    told = np.all([np.isfinite(s) for s in scores.values()], axis=0)
    found = {name: float(np.exp(-s[told].mean())) for name, s in scores.items()}
    return float(np.exp(-reference[told].mean())), found, int(told.sum())


def summary(entries: list[Entry], observed: dict[str, Observed]) -> list[dict[str, Any]]:
    """Return a row for each contender: medians and p90 of speeds, in tokens a second."""
    rows = []
    reference, found, _ = perplexities(observed)
    for entry in entries:
        seen = observed[entry.name]
        speeds = {}
        for what, pairs in seen.seconds.items():
            count = COUNT if what.startswith("decode") else int(what.split()[1].rstrip(","))
            for clock, seconds in zip(("wall", "cpu"), zip(*pairs, strict=True), strict=True):
                speeds[f"{what} threads, {clock}"] = {
                    "p50": count / statistics.median(seconds),
                    "p90": count / float(np.percentile(seconds, 90)),
                }
        rows.append(
            {
                **asdict(entry),
                "model": Path(entry.model).name,
                "tokens_per_second": speeds,
                "perplexity": found[entry.name],
                "perplexity_ratio": reference / found[entry.name],
                "peak_memory": seen.memory,
            }
        )
    return rows


def pages(results: Mapping[str, Any]) -> dict[Path, str]:
    """Return what each page shows of the results."""
    heading = (
        f"SmolLM2-135M, context {CONTEXT}, 1 thread, {results['machine']}; {results['rounds']} rounds, alternating."
    )
    rows = results["contenders"]
    return {README: short_table(rows, heading), MEASUREMENTS: table(rows, heading)}


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="even, so that both orders count alike")
    parser.add_argument("--data", type=Path, help="text that perplexity is taken on; FastServe's own if left out")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS, help="some of the formats")
    parser.add_argument("--prepare", action="store_true", help="only make what is measured")
    parser.add_argument("--judge", action="store_true", help="only that, and take perplexities and memory")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    LOGS.mkdir(parents=True, exist_ok=True)
    ours = export(options.data, options.formats)
    checkpoint()
    entries = [*ours, *peers()]
    if options.prepare:
        return
    observed = {entry.name: Observed() for entry in entries}
    judge(entries, observed)
    if options.judge:
        return
    for threads in THREADS:
        measure(entries, options.rounds, threads, observed)
    reference, _, count = perplexities(observed)
    rows = summary(entries, observed)
    results = {
        "machine": str(this_machine()),
        "rounds": options.rounds,
        "reference": {"perplexity": reference, "tokens": count},
        "contenders": rows,
    }
    told = pages(results)
    print(told[MEASUREMENTS])
    write_results("generation", results, told)


if __name__ == "__main__":
    main()
