"""The models of a server: bundles that are opened, and how their work is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation.finish import Generation
from fastserve_runtime.generation.grammar import GrammarRefused
from fastserve_runtime.plugins import PIPELINES
from fastserve_runtime.serving.openai_requests import GenerationRequest
from fastserve_runtime.serving.refusal import Refusal
from fastserve_runtime.serving.request_fields import PROMPT_NAME
from fastserve_runtime.serving.settings import LongInput
from fastserve_runtime.serving.work_queue import Work, WorkQueue

if TYPE_CHECKING:
    from fastserve_runtime.bundle.raw_inputs import Text
    from fastserve_runtime.pipelines import Pipeline

    Load = Callable[[Path], Pipeline]

TEXT_GENERATION, FEATURE_EXTRACTION = "text-generation", "feature-extraction"
TEXT_CLASSIFICATION, TEXT_RANKING = "text-classification", "text-ranking"
_ROUTES: Mapping[str, str] = {
    TEXT_GENERATION: "/v1/chat/completions and /v1/completions",
    FEATURE_EXTRACTION: "/v1/embeddings",
    TEXT_CLASSIFICATION: "/v1/classify",
    TEXT_RANKING: "/v1/rerank",
}
_SENTENCE_EMBEDDING = "sentence_embedding"


@dataclass(frozen=True)
class ServedModel:
    """A model with the queue of its requests.

    Attributes:
        name: its id in requests.
        pipeline: of one of the tasks that are served.
        queue: runs the pipeline, which serves one thread.
        created: when it was opened, in seconds since 1970.
    """

    name: str
    pipeline: Any
    queue: WorkQueue
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def task(self) -> str:
        """The pipeline's task."""
        return str(self.pipeline.task)


@dataclass(frozen=True)
class ComputedTexts:
    """What a model gives for some of a request's texts, in their order, and how many tokens these texts have."""

    results: Sequence[Any]
    tokens: int


def model_name(bundle: Path) -> str:
    """Return the id of a bundle's model: the bundle's file name without its endings."""
    return bundle.resolve().name.removesuffix(".zip").removesuffix(".fsb")


@contextmanager
def opened_models(
    bundles: Sequence[Path],
    load: Load,
    *,
    waiting: int,
) -> Iterator[tuple[ServedModel, ...]]:
    """Open bundles, and at the end of the block wait for what they compute and close them.

    Args:
        bundles: at least one.
        load: opens a bundle, as `fastserve_runtime.load` does.
        waiting: how many requests to a model may wait while it computes another.

    Raises:
        UsageError: two bundles have the same name, or there is no server for a bundle's task.
        FastServeError: a bundle cannot be opened; see `fastserve_runtime.load`.
    """
    names = [model_name(bundle) for bundle in bundles]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"Two bundles are named '{twice}'.", "Rename one: requests choose a model by that name.")
    with ExitStack() as opened:
        models = []
        for name, bundle in zip(names, bundles, strict=True):
            pipeline = opened.enter_context(load(bundle))
            check_served(name, pipeline)
            queue = WorkQueue(waiting)
            opened.callback(queue.close)
            models.append(ServedModel(name, pipeline, queue))
        yield tuple(models)


def check_served(name: str, pipeline: Any) -> None:
    """Refuse a model that no route serves.

    Raises:
        UsageError: its task is not served, or it gives no embedding of a whole text.
    """
    if route_of(pipeline.task) is None:
        served = [task for task in PIPELINES.built_in() if route_of(task) is not None]
        raise UsageError(
            f"'{name}' is of the task {pipeline.task}; only {', '.join(served)} are served.",
            "Run it with fastserve-runtime run.",
        )
    if pipeline.task == FEATURE_EXTRACTION:
        outputs = {output.name for graph in pipeline.session.graphs.values() for output in graph.outputs}
        if _SENTENCE_EMBEDDING not in outputs:
            raise UsageError(
                f"'{name}' gives hidden states of every token, not one embedding of a text.",
                "Export a checkpoint with pooling.",
            )


