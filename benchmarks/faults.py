"""Puts faults into bundles, engines and preprocessing, and tells which the conformance suite finds.

For every kind of fault (see `injecting`) and every variant of a model: the smallest strength that the suite catches,
and by which check; the smallest strength that changes the task's metric by 1 % on texts that no bundle has; and for
faults inside the network, whether the search for the wrong layer names the module. Then honest runs, of which no check
may complain: random models with seeds of their own, after the policies were set with others (`benchmarks/policies.py`).

The models are exported once, into build/benchmarks/faults; what was found is kept there too, and `--resume` goes on
from it. A whole run writes `benchmarks/results/faults.json`, what came of it in README.md, and the tables in
docs/conformance.md; a part of it (`--quick`, `--variants`, `--kinds`, fewer models) prints its table, and
writes with `--write`.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastserve.bisecting import Bisector
from fastserve_device_tests.targets import load_target
from fastserve_runtime.engines import installed_engine
from fastserve_runtime.measurement.machine import this_machine
from injecting.bundles import single_variants
from injecting.fault import Case, NotHere
from injecting.honest import FIRST_SEED, TARGETS, honest_runs
from injecting.judging import HeldOut, failed_checks, task_metric
from injecting.kinds import FAULTS, find_fault
from injecting.locating import locate
from injecting.network_faults import open_network
from injecting.search import CHANGED, search
from injecting.subjects import Subject, export, kept_held_out
from injecting.tables import bound, honest_sentence, missed, overview, rows_of, table
from quantized.folders import EXPORTS
from quantized.processes import run_module
from report import README, ROOT, minilm, write_results

OWN = EXPORTS / "faults"
PAGE = ROOT / "docs" / "conformance.md"
VARIANTS = ("onnx-fp32", "onnx-int8-dynamic", "tflite-fp32", "tflite-int8-dynamic", "executorch-fp32")
QUICK_VARIANTS = ("onnx-fp32", "tflite-fp32")
QUICK_KINDS = ("transposed weight", "dropped bias", "off-by-one position", "stale buffer of the last call", "mask sign")
HONEST_RUNS = 300


@dataclass(frozen=True)
class Model:
    """A model that faults are put into.

    Attributes:
        title: for the table.
        length: most tokens of a text.
        variants: those that faults are put into.
    """

    title: str
    length: int
    variants: tuple[str, ...] = VARIANTS


MODELS = {
    "minilm": Model("all-MiniLM-L6-v2", 32, ("onnx-int8-dynamic", "tflite-int8-dynamic")),
    "reviews": Model("A classifier of film reviews (4 layers of width 64)", 48),
}


def prepared(name: str) -> Subject:
    """Return a model, which is trained and exported unless that was done before."""
    folder = OWN / name
    folder.mkdir(parents=True, exist_ok=True)
    bundle, length = folder / "honest.fsb", MODELS[name].length
    if name == "minilm":
        export(minilm(), bundle, length, VARIANTS, EXPORTS)
        return Subject(MODELS[name].title, bundle, minilm(), kept_held_out(folder / "held_out.npz", bundle, minilm()))
    if not (folder / "held_out.csv").is_file():
        failure = run_module("reviews", "injecting.reviews", str(folder))
        if failure is not None:
            raise SystemExit(f"The classifier cannot be trained: {failure}")
    checkpoint = folder / "model"
    export(checkpoint, bundle, length, VARIANTS, EXPORTS, folder / "data.csv")
    with (folder / "held_out.csv").open(encoding="utf-8", newline="") as stream:
        rows = [(row["sentence"], row["sentiment"]) for row in csv.DictReader(stream)]
    held_out = kept_held_out(folder / "held_out.npz", bundle, checkpoint, rows)
    return Subject(MODELS[name].title, bundle, checkpoint, held_out)


def cases(subject: Subject, variants: Sequence[str], folder: Path) -> Iterator[tuple[str, Case]]:
    """Yield variants and the cases that have one each."""
    singles = single_variants(subject.bundle, folder / "singles")
    for variant in (v for v in variants if v in singles):
        format_name, _, precision = variant.partition("-")
        target = load_target(TARGETS[format_name])
        yield variant, Case(singles[variant], variant, precision, target, subject.checkpoint, folder / "copies")


def observe(
    case: Case, kinds: Sequence[str], held_out: HeldOut, found: dict[str, Any], keep: Callable[[], None]
) -> None:
    """Search every kind of fault in a case, and keep what is found after each.

    Raises:
        SystemExit: a check complains of the case without a fault.
    """
    alarms = failed_checks(case, "texts") + failed_checks(case, "calls")
    if alarms:
        raise SystemExit(f"{case.variant} is not right without a fault: {', '.join(alarms)}.")
    honest = task_metric(case, held_out)
    found["honest"] = honest
    found.setdefault("faults", {})
    for name in (k for k in kinds if k not in found["faults"]):
        fault = find_fault(name)
        try:
            seen = search(fault, case, held_out, honest)
        except NotHere as reason:
            document: dict[str, Any] = {"absent": str(reason)}
        else:
            document = {
                **asdict(seen),
                "room": fault.room,
                "unit": fault.unit,
                "is_missed": seen.is_missed,
                "is_missed_in_file": seen.is_missed_in_file if fault.room == "network" else None,
            }
            print(f"  {name}: caught at {seen.caught} by {', '.join(seen.by)}; harmful at {seen.harmful}", flush=True)
        found["faults"][name] = document
        keep()


def locate_all(case: Case, kinds: Sequence[str], found: dict[str, Any], keep: Callable[[], None]) -> None:
    """Search the wrong layer for the faults in the network, and keep what is found after each.

    They have the least strength that changes the metric or, if none does, the least that is caught.
    """
    layers = open_network(case)[0].layers
    with Bisector(str(case.checkpoint)) as bisector:
        for name, document in found["faults"].items():
            fault = find_fault(name)
            if fault.room != "network" or "absent" in document or "located" in document or name not in kinds:
                continue
            strength = document["harmful"] or document["caught"]
            if strength is not None:
                document["located"] = locate(bisector, fault, case, strength, layers)
                print(f"  {name}: {document['located']['place']} ({document['located']['module']})", flush=True)
                keep()


def run_model(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Put all faults into one model and return what was found."""
    subject = prepared(name)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=OWN) as scratch:
        variants = [v for v in options.variants if v in MODELS[name].variants]
        for variant, case in cases(subject, variants, Path(scratch)):
            print(f"{name} {variant}", flush=True)
            found[variant] = run_case(case, subject.held_out, OWN / name / f"{variant}.json", options)
    return {
        "model": subject.title,
        "length": MODELS[name].length,
        "held_out": len(subject.held_out.texts),
        "task": subject.held_out.task,
        "variants": found,
    }


