"""Talking to a web page from Python: a local HTTP server that gives the page its files and its orders.

A page cannot be called, so it asks: it fetches its next order, waits for it as long as it takes, and posts the answer.
Orders and answers are messages (`fastserve_runtime.processes.framing`). The headers isolate the page from other
origins, without which a browser gives it no threads (https://web.dev/articles/coop-coep). Only who knows the token in
the address gets an answer, so no other page or user of the machine can take part.

The page also holds one request open that is never answered: where that connection ends, the page is gone.
"""

from __future__ import annotations

import contextlib
import io
import logging
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.processes.framing import read_message, write_message

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensor, Tensors

Answer = tuple[dict[str, Any], "dict[str, Tensor]"]

_TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
_LOOK_EVERY_SECONDS = 0.2
_logger = logging.getLogger(__name__)
_POLL_SECONDS = 20.0
_MAX_BYTES = 4 * 2**30


class PageServer:
    """Serves one page on this machine's own address, and passes orders to it.

    Attributes:
        address: of the page.
        files: names below it → the files that they stand for.
        base: the path of the page, with the token.
        orders: messages that the page has not fetched yet.
        answers: what it posted; a text where it failed.
        is_closing: set when nothing that ends is a failure any more.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        """Start to serve.

        Args:
            files: names below the page's address → the files that they stand for; `""` is the page itself.
        """
        self.files = dict(files)
        self.base = f"/{secrets.token_urlsafe(16)}/"
        self.orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[Answer | str] = queue.SimpleQueue()
        self.is_closing = threading.Event()
        self._failure: str | None = None
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.page = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}{self.base}"

    def ask(self, order: Mapping[str, Any], arrays: Tensors, obstacle: Callable[[], str | None]) -> Answer:
        """Give the page an order, and wait for its answer.

        Args:
            order: JSON fields.
            arrays: numpy arrays of plain dtypes.
            obstacle: asked now and then; returns why no answer will ever come, or None.

        Returns:
            The answer's fields and arrays.

        Raises:
            EnvironmentFailure: the page failed or is gone, or there is an obstacle.
        """
        message = io.BytesIO()
        write_message(message, order, arrays)
        self.orders.put(message.getvalue())
        while self._failure is None:
            try:
                answer = self.answers.get(timeout=_LOOK_EVERY_SECONDS)
            except queue.Empty:
                self._failure = obstacle()
                continue
            if not isinstance(answer, str):
                return answer
            self._failure = answer  # for good: an answer that comes yet belongs to this order, not to the next
        raise EnvironmentFailure(f"{self._failure.rstrip('.')}.", "Use another target.")

    def close(self) -> None:
        """Stop to serve. What the page still asks for is not answered."""
        self.is_closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    page: PageServer

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 -- as the base has them
        """Log it: a browser that is ended breaks its connections."""
        _logger.debug("A request of the page failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _page(self) -> PageServer:
        return cast("_Server", self.server).page

    def do_GET(self) -> None:
        """Give a file or the next order, or hold the page's connection."""
        name = self._name()
        if name == "next":
            self._give_order()
        elif name == "presence":
            self._hold()
        elif name is not None and name in self._page.files:
            path = self._page.files[name]
            self._send(HTTPStatus.OK, path.read_bytes(), _TYPES.get(path.suffix, "application/octet-stream"))
        else:
            self._send(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Take an answer, or what went wrong outside of one."""
        name, length = self._name(), int(self.headers.get("Content-Length", 0))
        if name not in {"answer", "failure"} or length > _MAX_BYTES:
            self.close_connection = True
            self._send(HTTPStatus.NOT_FOUND)
            return
        body = self.rfile.read(length)
        if name == "failure":
            self._page.answers.put(f"The page failed: {body.decode(errors='replace')}")
        else:
            try:
                self._page.answers.put(read_message(io.BytesIO(body)))
            except (AttributeError, EOFError, KeyError, TypeError, ValueError) as error:
                self._page.answers.put(f"The page's answer is no message: {error}")
        self._send(HTTPStatus.NO_CONTENT)

    def log_message(self, *_: object) -> None:
        """Say nothing: standard error is for failures."""

    def _name(self) -> str | None:
        path, base = self.path.partition("?")[0], self._page.base
        return path.removeprefix(base) if path.startswith(base) else None

    def _give_order(self) -> None:
        try:
            order = self._page.orders.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            self._send(HTTPStatus.NO_CONTENT)  # the page asks again
            return
        self._send(HTTPStatus.OK, order)

    def _hold(self) -> None:
        with contextlib.suppress(OSError):  # ended the hard way
            self.connection.recv(1)  # returns when the browser ends the connection: the page never sends more
        self.close_connection = True
        if not self._page.is_closing.is_set():
            self._page.answers.put("The page is gone: its process crashed, or was ended for its memory")

    def _send(self, status: HTTPStatus, content: bytes = b"", kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
