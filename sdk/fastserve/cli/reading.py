"""What is inside a bundle, as tables for a terminal; `fastserve_runtime.cli.inspection` has the words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table

from fastserve.cli.consoles import plain
from fastserve_runtime.bundle.reader import Bundle
from fastserve_runtime.cli.inspection import (
    VARIANT_HEADINGS,
    conversion_lines,
    evidence_notes,
    source_lines,
    variant_lines,
    variant_rows,
)
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.measurement.engine_trials import TRIAL_HEADINGS, EngineTrial, trial_row

OUTCOME_STYLES = {Outcome.PASS: "green", Outcome.NOT_RUN: "yellow"}
"""How outcomes look; any other is a failure."""


def inspection_tables(bundle: Bundle) -> Iterator[RenderableType]:
    """Yield what a bundle holds, for a terminal."""
    manifest = bundle.manifest
    yield f"[bold]{plain(str(bundle.location))}[/]  {plain(manifest.task)}, schema {manifest.schema_version}"
    yield from map(plain, source_lines(bundle))
    yield _variants(bundle)
    converted = conversion_lines(bundle)
    for variant in manifest.variants:
        yield f"[bold]{plain(variant.id)}[/]"
        lines = (*variant_lines(variant), *converted[variant.id])
        yield from (plain(f"  {line}") for line in lines)
    yield from (f"[dim]Note:[/] {plain(note)}" for note in evidence_notes(bundle))


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Make a table of verdicts with the figures that they rest on."""
    table = Table("variant", "target", "check", "verdict", "figures")
    for verdict in verdicts:
        outcome = f"[{OUTCOME_STYLES.get(verdict.outcome, 'bold red')}]{verdict.outcome.value}[/]"
        names = map(plain, (verdict.variant, verdict.target, verdict.check))
        table.add_row(*names, outcome, plain(verdict.detail))
    return table


def trials_table(trials: Sequence[EngineTrial]) -> Table:
    """Make a table of which engines, and which variants, run on this machine."""
    table = Table(*TRIAL_HEADINGS)
    for trial in trials:
        style = {True: None, False: "bold red", None: "dim"}[trial.runs]
        table.add_row(*map(plain, trial_row(trial)), style=style)
    return table


def _variants(bundle: Bundle) -> Table:
    title, rows = variant_rows(bundle)
    table = Table(*VARIANT_HEADINGS, title=plain(title), title_justify="left", title_style="")
    for row in rows:
        table.add_row(*map(plain, row))
    return table