def route_of(task: str) -> str | None:
    """Return the routes of a task, in words; None where it is not served. A pipeline's module may say its own."""
    own: str | None = _ROUTES.get(task) or getattr(PIPELINES.load(task), "ROUTE", None)
    return own


def choose_model(models: Sequence[ServedModel], name: str | None, task: str) -> ServedModel:
    """Return the model that a request means.

    Args:
        models: all of the server.
        name: from the request; None means the only one of the task.
        task: what the request's route does.

    Raises:
        Refusal: there is no such model (404), it has another task, or several would do (400).
    """
    if name is None:
        fitting = [model for model in models if model.task == task]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            known = ", ".join(model.name for model in fitting)
            raise Refusal(400, f"The request names no model. Give one of {known}.", parameter="model")
        raise Refusal(404, f"This server has no model of the task {task}.", "model_not_found", parameter="model")
    for model in models:
        if model.name == name:
            if model.task != task:
                raise Refusal(
                    400,
                    f"The model '{name}' is of the task {model.task}. Use {route_of(model.task)}.",
                    parameter="model",
                )
            return model
    known = ", ".join(model.name for model in models)
    raise Refusal(404, f"There is no model '{name:.60}'. Give one of {known}.", "model_not_found", parameter="model")


def generating(model: ServedModel, request: GenerationRequest) -> Work[str | Generation]:
    """Return the work of a request for text: it yields pieces, and then the whole generation."""

    def work(is_cancelled: Callable[[], bool]) -> Iterator[str | Generation]:
        try:
            stream = model.pipeline.stream(request.prompt, is_cancelled=is_cancelled, **request.options)
        except GrammarRefused as error:
            field = "tools" if "tools" in request.options else "response_format"
            raise Refusal(400, str(error), parameter=field) from error
        yield from stream
        if stream.result is not None:
            yield stream.result

    return work


def computing(
    model: ServedModel, samples: Sequence[Text], long_input: LongInput, field: str, prompt: str | None = None
) -> Work[ComputedTexts]:
    """Return the work of a request for what a model gives for texts or pairs: as many at a time as the model takes.

    The work raises a Refusal for a prompt that the model does not have, and for a text that is too long, unless
    `long_input` says what becomes of such; pairs cannot be split.

    Args:
        model: of any task but text generation.
        samples: at least one.
        long_input: what becomes of those that are too long.
        field: the request's field that they come from, for messages.
        prompt: the name of what is put before each; None: the default one; `""`: nothing.
    """
    from fastserve_runtime.preprocessors.text_prompts import chosen_prompt
    from fastserve_runtime.sessions.batching import batch_size

    def work(is_cancelled: Callable[[], bool]) -> Iterator[ComputedTexts]:
        preprocessor = model.pipeline.preprocessor
        maximum = preprocessor.settings.sequence_length
        try:
            chosen_prompt(preprocessor.settings.prompts, prompt)
        except UsageError as error:
            raise Refusal(400, str(error), parameter=PROMPT_NAME) from error
        counts = [preprocessor.count_tokens(sample, prompt) for sample in samples]
        too_long = next((i for i, count in enumerate(counts) if count > maximum), None)
        may_split = isinstance(samples[0], str)
        if too_long is not None and (long_input == "error" or (long_input == "split" and not may_split)):
            ways = "split or truncate" if may_split else "truncate"
            raise Refusal(
                400,
                f"{field}[{too_long}] has {counts[too_long]} tokens; the model takes {maximum}. Shorten it, or start "
                f"the server with --long-input {ways}.",
                "context_length_exceeded",
                parameter=field,
            )
        treatment = "split" if long_input == "split" else "truncate"
        size = max(batch_size(graph)[0] for graph in model.pipeline.session.graphs.values())
        for start in range(0, len(counts), size):
            if is_cancelled():
                return
            part = slice(start, start + size)
            taken = counts[part] if treatment == "split" else [min(count, maximum) for count in counts[part]]
            yield ComputedTexts(
                list(model.pipeline(list(samples[part]), long_text=treatment, prompt=prompt)), sum(taken)
            )

    return work
