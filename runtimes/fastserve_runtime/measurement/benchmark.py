"""Measuring a bundle's variant on its own golden inputs, and keeping it running to see whether the device slows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastserve_runtime.bundle.generation_description import generation_document
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.bundle.reader import Bundle
from fastserve_runtime.engines import installed_engine
from fastserve_runtime.errors import FastServeError, UsageError
from fastserve_runtime.measurement.latency import MAX_SECONDS, MIN_SECONDS
from fastserve_runtime.measurement.measurement import measurement_document
from fastserve_runtime.measurement.measuring import MeasuredModel, import_seconds, measured_model
from fastserve_runtime.measurement.sustained import SustainedRun, Window, run_sustained
from fastserve_runtime.measurement.thermal import ThermalReading, read_thermal
from fastserve_runtime.measurement.throttling import judge
from fastserve_runtime.variants import checked_model, checked_threads, choose_variant

if TYPE_CHECKING:
    from fastserve_runtime.bundle.golden import Arrays


@dataclass(frozen=True)
class Benchmark:
    """A variant that was measured and is still open.

    Attributes:
        variant: what was measured.
        samples: how many golden texts the calls took in turn.
        model: the measurement, and the open model.
    """

    variant: Variant
    samples: int
    model: MeasuredModel

    def sustain(
        self,
        seconds: float,
        *,
        read: Callable[[], ThermalReading] = read_thermal,
        on_window: Callable[[Window], object] | None = None,
    ) -> SustainedRun:
        """Run on for so many seconds; see `run_sustained`."""
        return run_sustained(self.model.workload.run, seconds, read=read, on_window=on_window)


@contextmanager
def benchmarked(
    bundle: Bundle,
    *,
    variant: str | None = None,
    engine: str | None = None,
    threads: int | None = None,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float = MAX_SECONDS,
    on_start: Callable[[str], object] | None = None,
) -> Iterator[Benchmark]:
    """Measure a variant on its realistic golden texts, in this process, and keep it open inside the block.

    Args:
        bundle: an open bundle.
        variant: measure this one; the best that runs here if left out.
        engine: use this engine and no other.
        threads: how many threads one call may use.
        min_seconds: time calls for at least so long.
        max_seconds: stop after this.
        on_start: gets a sentence that says what is measured, before the long work begins.

    Raises:
        UsageError: there is no such variant, fewer than 1 threads were asked for, or the variant has no golden.
        BundleError: a file is missing, altered or damaged.
        EnvironmentFailure: no engine for it is installed.
    """
    from fastserve_runtime.conformance.verification import whole_golden

    count = checked_threads(threads)
    _import_first(bundle, variant, engine)
    chosen, found = choose_variant(bundle, variant, engine)
    if chosen.golden is None:
        raise UsageError(
            f"The bundle has no golden for variant '{chosen.id}', so there is no real input to measure it with.",
            "Export the bundle again, or measure another variant.",
        )
    golden = whole_golden(bundle, chosen, chosen.golden)
    realistic = golden.realistic if golden.realistic.any() else golden.realistic | True
    inputs: Arrays = {name: value[realistic] for name, value in golden.inputs.items()}
    samples = int(realistic.sum())
    if on_start is not None:
        on_start(f"Measuring {chosen.id} with {found.NAME} {found.version()}; at most {max_seconds * 4 / 3:.0f} s ...")
    with measured_model(
        bundle.manifest.task,
        found,
        checked_model(bundle, chosen),
        chosen.graphs,
        inputs,
        threads=count,
        min_seconds=min_seconds,
        max_seconds=max_seconds,
    ) as model:
        yield Benchmark(chosen, samples, model)


def benchmark_document(bundle: Bundle, benchmark: Benchmark, sustained: SustainedRun | None) -> dict[str, Any]:
    """Return what was measured as JSON; `sustained` is null where no sustained run was asked for."""
    return {
        "bundle": str(bundle.location),
        "digest": bundle.manifest.digest,
        "variant": benchmark.variant.id,
        "inputs": {"source": "golden", "samples": benchmark.samples},
        "measurement": measurement_document(benchmark.model.measurement),
        **_cache(bundle, benchmark.variant),
        "sustained": None if sustained is None else sustained_document(sustained),
    }


def _cache(bundle: Bundle, variant: Variant) -> dict[str, int]:
    """Return `cache_bytes`, those of a full cache of keys and values, for a model that has one."""
    document = generation_document(bundle.manifest)
    return {} if document is None else {"cache_bytes": document["cache_bytes"][variant.id]}


def sustained_document(run: SustainedRun) -> dict[str, Any]:
    """Return a sustained run with its judgement as JSON."""
    return {
        "asked_seconds": run.asked_seconds,
        "window_seconds": run.window_seconds,
        "interrupted": run.interrupted,
        "judgement": judge(run).as_document(),
        "not_shown": run.before.not_shown,
        "before": run.before.as_document(),
        "windows": [window.as_document() for window in run.windows],
    }


def _import_first(bundle: Bundle, variant: str | None, engine: str | None) -> None:
    """Time the import of the engine that will most likely be used, before anything else imports it."""
    manifest = bundle.manifest
    likely = manifest.variant(variant or manifest.chosen)
    try:
        import_seconds(installed_engine(likely.format, engine))
    except FastServeError:
        return  # choosing the variant says what is wrong
