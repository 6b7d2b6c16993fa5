"""The flags of `serve`."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastserve_runtime.serving import settings


def add_server_flags(serve: argparse.ArgumentParser) -> None:
    """Add them to the parser of the command."""
    serve.add_argument("more_bundles", type=Path, nargs="*", metavar="BUNDLE", help="More bundles, of other names.")
    serve.add_argument(
        "--host", default=settings.HOST, help="The address to listen at; this machine's own if left out."
    )
    serve.add_argument("--port", type=int, default=settings.PORT, help="The port, 0 for any that is free.")
    serve.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="What requests must bring as a bearer token; or FASTSERVE_TOKEN.",
    )
    serve.add_argument(
        "--queue", type=int, default=settings.QUEUE, metavar="N", help="Requests that may wait for a model."
    )
    serve.add_argument(
        "--request-seconds",
        type=float,
        default=settings.REQUEST_SECONDS,
        metavar="S",
        help="How long a request may take, waiting included.",
    )
    serve.add_argument(
        "--max-request-bytes",
        type=int,
        default=settings.MAX_REQUEST_BYTES,
        metavar="N",
        help="How large a request may be.",
    )
    serve.add_argument(
        "--long-input",
        choices=settings.LONG_INPUT,
        default=settings.LONG_INPUT[0],
        help="Refuse texts to embed with too many tokens, truncate them, or split them.",
    )
