"""Measurements and candidates, as an export finds them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastserve.search.candidate import Candidate
from fastserve_converters.recipe import Recipe
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.measurement.latency import Latency
from fastserve_runtime.measurement.machine import Machine
from fastserve_runtime.measurement.measurement import FirstToken, Measurement, Memory, SampleLatency
from fastserve_runtime.sessions.session import Placement


def build_measurement(
    *,
    p90: float | None = 0.01,
    p50: float | None = None,
    maximum: float = 0.02,
    peak: int | None = 50_000_000,
    brings_pytorch: bool = False,
    processor: str = "Test CPU",
    **times: Any,
) -> Measurement:
    """Make a measurement; `ttft` and `longest_ttft` make it one of a model that generates text."""
    first = FirstToken(128, _latency(times["ttft"], times.get("longest_ttft", 2.0))) if times else None
    return Measurement(
        machine=Machine(processor, 2, "x86_64", ("avx2",), 2**33, "Linux"),
        engine="onnxruntime",
        engine_version="1.0",
        threads=1,
        brings_pytorch=brings_pytorch,
        import_seconds=0.1,
        load_seconds=0.2,
        first_inference_seconds=0.3,
        memory=Memory(peak, None, None),
        latency=replace(_latency(p90, maximum), p50=p50),
        items_per_second=100.0,
        placement=Placement(None, "a test"),
        first_token=first,
        sample_latency=SampleLatency(0.00425, 0.006, 200),
    )


def _latency(p90: float | None, maximum: float) -> Latency:
    warnings = () if p90 is not None else ("the process was interrupted",)
    return Latency(100, maximum / 2, maximum / 4, maximum, None, p90, None, warnings)


def build_candidate(
    identifier: str = "onnx-fp32",
    *,
    quality: float | None = 1.0,
    spread: float = 0.01,
    size: int | None = 10_000_000,
    failure: str | None = None,
    **measurement: Any,
) -> Candidate:
    format_name, _, precision = identifier.partition("-")
    return Candidate(
        Recipe(format_name, precision),
        format_name,
        measurement=None if failure else build_measurement(**measurement),
        quality=None if quality is None or failure else Quality("agreement", quality, quality - spread, quality, 200),
        size=size,
        failure=failure,
    )
