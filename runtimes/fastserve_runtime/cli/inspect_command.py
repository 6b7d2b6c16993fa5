"""`fastserve-runtime inspect`."""

from __future__ import annotations

from argparse import Namespace
from contextlib import ExitStack

from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.cli.inspection import (
    VARIANT_HEADINGS,
    conversion_lines,
    evidence_notes,
    inspection,
    source_lines,
    variant_lines,
    variant_rows,
)
from fastserve_runtime.cli.streams import printable, show, show_document
from fastserve_runtime.cli.text_table import text_table
from fastserve_runtime.errors import EXIT_ENVIRONMENT, EXIT_OK
from fastserve_runtime.measurement.machine import this_machine


def run(arguments: Namespace) -> int:
    """Show what is inside a bundle, or what this machine can run."""
    if arguments.machine:
        return _show_machine(arguments)
    with open_bundle(arguments.bundle) as bundle:
        if arguments.as_json:
            show_document(inspection(bundle))
            return EXIT_OK
        manifest = bundle.manifest
        title, rows = variant_rows(bundle)
        show(printable(f"{bundle.location}  {manifest.task}, schema {manifest.schema_version}"))
        for line in source_lines(bundle):
            show(printable(line))
        show(f"\n{printable(title)}")
        show(text_table(VARIANT_HEADINGS, rows, right=("size", "quality", "p90", "peak memory")))
        converted = conversion_lines(bundle)
        for variant in manifest.variants:
            show(f"\n{printable(variant.id)}")
            for line in (*variant_lines(variant), *converted[variant.id]):
                show(f"  {printable(line)}")
        for note in evidence_notes(bundle):
            show(f"\nNote: {printable(note)}")
    return EXIT_OK


def _show_machine(arguments: Namespace) -> int:
    """Show which engines this machine can run, with a bundle also which of its variants."""
    from fastserve_runtime.measurement.engine_trials import TRIAL_HEADINGS, trial_row, trials_document, trials_of

    machine = this_machine()
    if not arguments.as_json:
        show(printable(str(machine)))
        show(printable(f"instruction sets: {' '.join(machine.instruction_sets) or 'the system tells none'}"))
        show("")
    with ExitStack() as stack:
        bundle = None if arguments.bundle is None else stack.enter_context(open_bundle(arguments.bundle))
        trials = trials_of(bundle, machine, arguments.engine)
    if arguments.as_json:
        show_document(trials_document(trials, machine))
    else:
        show(text_table(TRIAL_HEADINGS, [trial_row(trial) for trial in trials]))
    return EXIT_ENVIRONMENT if any(trial.runs is False for trial in trials) else EXIT_OK
