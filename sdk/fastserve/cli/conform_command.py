"""The command that checks a bundle on targets: `conform`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fastserve.bundles.conformance_evidence import save_verdicts
from fastserve.cli.consoles import error_console, output_console, plain
from fastserve.cli.failures import failures_shown
from fastserve.cli.options import AsJson, Bundle, Debug
from fastserve.cli.rich_view import RichView
from fastserve.cli.verdict_matrix import WHOLE_CHECKS, verdict_tables
from fastserve.progress import terminal_reporter
from fastserve_device_tests.suite.junit import junit_xml
from fastserve_device_tests.suite.suite import NO_VARIANT, Pairing, run_suite
from fastserve_runtime.cli.listed_words import WORDS, listed_words
from fastserve_runtime.cli.streams import show_document
from fastserve_runtime.cli.verify_command import told_exit_code
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.conformance.verification import exit_code, verdicts_document
from fastserve_runtime.errors import EXIT_CONFORMANCE, EXIT_OK, UsageError
from fastserve_runtime.failure import Failure


def conform(
    bundle: Bundle,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar=WORDS,
            help="Names such as onnx:webgpu, or cpu, gpu, npu, all; several with commas. What this machine's own "
            "processor executes if left out.",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where anything could not be checked.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML to this file.", show_default=False)] = None,
    save: Annotated[bool, typer.Option("--save", help="Keep the verdicts with the bundle, as evidence.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check on every target that a bundle's variants compute what the reference computes."""
    seconds: dict[tuple[str, str], float] = {}

    def ended(pairing: Pairing, duration: float) -> None:
        seconds[pairing.variant, pairing.target.NAME] = duration

    with failures_shown(as_json=as_json, debug=debug):
        if junit is not None:
            check_writable(junit)
        console = error_console()
        with terminal_reporter(console) as reporter:

            def started(what: str) -> None:
                reporter.start(f"Checking {plain(what)}")

            verdicts = run_suite(bundle, listed_words(target), started, ended)
        if junit is not None:
            junit.write_bytes(junit_xml(verdicts, seconds))
        if as_json:
            show_document(verdicts_document(verdicts, bundle=str(bundle)))
        else:
            output = output_console()
            for part in verdict_tables(verdicts, output.width):
                output.print(part, highlight=False)
        if save:
            file = save_verdicts(bundle, verdicts)
            console.print(f"Saved: {plain(str(file))}", highlight=False, soft_wrap=True)
    missed = what_was_not_run(verdicts)
    if strict and missed:
        sentence = f"Not checked, which --strict does not allow: {'; '.join(missed)}."
        RichView().fail(Failure(sentence, "", EXIT_CONFORMANCE))
        raise typer.Exit(EXIT_CONFORMANCE)
    # The document has the reasons in it.
    code = exit_code(verdicts) if as_json else told_exit_code(verdicts, "Nothing could be checked here.", RichView())
    if code != EXIT_OK:
        raise typer.Exit(code)


def check_writable(file: Path) -> None:
    """Refuse a file that cannot be written, before the checks take their time.

    Raises:
        UsageError: its folder does not exist, or it is a folder.
    """
    if file.is_dir():
        raise UsageError(f"'{file}' is a folder.", "Name a file.")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"The folder '{file.absolute().parent}' does not exist.", "Make it, or name another.")


def what_was_not_run(verdicts: Sequence[Verdict]) -> list[str]:
    """Return what has a NOT_RUN, in words, target by target."""
    missed = []
    for target in dict.fromkeys(v.target for v in verdicts):
        names = [_named(v) for v in verdicts if v.target == target and v.outcome is Outcome.NOT_RUN]
        if names:
            missed.append(f"{', '.join(names)} on {target}")
    return missed


def _named(verdict: Verdict) -> str:
    if verdict.variant == NO_VARIANT:
        return "any variant"
    is_whole = verdict.check in WHOLE_CHECKS
    return verdict.variant if is_whole else f"{verdict.check} of {verdict.variant}"
