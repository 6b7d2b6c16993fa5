"""`fastserve serve`: the same server as `fastserve-runtime serve`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import typer

import fastserve_runtime
from fastserve.cli.bundle_commands import AsJson, Debug, EngineOption, Threads, VariantOption
from fastserve.cli.consoles import error_console, plain
from fastserve.cli.failures import failures_shown
from fastserve_runtime.cli.streams import show
from fastserve_runtime.errors import EXIT_INTERRUPTED
from fastserve_runtime.serving.access import read_token
from fastserve_runtime.serving.installation import check_installed
from fastserve_runtime.serving.settings import (
    HOST,
    MAX_REQUEST_BYTES,
    PORT,
    QUEUE,
    REQUEST_SECONDS,
    LongInput,
    ServerSettings,
)


def serve(
    bundles: Annotated[list[Path], typer.Argument(help="One bundle or several, of different names.")],
    host: Annotated[str, typer.Option(help="The address to listen at; this machine's own if left out.")] = HOST,
    port: Annotated[int, typer.Option(help="The port, 0 for any that is free.")] = PORT,
    token_file: Annotated[
        Path | None, typer.Option(help="What requests must bring as a bearer token; or FASTSERVE_TOKEN.")
    ] = None,
    queue: Annotated[int, typer.Option(help="Requests that may wait for a model.")] = QUEUE,
    request_seconds: Annotated[
        float, typer.Option(help="How long a request may take, waiting included.")
    ] = REQUEST_SECONDS,
    max_request_bytes: Annotated[int, typer.Option(help="How large a request may be.")] = MAX_REQUEST_BYTES,
    long_input: Annotated[
        str, typer.Option(help="What becomes of texts to embed with too many tokens: error, truncate or split.")
    ] = "error",
    variant: VariantOption = None,
    engine: EngineOption = None,
    threads: Threads = 1,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Serve bundles over HTTP as OpenAI's API does, until Ctrl-C."""
    with failures_shown(as_json=as_json, debug=debug):
        settings = ServerSettings(
            host=host,
            port=port,
            token=read_token(token_file, os.environ),
            queue=queue,
            request_seconds=request_seconds,
            max_request_bytes=max_request_bytes,
            long_input=cast(LongInput, long_input),  # checked there
        )
        check_installed()
        from fastserve_runtime.serving.server import serve as serve_bundles

        def ready(url: str, models: Sequence[str]) -> None:
            if as_json:
                show(json.dumps({"url": url, "models": list(models)}))
            sentence = f"Serving {', '.join(models)} at {url}; Ctrl-C ends it."
            error_console().print(plain(sentence), highlight=False, soft_wrap=True)

        load = partial(fastserve_runtime.load, variant=variant, engine=engine, threads=threads)
        was_interrupted = serve_bundles(bundles, settings, load=load, debug=debug, on_ready=ready)
    if was_interrupted:
        error_console().print("[bold red]Error:[/] Interrupted.", highlight=False)
        raise typer.Exit(EXIT_INTERRUPTED)
