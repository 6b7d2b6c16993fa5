"""The JSON object in a request's body."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from starlette.requests import Request

from fastserve_runtime.serving.refusal import Refusal

_MAX_DIGITS = 1000
"""Python's own limit is about four times this, and its message is about Python."""


async def read_document(request: Request, *, max_bytes: int, seconds: float) -> dict[str, Any]:
    """Read a request's body.

    The media type must be JSON's: a page in a browser cannot send that to another origin without being allowed to.

    Args:
        request: its body was not read yet.
        max_bytes: how many it may have.
        seconds: how long it may take to come.

    Raises:
        Refusal: it is no JSON object, too large, or too slow.
        ClientDisconnect: the client has gone.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "The request is not of type application/json. Set the header Content-Type.")
    try:
        body = await asyncio.wait_for(_body(request, max_bytes), seconds)
    except asyncio.TimeoutError:
        raise Refusal(408, f"The request did not come within {seconds:.0f} seconds.", "timeout") from None
    return parse_document(body)


def parse_document(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request's body.

    Raises:
        Refusal: it is none.
    """
    try:
        # RFC 8259 lets readers pass over a byte order mark.
        document = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant, parse_int=_integer)
        if b"\\u" in body:
            # Escapes can stand for halves of characters, which no tokenizer takes.
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise Refusal(400, "The request's text is no Unicode. Send UTF-8.") from None
    except RecursionError:
        raise Refusal(400, "The request's JSON is nested too deep.") from None
    except ValueError as error:
        raise Refusal(400, f"The request is no JSON: {error}.") from None
    if not isinstance(document, dict):
        raise Refusal(400, "The request is no JSON object.")
    return document


async def _body(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    too_large = Refusal(
        413, f"The request has more than {max_bytes} bytes. Shorten it, or start the server with another limit."
    )
    if announced.isdigit() and int(announced) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
