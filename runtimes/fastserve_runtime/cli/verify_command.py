"""`fastserve-runtime verify`."""

from __future__ import annotations

from argparse import Namespace

from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.cli.failures import tell_failure
from fastserve_runtime.cli.streams import show, show_document
from fastserve_runtime.cli.text_table import text_table
from fastserve_runtime.conformance.verification import exit_code, reasons, verdicts_document, verify
from fastserve_runtime.errors import EXIT_ENVIRONMENT
from fastserve_runtime.failure import Failure

_HEADINGS = ("variant", "target", "check", "verdict", "figures")


def run(arguments: Namespace) -> int:
    """Check a bundle's integrity and its goldens."""
    with open_bundle(arguments.bundle) as bundle:
        verification = verify(bundle, variant=arguments.variant, engine=arguments.engine, threads=arguments.threads)
        digest = bundle.manifest.digest
    verdicts = verification.verdicts
    code = exit_code(verdicts)
    if arguments.as_json:
        show_document(verdicts_document(verdicts, bundle=str(arguments.bundle), digest=digest))
        return code
    show(text_table(_HEADINGS, [(v.variant, v.target, v.check, v.outcome.value, v.detail) for v in verdicts]))
    if code == EXIT_ENVIRONMENT:
        tell_failure(Failure("All files are whole, but no variant could be run here.", reasons(verdicts), code))
    return code
