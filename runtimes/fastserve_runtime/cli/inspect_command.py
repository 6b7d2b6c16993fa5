"""The command `inspect`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from fastserve_runtime.bundle.reader import Bundle, open_bundle
from fastserve_runtime.cli.inspection import (
    VARIANT_HEADINGS,
    VARIANT_NUMBERS,
    conversion_lines,
    evidence_notes,
    inspection,
    source_lines,
    variant_lines,
    variant_rows,
)
from fastserve_runtime.cli.streams import show_document
from fastserve_runtime.cli.view import View
from fastserve_runtime.errors import EXIT_ENVIRONMENT, EXIT_OK
from fastserve_runtime.measurement.machine import this_machine
from fastserve_runtime.results import Table, Tone

if TYPE_CHECKING:
    from fastserve_runtime.measurement.engine_trials import EngineTrial


def run(arguments: Namespace, view: View) -> int:
    """Show what is inside a bundle, or what this machine can run."""
    if arguments.machine:
        return _show_machine(arguments, view)
    with open_bundle(arguments.bundle) as bundle:
        if arguments.as_json:
            show_document(inspection(bundle))
        else:
            show_bundle(bundle, view)
    return EXIT_OK


def show_bundle(bundle: Bundle, view: View) -> None:
    """Show what a bundle holds."""
    manifest = bundle.manifest
    view.heading(str(bundle.location), f"{manifest.task}, schema {manifest.schema_version}")
    for line in source_lines(bundle):
        view.line(line)
    title, rows = variant_rows(bundle)
    view.table(Table(VARIANT_HEADINGS, tuple(rows), VARIANT_NUMBERS, title=title))
    converted = conversion_lines(bundle)
    for variant in manifest.variants:
        view.heading(variant.id)
        for line in (*variant_lines(variant), *converted[variant.id]):
            view.line(f"  {line}")
    for note in evidence_notes(bundle):
        view.note(note)


def _show_machine(arguments: Namespace, view: View) -> int:
    """Show which engines this machine can run, with a bundle also which of its variants."""
    from fastserve_runtime.measurement.engine_trials import trials_document, trials_of

    machine = this_machine()
    with ExitStack() as stack:
        bundle = None if arguments.bundle is None else stack.enter_context(open_bundle(arguments.bundle))
        if not arguments.as_json:
            view.line(str(machine))
            view.line(f"instruction sets: {' '.join(machine.instruction_sets) or 'the system tells none'}")
        trials = trials_of(bundle, machine, arguments.engine)
    if arguments.as_json:
        show_document(trials_document(trials, machine))
    else:
        view.table(trials_table(trials))
    return EXIT_ENVIRONMENT if any(trial.runs is False for trial in trials) else EXIT_OK


def trials_table(trials: Sequence[EngineTrial]) -> Table:
    """Make a table of which engines, and which variants, run on this machine."""
    from fastserve_runtime.measurement.engine_trials import TRIAL_HEADINGS, trial_row

    tones: dict[bool | None, Tone | None] = {True: None, False: "bad", None: "absent"}
    return Table(TRIAL_HEADINGS, tuple(map(trial_row, trials)), tones=tuple(tones[trial.runs] for trial in trials))
