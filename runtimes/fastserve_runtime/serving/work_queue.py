"""Work for one model, done in the order in which it came, in a thread of its own."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from typing import Any, Generic, TypeVar

from fastserve_runtime.serving.refusal import Refusal

T = TypeVar("T")
Work = Callable[[Callable[[], bool]], Iterator[T]]
"""Yields its results. It gets a function to ask whether they are still wanted."""

_END = object()
_LONGEST_RETRY = 60


class Ending(Enum):
    """Why work was ended early."""

    CLIENT_GONE = "the client has gone"
    TIME_LIMIT = "the time limit was reached"
    SHUTDOWN = "the server shuts down"


class Job(Generic[T]):
    """Work that waits, runs, or is done. `WorkQueue.submit` makes it; its methods are for the event loop's thread."""

    def __init__(self, work: Work[T], stopping: threading.Event) -> None:
        self._work, self._stopping = work, stopping
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._future: Future[None] | None = None
        self._early: Ending | None = None
        self._error: Exception | None = None
        self._has_results = False
        self.seconds = 0.0

    @property
    def ending(self) -> Ending | None:
        """Why it was ended early, None if it was not."""
        return self._early or (Ending.SHUTDOWN if self._stopping.is_set() else None)

    def end(self, cause: Ending) -> None:
        """End the work: at once if it waits, else as soon as it asks.

        Work that has no results yet may not ask for long. Nobody waits for it then: `results` ends now.
        """
        self._early = self._early or cause
        if self._future is not None:
            self._future.cancel()
        if not self._has_results:
            self._events.put_nowait(_END)

    async def results(self) -> AsyncIterator[T]:
        """Yield the work's results as they come, up to the end of the work. To be used once.

        Raises:
            Exception: what the work raised.
        """
        while (item := await self._events.get()) is not _END:
            yield item
        if self._error is not None:
            raise self._error

    def _start(self, pool: ThreadPoolExecutor, finish: Callable[[Job[T]], None]) -> None:
        self._future = pool.submit(self._run)
        self._future.add_done_callback(lambda _: self._post(lambda: self._finish(finish)))

    def _run(self) -> None:
        # In the thread of the work.
        if self._is_ended():
            return
        started = time.monotonic()
        try:
            for item in self._work(self._is_ended):
                self._post(lambda item=item: self._take(item))  # type: ignore[misc]
        except Exception as error:
            self._error = error
        self.seconds = time.monotonic() - started

    def _is_ended(self) -> bool:
        return self.ending is not None

    def _post(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody waits for results any more
            self._loop.call_soon_threadsafe(call)

    def _take(self, item: T) -> None:
        self._has_results = True
        self._events.put_nowait(item)

    def _finish(self, finish: Callable[[Job[T]], None]) -> None:
        finish(self)
        self._events.put_nowait(_END)


class WorkQueue:
    """Runs one job at a time; so many others may wait.

    Its methods are for the event loop's thread, apart from `stop` and `close`.
    """

    def __init__(self, waiting: int) -> None:
        """Start nothing yet.

        Args:
            waiting: how many jobs may wait while one runs.
        """
        self._waiting = waiting
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fastserve-model")
        self._unfinished: set[Job[Any]] = set()
        self._stopping = threading.Event()
        self._last_seconds = 1.0

    def submit(self, work: Work[T]) -> Job[T]:
        """Put work at the queue's end.

        Raises:
            Refusal: too many wait (429), or the server shuts down (503).
        """
        if self._stopping.is_set():
            raise shutting_down()
        if len(self._unfinished) > self._waiting:
            retry = min(max(math.ceil(self._last_seconds), 1), _LONGEST_RETRY)
            raise Refusal(
                429,
                f"The model is busy, and {self._waiting} more requests wait for it. Try again later.",
                "queue_full",
                headers={"Retry-After": str(retry)},
            )
        job = Job(work, self._stopping)
        self._unfinished.add(job)
        job._start(self._pool, self._finish)
        return job

    @property
    def unfinished(self) -> int:
        """How many jobs wait or run."""
        return len(self._unfinished)

    def stop(self) -> None:
        """End all jobs and take no more. May be called in any thread, and in a handler of signals."""
        self._stopping.set()

    def close(self) -> None:
        """Stop, and wait for what runs."""
        self.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _finish(self, job: Job[Any]) -> None:
        self._unfinished.discard(job)
        self._last_seconds = job.seconds or self._last_seconds


def shutting_down() -> Refusal:
    """Return what a client is told when the server ends."""
    return Refusal(503, "The server is shutting down.", "shutting_down")
