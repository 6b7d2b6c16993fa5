"""Routes that tasks bring with their pipelines: their modules say the path and answer a request's JSON.

A module offers `ROUTE`, such as `/v1/answer`, and `served(pipeline, document)`, which gives a JSON object for each
input of a request's body, or raises a UsageError or an InputError that says what is wrong with it. The server reads
`model`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from fastserve_runtime.errors import InputError, UsageError
from fastserve_runtime.plugins import PIPELINES
from fastserve_runtime.serving.models import ServedModel, choose_model, route_of
from fastserve_runtime.serving.openai_responses import Document
from fastserve_runtime.serving.refusal import Refusal
from fastserve_runtime.serving.request_fields import RequestFields
from fastserve_runtime.serving.routes import Client, Endpoint, early_end, wanted
from fastserve_runtime.serving.settings import ServerSettings
from fastserve_runtime.serving.work_queue import Work

MODEL = "model"


class Served(Protocol):
    """What a pipeline's module calls `served`."""

    def __call__(self, pipeline: Any, document: Mapping[str, Any]) -> Iterator[Document]:
        """Give a JSON object for each input of a request's body, less `model`."""


class TaskEndpoint(Endpoint):
    """A task's own route."""

    def __init__(self, models: Sequence[ServedModel], settings: ServerSettings, task: str, served: Served) -> None:
        super().__init__(models, settings)
        self._task, self._served = task, served

    async def _answer(self, document: Document, deadline: float, client: Client) -> None:
        model = choose_model(self._models, RequestFields(document).text(MODEL), self._task)
        own = {name: value for name, value in document.items() if name != MODEL and value is not None}
        job = model.queue.submit(self._work(model, own))
        async with wanted(job, deadline, client):
            data = [one async for one in job.results()]
            if job.ending is not None:
                raise early_end(job.ending, self._settings.request_seconds)
            await client.answer(
                {
                    "id": f"{self._task}-{uuid.uuid4().hex}",
                    "object": "list",
                    "created": int(time.time()),
                    "model": model.name,
                    "data": [{"index": index, **one} for index, one in enumerate(data)],
                }
            )

    def _work(self, model: ServedModel, document: Mapping[str, Any]) -> Work[Document]:
        def work(is_cancelled: Callable[[], bool]) -> Iterator[Document]:
            try:
                for one in self._served(model.pipeline, document):
                    yield one
                    if is_cancelled():
                        return
            except (UsageError, InputError) as error:
                raise Refusal(400, str(error)) from error

        return work


def task_endpoints(models: Sequence[ServedModel], settings: ServerSettings) -> Iterator[tuple[str, TaskEndpoint]]:
    """Give the path and the endpoint of each served task that brings its own."""
    for task in sorted({model.task for model in models}):
        module = PIPELINES.load(task)
        path = route_of(task)
        if path is not None and hasattr(module, "served"):
            yield path, TaskEndpoint(models, settings, task, module.served)
