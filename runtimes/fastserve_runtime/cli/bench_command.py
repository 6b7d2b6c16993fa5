"""The command `bench`."""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections.abc import Callable

from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.cli.bench_report import measurement_lines, progress_line, sustained_lines
from fastserve_runtime.cli.streams import printable, show, show_document, tell
from fastserve_runtime.cli.view import View
from fastserve_runtime.errors import EXIT_INTERRUPTED, EXIT_OK, UsageError
from fastserve_runtime.failure import failure_of
from fastserve_runtime.measurement.benchmark import benchmark_document, benchmarked
from fastserve_runtime.measurement.sustained import SustainedRun, Window

SECONDS_A_MINUTE = 60


def run(arguments: Namespace, view: View) -> int:
    """Measure a variant of a bundle, and with `--minutes` keep it running."""
    minutes = checked_minutes(arguments.minutes)
    sustained: SustainedRun | None = None
    with open_bundle(arguments.bundle) as bundle:
        with benchmarked(
            bundle,
            variant=arguments.variant,
            engine=arguments.engine,
            threads=arguments.threads,
            on_start=view.tell,
        ) as benchmark:
            if not arguments.as_json:
                for line in measurement_lines(bundle, benchmark):
                    show(printable(line))
            if minutes is not None:
                tell(f"\nRunning on for {minutes:g} minutes; Ctrl-C ends it and shows what was seen ...")
                seconds = minutes * SECONDS_A_MINUTE
                sustained = benchmark.sustain(seconds, on_window=_progress(seconds))
                _end_progress()
        if arguments.as_json:
            show_document(benchmark_document(bundle, benchmark, sustained))
    if sustained is not None and not arguments.as_json:
        show("")
        for line in sustained_lines(sustained):
            show(line)
    if sustained is not None and sustained.interrupted:
        view.fail(failure_of(KeyboardInterrupt()))
        return EXIT_INTERRUPTED
    return EXIT_OK


def checked_minutes(minutes: float | None) -> float | None:
    """Return the minutes that were asked for.

    Raises:
        UsageError: they are no length of time.
    """
    if minutes is not None and not 0 < minutes < math.inf:
        raise UsageError(f"{minutes:g} minutes were asked for.", "Ask for more than 0, such as --minutes 10.")
    return minutes


def _progress(seconds: float) -> Callable[[Window], None] | None:
    """Return what shows each window on one line of the terminal that is written over; None where there is none."""
    if not _is_terminal():
        return None

    def show_window(window: Window) -> None:
        tell(f"\r\x1b[K{progress_line(window, seconds)}", end="")

    return show_window


def _end_progress() -> None:
    if _is_terminal():
        tell("\r\x1b[K", end="")


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
