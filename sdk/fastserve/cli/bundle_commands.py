"""The commands that look at a finished bundle: `inspect`, `verify`, `pack`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from fastserve.bundles.packing import pack as pack_bundle
from fastserve.cli.consoles import error_console, output_console, plain
from fastserve.cli.failures import failures_shown
from fastserve.cli.reading import inspection_tables, trials_table, verdict_table
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.cli.inspection import inspection
from fastserve_runtime.cli.streams import show, show_document
from fastserve_runtime.conformance.verdict import Verdict
from fastserve_runtime.conformance.verification import exit_code, reasons, verdicts_document
from fastserve_runtime.conformance.verification import verify as verify_bundle
from fastserve_runtime.errors import EXIT_ENVIRONMENT, EXIT_OK, UsageError
from fastserve_runtime.measurement.engine_trials import trials_document, trials_of
from fastserve_runtime.measurement.machine import this_machine

Bundle = Annotated[Path, typer.Argument(help="A bundle: its directory or .zip file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the engines' logs.")]
VariantOption = Annotated[str | None, typer.Option("--variant", help="Take this variant.")]
EngineOption = Annotated[str | None, typer.Option("--engine", help="Take this engine.")]
Threads = Annotated[int, typer.Option(help="Threads that one inference may use.")]


def inspect(
    bundle: Annotated[Path | None, typer.Argument(help="A bundle: its directory or .zip file.")] = None,
    machine: Annotated[
        bool, typer.Option("--machine", help="Show which engines run on this machine; with a bundle, its variants too.")
    ] = False,
    engine: Annotated[str | None, typer.Option("--engine", help="With --machine: try this engine alone.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what is inside a bundle, or what this machine can run."""
    if machine:
        _show_machine(bundle, engine, as_json=as_json, debug=debug)
        return
    if bundle is None:
        with failures_shown(as_json=as_json, debug=debug):
            raise UsageError("No bundle was named.", "Name one, or ask for --machine.")
    with failures_shown(as_json=as_json, debug=debug), open_bundle(bundle) as source:
        document = inspection(source)
        if as_json:
            show_document(document)
            return
        console = output_console()
        for part in inspection_tables(source):
            console.print(part, highlight=False)


def _show_machine(location: Path | None, engine: str | None, *, as_json: bool, debug: bool) -> None:
    with failures_shown(as_json=as_json, debug=debug), ExitStack() as stack:
        machine = this_machine()
        bundle = None if location is None else stack.enter_context(open_bundle(location))
        trials = trials_of(bundle, machine, engine)
        if as_json:
            show_document(trials_document(trials, machine))
        else:
            console = output_console()
            console.print(plain(str(machine)), highlight=False)
            sets = " ".join(machine.instruction_sets) or "the system tells none"
            console.print(f"instruction sets: {plain(sets)}", highlight=False)
            console.print(trials_table(trials), highlight=False)
    if any(trial.runs is False for trial in trials):
        raise typer.Exit(EXIT_ENVIRONMENT)


def verify(
    bundle: Bundle,
    variant: VariantOption = None,
    engine: EngineOption = None,
    threads: Threads = 1,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check a bundle's integrity and its goldens with the runtime alone."""
    with failures_shown(as_json=as_json, debug=debug):
        with open_bundle(bundle) as source:
            verification = verify_bundle(source, variant=variant, engine=engine, threads=threads)
            digest = source.manifest.digest
        _show_verdicts(verification.verdicts, {"bundle": str(bundle), "digest": digest}, as_json=as_json)
    exit_by(verification.verdicts, "All files are whole, but no variant could be run here.", as_json=as_json)


def pack(
    bundle: Bundle,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the files.")],
    variant: VariantOption = None,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that has files.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Take one variant out of a bundle as plain files for an app."""
    with failures_shown(as_json=as_json, debug=debug):
        written = pack_bundle(bundle, output, variant=variant, force=force)
        if as_json:
            show_document({"files": [str(f) for f in written]})
        else:
            for file in written:
                show(str(file))


def _show_verdicts(verdicts: Sequence[Verdict], head: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_document(verdicts_document(verdicts, **head))
    else:
        output_console().print(verdict_table(verdicts))


def exit_by(verdicts: Sequence[Verdict], nothing_ran: str, *, as_json: bool) -> None:
    """End with the exit code that the verdicts ask for."""
    code = exit_code(verdicts)
    if code == EXIT_ENVIRONMENT and not as_json:  # the document has the reasons in it
        error_console().print(f"[bold red]Error:[/] {nothing_ran}", highlight=False, soft_wrap=True)
        error_console().print(plain(reasons(verdicts)), highlight=False, soft_wrap=True)
    if code != EXIT_OK:
        raise typer.Exit(code)
