"""The command that finds the layer whose output goes wrong: `bisect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fastserve.bisecting import DEFAULT_SAMPLES, Bisection, Bisector
from fastserve.bisecting.view import conclusion, overlay_document, plot_lines
from fastserve.cli.conform_command import check_writable
from fastserve.cli.consoles import error_console, output_console, plain
from fastserve.cli.failures import failures_shown
from fastserve.cli.options import AsJson, Bundle, Debug, VariantOption
from fastserve.progress import terminal_reporter
from fastserve_runtime.cli.streams import show_document
from fastserve_runtime.errors import EXIT_CONFORMANCE

_NARROWEST = 60


def bisect(
    bundle: Bundle,
    reference: Annotated[
        str, typer.Option(help="The model that the bundle was made from: its directory, or hf:organisation/name.")
    ],
    target: Annotated[
        str | None,
        typer.Option(
            help="Where the variant runs, such as onnx:webgpu. The CPU target of its format if left out.",
            show_default=False,
        ),
    ] = None,
    variant: VariantOption = None,
    samples: Annotated[int, typer.Option(help="How many samples are run.")] = DEFAULT_SAMPLES,
    overlay: Annotated[
        Path | None,
        typer.Option(help="Also write the errors to this file as node data of Model Explorer.", show_default=False),
    ] = None,
    other_reference: Annotated[
        bool, typer.Option("--other-reference", help="Compare with a model of other weights than the bundle's.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the reference's own code.")
    ] = False,
    allow_pickle: Annotated[bool, typer.Option("--allow-pickle", help="Load a reference that is a pickle.")] = False,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Where finished steps of exports are kept.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Find the first layer of a variant whose output goes wrong, compared with the model that it was made from."""
    with failures_shown(as_json=as_json, debug=debug):
        if overlay is not None:
            check_writable(overlay)
        console = error_console()
        with (
            Bisector(
                reference,
                cache_dir=cache_dir,
                allow_pickle=allow_pickle,
                trust_remote_code=trust_remote_code,
                any_weights=other_reference,
                debug=debug,
            ) as bisector,
            terminal_reporter(console) as reporter,
        ):
            found = bisector.bisect(bundle, target=target, variant=variant, samples=samples, reporter=reporter)
        if overlay is not None:
            overlay.write_text(json.dumps(overlay_document(found), indent=1), encoding="utf-8")
        if as_json:
            show_document(found.as_document())
        else:
            _show(found)
    if not found.agrees:
        raise typer.Exit(EXIT_CONFORMANCE)


def _show(found: Bisection) -> None:
    console = output_console()
    is_ascii = not console.encoding.lower().startswith("utf")
    suspected = {s.layer for s in found.suspects}
    head = f"{found.variant} on {found.target}, {found.samples} samples: each layer's own error (SQNR)"
    console.print(plain(head), highlight=False)
    lines = plot_lines(found, max(_NARROWEST, min(console.width, 120)), is_ascii=is_ascii)
    for layer, line in zip(found.layers, lines, strict=True):
        style = "bold red" if layer in suspected else None
        console.print(plain(line), style=style, highlight=False, soft_wrap=True)
    for sentence in conclusion(found):
        console.print(plain(sentence), highlight=False, soft_wrap=False)
