"""The routes of OpenAI's API over the models of a server."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from fastserve_runtime.generation.finish import Generation
from fastserve_runtime.serving.models import TEXT_GENERATION, ServedModel, choose_model, generating
from fastserve_runtime.serving.openai_requests import chat_request, completion_request
from fastserve_runtime.serving.openai_responses import END_OF_STREAM, Document, GenerationAnswer, event
from fastserve_runtime.serving.refusal import Refusal, refusal_of
from fastserve_runtime.serving.request_body import read_document
from fastserve_runtime.serving.settings import ServerSettings
from fastserve_runtime.serving.work_queue import Ending, Job, shutting_down

_SENDING_SECONDS = 30.0
"""A client that takes nothing for so long counts as gone."""


class Endpoint(ABC):
    """A route that computes something, as an ASGI application: from a JSON object to JSON or a stream of events."""

    def __init__(self, models: Sequence[ServedModel], settings: ServerSettings) -> None:
        self._models, self._settings = models, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever happens, in the form of OpenAI's API."""
        started = time.monotonic()
        maximum = self._settings.request_seconds
        try:
            request = Request(scope, receive)
            limit = self._settings.max_request_bytes
            document = await read_document(request, max_bytes=limit, seconds=maximum)
            await self._answer(document, started + maximum, Client(scope, receive, send))
        except (ClientDisconnect, ClientGone):
            return
        except Exception as error:
            await error_response(refusal_of(error))(scope, receive, send)

    @abstractmethod
    async def _answer(self, document: Document, deadline: float, client: Client) -> None:
        """Answer a request.

        Args:
            document: its body.
            deadline: when it must end, by the monotonic clock.
            client: who asked.
        """


class GenerationEndpoint(Endpoint):
    """`POST /v1/chat/completions` and `POST /v1/completions`."""

    def __init__(
        self, models: Sequence[ServedModel], settings: ServerSettings, kind: Literal["chat", "completion"]
    ) -> None:
        super().__init__(models, settings)
        self._kind = kind

    async def _answer(self, document: Document, deadline: float, client: Client) -> None:
        request = chat_request(document) if self._kind == "chat" else completion_request(document)
        model = choose_model(self._models, request.model, TEXT_GENERATION)
        answer = GenerationAnswer(self._kind, model.name, request.include_usage)
        job = model.queue.submit(generating(model, request))
        async with wanted(job, deadline, client):
            if request.stream:
                await self._stream(answer, job, client)
                return
            generation = None
            async for item in job.results():
                generation = item if isinstance(item, Generation) else None
            await client.answer(answer.whole(self._ended(job, generation)))

    async def _stream(self, answer: GenerationAnswer, job: Job[str | Generation], client: Client) -> None:
        results = job.results()
        # What is refused is refused with a status of its own, so that the stream begins with the first result.
        first = await anext(results, None)
        generation = None if isinstance(first, str) else self._ended(job, first)
        await client.begin_events()
        try:
            await client.send_events(answer.beginning())
            if isinstance(first, str):
                await client.send_events([answer.piece(first)])
                async for item in results:
                    if isinstance(item, str):
                        await client.send_events([answer.piece(item)])
                    else:
                        generation = item
            await client.send_events(answer.end(self._ended(job, generation)))
            await client.end_events(END_OF_STREAM)
        except ClientGone:
            raise
        except Exception as error:
            await client.end_events(event(refusal_of(error).as_document()))

    def _ended(self, job: Job[Any], generation: Generation | None) -> Generation:
        """Return a generation that may be shown; one that the server cut off as it shuts down may not."""
        is_cut = generation is None or generation.finish_reason == "cancelled"
        if is_cut and (generation is None or job.ending is not Ending.TIME_LIMIT):
            raise early_end(job.ending, self._settings.request_seconds)
        assert generation is not None
        return generation


class ClientGone(Exception):
    """There is nobody to answer any more."""


class Client:
    """Who made a request: what is sent goes there, and it may go away."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send

    async def answer(self, document: Document) -> None:
        """Send a whole answer."""
        await JSONResponse(document)(self._scope, self._receive, self._send)

    async def begin_events(self) -> None:
        """Begin a stream of events."""
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await self._sent({"type": "http.response.start", "status": 200, "headers": headers})

    async def send_events(self, documents: Iterable[Document]) -> None:
        """Send some events."""
        body = "".join(map(event, documents)).encode()
        if body:
            await self._sent({"type": "http.response.body", "body": body, "more_body": True})

    async def end_events(self, last: str) -> None:
        """Send the last event and end the stream."""
        await self._sent({"type": "http.response.body", "body": last.encode(), "more_body": False})

    async def has_gone(self) -> None:
        """Return when the client has gone, or was answered."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _sent(self, message: dict[str, Any]) -> None:
        try:
            await asyncio.wait_for(self._send(message), _SENDING_SECONDS)
        except (asyncio.TimeoutError, OSError) as error:
            raise ClientGone from error


@asynccontextmanager
async def wanted(job: Job[Any], deadline: float, client: Client) -> AsyncIterator[None]:
    """End a job when its client goes, when its time is over, and when the block ends."""
    loop = asyncio.get_running_loop()
    watch = asyncio.create_task(client.has_gone())
    watch.add_done_callback(lambda task: None if task.cancelled() else job.end(Ending.CLIENT_GONE))
    alarm = loop.call_later(max(deadline - time.monotonic(), 0), job.end, Ending.TIME_LIMIT)
    try:
        yield
    finally:
        alarm.cancel()
        job.end(Ending.CLIENT_GONE)
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch


def early_end(ending: Ending | None, seconds: float) -> Exception:
    """Return what to raise for work that was ended before it gave anything to show."""
    if ending is Ending.CLIENT_GONE:
        return ClientGone()
    if ending is Ending.SHUTDOWN:
        return shutting_down()
    # Clients of OpenAI try again by themselves, unless they are told not to.
    headers = {"x-should-retry": "false"}
    return Refusal(503, f"The request was not done within {seconds:g} seconds.", "timeout", headers=headers)


def error_response(refusal: Refusal) -> JSONResponse:
    """Return a refusal as an HTTP response."""
    return JSONResponse(refusal.as_document(), status_code=refusal.status, headers=refusal.headers)