def run_case(case: Case, held_out: HeldOut, kept: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Put all faults into one case; return what was found, which is also kept in a file after each."""
    found: dict[str, Any] = json.loads(kept.read_text()) if options.resume and kept.is_file() else {}

    def keep() -> None:
        kept.write_text(json.dumps(found, indent=1))

    observe(case, options.kinds, held_out, found, keep)
    if not options.no_locate:
        locate_all(case, options.kinds, found, keep)
    return found


def run_honest(count: int, *, resume: bool) -> dict[str, Any]:
    """Do honest runs and return what they gave."""
    kept = OWN / "honest.json"
    runs: list[dict[str, Any]] = json.loads(kept.read_text()) if resume and kept.is_file() else []
    with tempfile.TemporaryDirectory(dir=OWN) as scratch:
        for run in honest_runs(max(0, count - len(runs)), Path(scratch), FIRST_SEED + len(runs)):
            runs.append(run)
            kept.write_text(json.dumps(runs, indent=1))
            for alarm in run["alarms"]:
                print(f"false alarm, seed {run['seed']}: {alarm}", flush=True)
    alarms = sum(bool(run["alarms"]) for run in runs)
    return {
        "runs": len(runs),
        "alarms": alarms,
        "bound": bound(alarms, len(runs)),
        "first_seed": FIRST_SEED,
        "all": runs,
    }


def documents(options: argparse.Namespace) -> dict[str, Any]:
    """Do what is asked for and return the results."""
    common = {
        "machine": str(this_machine()),
        "command": shlex.join(["python", "benchmarks/faults.py", *sys.argv[1:]]),
        "engines": {name: f"{e.NAME} {e.version()}" for name in TARGETS for e in [installed_engine(name)]},
        "changed": CHANGED,
    }
    models = {name: run_model(name, options) for name in options.models}
    honest = run_honest(options.honest, resume=options.resume) if options.honest else {}
    return {**common, "models": models, "honest": honest}


def pages(results: Mapping[str, Any]) -> dict[Path, str]:
    """Return what each page shows of the results."""
    return {README: overview(results), PAGE: told(results, results["models"], table)}


def told(results: Mapping[str, Any], names: Iterable[str], tell: Callable[[Any], str]) -> str:
    """Return what `tell` makes of each of some models, and what honest runs gave."""
    common = {key: value for key, value in results.items() if key != "models"}
    found = [tell({**common, **results["models"][name]}) for name in names]
    return "\n\n".join(filter(None, (*found, honest_sentence(results))))


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS), help="some of the models")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help="some of the variants")
    parser.add_argument("--kinds", nargs="+", default=[f.name for f in FAULTS], help="some kinds of faults, by name")
    parser.add_argument("--honest", type=int, default=HONEST_RUNS, help="how many honest runs; 0 for none")
    parser.add_argument("--no-locate", action="store_true", help="do not search for the wrong layers")
    parser.add_argument("--resume", action="store_true", help="keep what was found before")
    parser.add_argument("--write", action="store_true", help="write the results of a part too")
    parser.add_argument("--quick", action="store_true", help="five kinds in two variants of the small model")
    options = parser.parse_args()
    if options.quick:
        options.models, options.variants, options.kinds, options.honest = ["reviews"], QUICK_VARIANTS, QUICK_KINDS, 3
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    np.seterr(all="ignore")  # faults divide by zero
    OWN.mkdir(parents=True, exist_ok=True)
    results = documents(options)
    print(told(results, options.models, table))
    for name, model in results["models"].items():
        for key, words in (("is_missed", "missed"), ("is_missed_in_file", "missed if in the file from the beginning")):
            print(f"{name}, {words}:\n{rows_of(missed(model, key)) or '  none'}")
    is_part = options.quick or set(options.models) != set(MODELS) or set(options.variants) != set(VARIANTS)
    is_part |= len(options.kinds) < len(FAULTS) or options.honest < HONEST_RUNS or options.no_locate
    if is_part and not options.write:
        return
    write_results("faults", results, pages(results))


if __name__ == "__main__":
    main()
