"""The command `verify`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.cli.streams import show_document
from fastserve_runtime.cli.view import View
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.conformance.verification import exit_code, reasons, verdicts_document, verify
from fastserve_runtime.errors import EXIT_ENVIRONMENT
from fastserve_runtime.failure import Failure
from fastserve_runtime.results import Table, Tone


def run(arguments: Namespace, view: View) -> int:
    """Check a bundle's integrity and its goldens."""
    with open_bundle(arguments.bundle) as bundle:
        verification = verify(bundle, variant=arguments.variant, engine=arguments.engine, threads=arguments.threads)
        digest = bundle.manifest.digest
    verdicts = verification.verdicts
    if arguments.as_json:
        show_document(verdicts_document(verdicts, bundle=str(arguments.bundle), digest=digest))
        return exit_code(verdicts)
    view.table(verdict_table(verdicts))
    return told_exit_code(verdicts, "All files are whole, but no variant could be run here.", view)


def told_exit_code(verdicts: Sequence[Verdict], nothing_ran: str, view: View) -> int:
    """Return the exit code that verdicts ask for; where nothing could be run, say so and why."""
    code = exit_code(verdicts)
    if code == EXIT_ENVIRONMENT:
        view.fail(Failure(nothing_ran, reasons(verdicts), code))
    return code


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Make a table of verdicts with the figures that they rest on."""
    return Table(
        ("variant", "target", "check", "verdict", "figures"),
        tuple((v.variant, v.target, v.check, v.outcome.value, v.detail) for v in verdicts),
        tones=tuple(tone_of(v.outcome) for v in verdicts),
        toned="verdict",
    )


def tone_of(outcome: Outcome) -> Tone:
    """Return what an outcome says; any other than PASS and NOT_RUN is a failure."""
    tones: dict[Outcome, Tone] = {Outcome.PASS: "good", Outcome.NOT_RUN: "doubtful"}
    return tones.get(outcome, "bad")
