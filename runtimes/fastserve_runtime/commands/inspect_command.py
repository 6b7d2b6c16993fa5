"""`fastserve-runtime inspect`."""

from __future__ import annotations

from argparse import Namespace

from fastserve_runtime.bundle import open_bundle
from fastserve_runtime.commands.streams import printable, show, show_document
from fastserve_runtime.commands.text_table import text_table
from fastserve_runtime.errors import EXIT_OK
from fastserve_runtime.inspection import (
    VARIANT_HEADINGS,
    conversion_lines,
    evidence_notes,
    inspection,
    source_lines,
    variant_lines,
    variant_rows,
)


def run(arguments: Namespace) -> int:
    """Show what is inside a bundle."""
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
