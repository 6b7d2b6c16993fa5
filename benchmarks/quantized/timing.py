"""Measuring all variants of a model in one run, each in a process of its own, in turn and in both orders."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fastserve.cache.cache import Cache
from fastserve_runtime.bundle.canonical_json import digest
from fastserve_runtime.conformance.comparison import Comparison
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.plugins import PIPELINES
from quantized import child
from quantized.processes import child_environment
from quantized.subjects import SEED, Texts
from quantized.variant import ENGINE_OF, Variant

SHORT = 15
"""Tokens of the short sentence that the cost of length is told by."""

CASES = ("full", "short", "sentences")


@dataclass
class Measured:
    """What was found of a variant.

    Attributes:
        failure: why nothing more was found.
        quality: against the reference.
        wall: case → seconds of every call by the clock.
        cpu: case → seconds of every call of the process's CPU.
    """

    variant: Variant
    failure: str | None = None
    version: str | None = None
    load_seconds: float | None = None
    quality: Quality | None = None
    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)


class ChildFailedError(Exception):
    """A variant's process failed; the message says how."""


class Child:
    """A variant's process."""

    def __init__(self, variant: Variant, inputs: Mapping[str, Path], log: Path) -> None:
        with log.open("a") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "quantized.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=child_environment(),
                text=True,
            )
        request = {
            "format": variant.format,
            "engine": ENGINE_OF[variant.format],
            "file": str(variant.file),
            "graphs": variant.graphs,
            "inputs": {name: str(file) for name, file in inputs.items()},
        }
        try:
            self.opened = self.ask("open", **request)
        except ChildFailedError:
            self.close()
            raise

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ChildFailedError(f"its process ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "failure" in answer:
            raise ChildFailedError(answer["failure"])
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_cases(texts: Texts, out: Path) -> dict[str, Path]:
    """Write what is timed: a sentence that fills the length, one of 15 tokens, and the evaluation's own."""
    with np.load(texts.folder / "inputs.npz") as arrays:
        inputs = {name: arrays[name][: texts.evaluation] for name in arrays.files}
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    length = ids.shape[1]
    lengths = mask.sum(1).astype(int)
    first, last, padding = ids[0, 0], ids[0, lengths[0] - 1], ids[int(lengths.argmin()), -1]
    inner = np.concatenate([row[1 : n - 1] for row, n in zip(ids, lengths, strict=True)])
    for name, tokens in (("full", length), ("short", SHORT)):
        row = np.full((1, length), padding, ids.dtype)
        row[0, :tokens] = [first, *inner[: tokens - 2], last]
        used = (np.arange(length) < tokens).astype(mask.dtype)[None]
        np.savez(out / f"{name}.npz", input_ids=row, attention_mask=used)
    np.savez(out / "sentences.npz", **inputs)
    return {name: out / f"{name}.npz" for name in CASES}


def measure(
    variants: Sequence[Variant],
    texts: Texts,
    cases: Mapping[str, Path],
    cache: Cache,
    log: Path,
    *,
    rounds: int,
    calls: int,
) -> list[Measured]:
    """Judge and time variants.

    Every round goes through all of them, every other round backwards; each one's calls of a round are one after the
    other, so that it works with a cache of its own, and fewer where they take long.

    Args:
        variants: those without a file are passed on with their reason.
        texts: inputs and reference.
        cases: name → inputs, from `write_cases`.
        cache: where outputs are kept, by what gave them.
        log: gets what engines print.
        rounds: how many.
        calls: in a round, of each case.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    results = [Measured(variant, failure=variant.failure) for variant in variants]
    children: dict[int, Child] = {}
    try:
        for number, result in enumerate(results):
            if result.failure is not None:
                continue
            try:
                children[number] = Child(result.variant, cases, log)
                result.version = children[number].opened["version"]
                result.load_seconds = children[number].opened["load_seconds"]
                result.quality = _quality(children[number], result, texts, cases, cache)
            except ChildFailedError as error:
                result.failure = str(error)
            value = f"{result.quality.value:.4f}" if result.quality else result.failure
            print(f"  {result.variant.id}: {value}", flush=True)
        with np.load(cases["sentences"]) as arrays:
            count = len(arrays["input_ids"])
        # The same sentences for all variants, spread over the evaluation, others in every round.
        order = np.random.default_rng(SEED).permutation(count)
        for turn in range(rounds):
            print(f"  round {turn + 1} of {rounds} ...", flush=True)
            chosen = [int(order[i % count]) for i in range(turn * calls, (turn + 1) * calls)]
            for number in range(len(results)) if turn % 2 == 0 else reversed(range(len(results))):
                if results[number].failure is None:
                    _time(children[number], results[number], chosen, calls)
    finally:
        for process in children.values():
            process.close()
    return results


def _time(process: Child, result: Measured, sentences: list[int], calls: int) -> None:
    for case in CASES:
        rows = sentences if case == "sentences" else [0]
        try:
            answer = process.ask("time", inputs=case, rows=rows, calls=calls)
        except ChildFailedError as error:
            result.failure = str(error)
            return
        result.wall.setdefault(case, []).extend(answer["wall"])
        result.cpu.setdefault(case, []).extend(answer["cpu"])


def _quality(process: Child, result: Measured, texts: Texts, cases: Mapping[str, Path], cache: Cache) -> Quality:
    """Compare outputs at true lengths with the reference's; outputs of the same file are not computed twice."""
    from inspect import getsource

    from fastserve_converters.checkpoints.checkpoint import file_sha256
    from fastserve_runtime.measurement.machine import this_machine

    key = {
        "file": result.variant.digest(),
        "engine": result.version,
        "inputs": file_sha256(cases["sentences"]),
        "machine": this_machine().fingerprint,
        "code": digest({"code": getsource(child.Model.evaluate) + getsource(child.Model.prepared)}),
    }

    def build(folder: Path) -> None:
        process.ask("evaluate", inputs="sentences", out=str(folder / "outputs.npz"))

    entry = cache.find("outputs", key) or cache.make("outputs", key, build)
    with np.load(entry.folder / "outputs.npz") as arrays:
        actual = {texts.output: arrays["output"]}
    with np.load(texts.folder / "reference.npz") as arrays:
        expected = {texts.output: arrays[texts.output][: texts.evaluation]}
    with np.load(cases["sentences"]) as arrays:
        inputs = {name: arrays[name] for name in arrays.files}
    labels = None if texts.labels is None else np.array(texts.labels, np.int64)
    found: Quality = PIPELINES.load(texts.task).quality(Comparison(expected, actual, inputs, labels, SEED))
    return found
