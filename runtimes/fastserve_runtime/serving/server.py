"""The server's process: its socket, its signals, and its end."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.processes.interruption import raise_noted_ctrl_c
from fastserve_runtime.serving.app import application
from fastserve_runtime.serving.models import ServedModel, opened_models
from fastserve_runtime.serving.settings import ServerSettings

if TYPE_CHECKING:
    from fastserve_runtime.serving.models import Load

_GRACE_SECONDS = 5
"""So long answers may take to be sent once the server shuts down."""
_MAX_CONNECTIONS = 256


class HttpServer(uvicorn.Server):
    """Serves models at a socket until it is stopped."""

    def __init__(
        self, models: Sequence[ServedModel], settings: ServerSettings, listener: socket.socket, *, debug: bool = False
    ) -> None:
        """Make the server.

        Args:
            models: what it serves.
            settings: whom it answers, and its limits.
            listener: a socket that listens.
            debug: whether each request is logged.
        """
        self._models, self._listener = models, listener
        super().__init__(
            uvicorn.Config(
                application(models, settings),
                http="h11",
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="info" if debug else "critical",
                access_log=debug,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )

    def serve_until_stopped(self, on_ready: Callable[[], object] = lambda: None) -> int | None:
        """Serve until `stop` is called or a signal comes, and return the signal's number.

        In the main thread, SIGINT and SIGTERM stop the server.

        Args:
            on_ready: called when they do, and who connects gets an answer.
        """
        with _signals_noted(self.stop) as noted:
            on_ready()
            self.run(sockets=[self._listener])
        return noted[0] if noted else None

    def stop(self) -> None:
        """End what is computed and take no more connections. May be called in any thread."""
        for model in self._models:
            model.queue.stop()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop after a signal; a second Ctrl-C does not wait for answers to be sent."""
        super().handle_exit(sig, frame)
        self.stop()


def serve(
    bundles: Sequence[Path],
    settings: ServerSettings,
    *,
    load: Load,
    debug: bool = False,
    on_ready: Callable[[str, Sequence[str]], object],
) -> bool:
    """Serve bundles until a signal comes.

    Args:
        bundles: at least one.
        settings: where to listen, whom to answer, and limits.
        load: opens a bundle, as `fastserve_runtime.load` does.
        debug: whether each request is logged.
        on_ready: gets the server's URL and the names of its models, once it answers.

    Returns:
        Whether Ctrl-C ended it.

    Raises:
        UsageError: a bundle cannot be served.
        EnvironmentFailure: the port is in use.
        FastServeError: a bundle cannot be opened; see `fastserve_runtime.load`.
    """
    with (
        listening(settings.host, settings.port) as listener,
        opened_models(bundles, load, waiting=settings.queue) as models,
    ):
        raise_noted_ctrl_c()  # while libraries were imported, say
        names = [model.name for model in models]
        server = HttpServer(models, settings, listener, debug=debug)
        return server.serve_until_stopped(lambda: on_ready(url_of(listener), names)) == signal.SIGINT


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Listen at an address; clients that connect before the server runs wait for it.

    Raises:
        UsageError: the address is not one of this machine.
        EnvironmentFailure: the port is in use, or needs rights that the user has not.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UsageError(f"The host '{host}' cannot be found: {error.strerror}.", "Give an address.") from error
    # `localhost` may have both; not every machine has version 6.
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    # Not a socket of protocol 0, with which asyncio leaves Nagle's algorithm on: each event of a stream would then wait
    # some 40 ms for the one before it to be acknowledged.
    try:
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise _cannot_listen(error, host, port) from error
    with listener:
        try:
            if os.name == "posix":  # elsewhere it would let two servers share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except OSError as error:
            raise _cannot_listen(error, host, port) from error
        yield listener


def url_of(listener: socket.socket) -> str:
    """Return the URL of what listens at a socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


def _cannot_listen(error: OSError, host: str, port: int) -> EnvironmentFailure | UsageError:
    if error.errno == errno.EADDRINUSE:
        return EnvironmentFailure(
            f"Port {port} of {host} is in use.", "Choose another with --port, or 0 for any that is free."
        )
    if error.errno == errno.EACCES:
        return EnvironmentFailure(f"You may not listen at port {port}.", "Choose one above 1023 with --port.")
    return UsageError(f"The server cannot listen at '{host}': {error.strerror}.", "Give an address of this machine.")


@contextmanager
def _signals_noted(stop: Callable[[], None]) -> Iterator[list[int]]:
    """Have SIGINT and SIGTERM noted instead of ending the process: uvicorn raises them again once it has stopped.

    One that comes before uvicorn listens to signals stops it as well.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(number: int, _: Any) -> None:
        noted.append(number)
        stop()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
