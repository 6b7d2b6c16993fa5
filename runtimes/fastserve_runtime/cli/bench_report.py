"""What `fastserve-runtime bench` shows people."""

from __future__ import annotations

from collections.abc import Iterator

from fastserve_runtime.bundle.generation_description import cache_bytes
from fastserve_runtime.bundle.reader import Bundle
from fastserve_runtime.cli.text_table import text_table
from fastserve_runtime.measurement.benchmark import Benchmark
from fastserve_runtime.measurement.latency import Latency
from fastserve_runtime.measurement.measurement import FirstToken, Memory
from fastserve_runtime.measurement.sustained import SustainedRun, Window
from fastserve_runtime.measurement.throttling import Judgement, Pace, judge
from fastserve_runtime.quantities import format_size, format_time
from fastserve_runtime.sessions.session import Placement

_UNKNOWN = "unknown"
_HEADINGS = ("from", "items/s", "p50", "p90", "temperature", "frequency", "throttled")


def measurement_lines(bundle: Bundle, benchmark: Benchmark) -> Iterator[str]:
    """Yield what was measured, a figure a line."""
    measurement = benchmark.model.measurement
    threads = measurement.threads
    chosen = ", chosen" if benchmark.variant.id == bundle.manifest.chosen else ""
    yield f"{bundle.location}  {benchmark.variant.id}{chosen}"
    yield f"id          {bundle.manifest.digest}"
    yield f"machine     {measurement.machine}"
    yield (
        f"engine      {measurement.engine} {measurement.engine_version}, {threads} thread{'s' if threads > 1 else ''}"
    )
    latency = measurement.latency
    if measurement.first_token is not None:
        yield from _generation_lines(bundle, benchmark, measurement.first_token)
    else:
        yield f"input       {benchmark.samples} golden texts in turn, one at a time"
        yield f"latency     {_latency(latency)}"
        yield f"speed       {measurement.items_per_second:.1f} items/s"
    yield (
        f"start       import {format_time(measurement.import_seconds)}, "
        f"load {format_time(measurement.load_seconds)}, "
        f"first call {format_time(measurement.first_inference_seconds)}"
    )
    yield f"memory      {_memory(measurement.memory)}"
    yield f"placement   {_placement(measurement.placement)}"
    warnings = "; ".join(latency.warnings)
    yield "trust       " + ("the run was steady" if latency.is_trustworthy else f"not trustworthy: {warnings}")


def _generation_lines(bundle: Bundle, benchmark: Benchmark, first: FirstToken) -> Iterator[str]:
    """Yield what is measured of a model that generates text, as MLPerf Inference names it."""
    measurement, tokens = benchmark.model.measurement, first.prompt_tokens
    yield f"input       prompts of {tokens} tokens, one at a time, from the golden texts"
    yield f"first token {_latency(first.latency)}"
    yield f"each token  {_latency(measurement.latency)}"
    prefill = tokens / max(first.latency.mean, 1e-12)
    yield f"speed       prefill {prefill:.1f} tokens/s, decode {measurement.items_per_second:.1f} tokens/s"
    context = int(bundle.manifest.preprocessing.settings["context"])
    cache = format_size(cache_bytes(benchmark.variant, context))
    yield f"cache       {cache} of keys and values for the context of {context} tokens"


def _latency(latency: Latency) -> str:
    estimates = f"p50 {_time(latency.p50)}, p90 {_time(latency.p90)}, p99 {_time(latency.p99)}"
    return f"{estimates} ({latency.queries} calls, mean {format_time(latency.mean)})"


def sustained_lines(run: SustainedRun) -> Iterator[str]:
    """Yield a sustained run: its windows and its verdict."""
    if run.windows:
        yield text_table(_HEADINGS, [_row(run, i) for i in range(len(run.windows))], right=_HEADINGS)
        yield ""
    judgement = judge(run)
    yield f"sustained   {_verdict(judgement)}"
    for sentence in judgement.evidence:
        yield f"            {sentence}"
    unseen = _not_shown(run)
    if unseen:
        yield f"            {'; '.join(unseen)}"


def progress_line(window: Window, seconds: float) -> str:
    """Say how far a sustained run of so many seconds is."""
    done = window.start + window.seconds
    temperature = window.thermal.temperature_celsius
    warm = "" if temperature is None else f", {temperature:.0f} °C"
    return f"{done:.0f} of {seconds:.0f} s: {window.items_per_second:.1f} items/s{warm}"


def _row(run: SustainedRun, index: int) -> tuple[str, ...]:
    window = run.windows[index]
    thermal = window.thermal
    before = run.windows[index - 1].thermal if index else run.before
    return (
        f"{window.start:.0f} s",
        f"{window.items_per_second:.1f}",
        _time(window.p50),
        _time(window.p90),
        "-" if thermal.temperature_celsius is None else f"{thermal.temperature_celsius:.0f} °C",
        "-" if thermal.frequency_megahertz is None else f"{thermal.frequency_megahertz:.0f} MHz",
        _throttled(window, before.throttle_count),
    )


def _throttled(window: Window, before: int | None) -> str:
    """Return what held the processor back in a window: firmware states, or how often the kernel saw it throttle."""
    count, states = window.thermal.throttle_count, window.thermal.firmware_now
    if states is not None:
        return ", ".join(states) or "no"
    if count is None or before is None:
        return "-"
    return f"{count - before} times" if count > before else "no"


def _verdict(judgement: Judgement) -> str:
    loss = judgement.loss
    if loss is None:
        return judgement.pace.value
    speeds = (
        f"{judgement.first_items_per_second:.1f} items/s at the start, {judgement.last_items_per_second:.1f} at the end"
    )
    if judgement.pace is Pace.STEADY:
        return f"steady: {speeds}"
    return f"{judgement.pace.value}, {abs(loss):.0%} {'slower' if loss >= 0 else 'faster'} at the end: {speeds}"


def _not_shown(run: SustainedRun) -> list[str]:
    """Name what the system does not show, with the reason. One source of throttling is enough."""
    reasons = run.before.not_shown
    parts = {"temperature": "temperature_celsius", "frequency": "frequency_megahertz"}
    missing = {name: reasons[field] for name, field in parts.items() if field in reasons}
    if {"throttle_count", "firmware_now"} <= set(reasons):
        missing["throttling"] = reasons["throttle_count"]
    return [f"{name}: {reason}" for name, reason in missing.items()]


def _memory(memory: Memory) -> str:
    peak, anonymous, mapped = memory.peak, memory.anonymous_growth, memory.file_backed_growth
    text = f"peak of the whole process {_UNKNOWN if peak is None else format_size(peak)}"
    if anonymous is None or mapped is None:
        return text
    return f"{text}; grew by {_growth(anonymous)} of its own and {_growth(mapped)} of mapped files"


def _growth(size: int) -> str:
    return format_size(size) if size >= 0 else f"-{format_size(-size)}"


def _placement(placement: Placement) -> str:
    if placement.operators is None:
        return placement.source
    return f"{', '.join(f'{name} {count}' for name, count in placement.operators.items())} ({placement.source})"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else format_time(seconds)
