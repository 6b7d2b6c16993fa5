"""The command that takes a variant out of a bundle: `pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastserve.bundles.packing import pack as pack_bundle
from fastserve.cli.failures import failures_shown
from fastserve.cli.options import AsJson, Bundle, Debug, VariantOption
from fastserve_runtime.cli.streams import show, show_document


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
