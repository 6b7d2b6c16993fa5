"""The command `serve`."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Sequence
from functools import partial

from fastserve_runtime.cli.streams import show
from fastserve_runtime.cli.view import View
from fastserve_runtime.errors import EXIT_INTERRUPTED, EXIT_OK
from fastserve_runtime.failure import failure_of
from fastserve_runtime.loading import load
from fastserve_runtime.serving.access import read_token
from fastserve_runtime.serving.installation import check_installed
from fastserve_runtime.serving.settings import ServerSettings


def run(arguments: Namespace, view: View) -> int:
    """Serve bundles over HTTP until Ctrl-C or SIGTERM."""
    settings = ServerSettings(
        host=arguments.host,
        port=arguments.port,
        token=read_token(arguments.token_file, os.environ),
        queue=arguments.queue,
        request_seconds=arguments.request_seconds,
        max_request_bytes=arguments.max_request_bytes,
        long_input=arguments.long_input,
    )
    check_installed()
    from fastserve_runtime.serving.server import serve

    def ready(url: str, models: Sequence[str]) -> None:
        if arguments.as_json:  # one line of standard output, for scripts
            show(json.dumps({"url": url, "models": list(models)}))
        view.tell(f"Serving {', '.join(models)} at {url}; Ctrl-C ends it.")

    was_interrupted = serve(
        [arguments.bundle, *arguments.more_bundles],
        settings,
        load=partial(load, variant=arguments.variant, engine=arguments.engine, threads=arguments.threads),
        debug=arguments.debug,
        on_ready=ready,
    )
    if was_interrupted:
        view.fail(failure_of(KeyboardInterrupt()))
        return EXIT_INTERRUPTED
    return EXIT_OK
