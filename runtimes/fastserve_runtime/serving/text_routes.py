"""The routes over models that give something for whole texts: embeddings, labels, ranks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from fastserve_runtime.bundle.raw_inputs import Text
from fastserve_runtime.serving.models import (
    FEATURE_EXTRACTION,
    TEXT_CLASSIFICATION,
    TEXT_RANKING,
    ComputedTexts,
    ServedModel,
    choose_model,
    computing,
)
from fastserve_runtime.serving.openai_requests import EmbeddingRequest, embedding_request
from fastserve_runtime.serving.openai_responses import Document, embeddings_document
from fastserve_runtime.serving.routes import Client, Endpoint, early_end, wanted
from fastserve_runtime.serving.scoring import (
    ClassificationRequest,
    RankingRequest,
    check_takes,
    classification_request,
    classifications_document,
    ranking_document,
    ranking_request,
)


class TextRequest(Protocol):
    """What requests of these routes have in common."""

    @property
    def model(self) -> str | None:
        """The id of the model; None if the request names none."""

    @property
    def samples(self) -> tuple[Text, ...]:
        """The texts or pairs, at least one."""

    @property
    def prompt(self) -> str | None:
        """The name of what is put before each; None: the default one."""


R = TypeVar("R", bound=TextRequest)


class TextEndpoint(Endpoint, Generic[R]):
    """A route that computes something for each text of a request.

    Attributes:
        TASK: of the models that it uses.
        FIELD: of requests, which the texts come from.
    """

    TASK: ClassVar[str]
    FIELD: ClassVar[str] = "input"

    @abstractmethod
    def _read(self, document: Document) -> R:
        """Return the request of a body, or raise a Refusal."""

    @abstractmethod
    def _answered(self, model: ServedModel, request: R, results: Sequence[Any], tokens: int) -> Document:
        """Return the answer with what the model gives for each text."""

    def _check(self, model: ServedModel, request: R) -> None:
        """Raise a Refusal for a request that the model cannot answer."""

    async def _answer(self, document: Document, deadline: float, client: Client) -> None:
        request = self._read(document)
        model = choose_model(self._models, request.model, self.TASK)
        self._check(model, request)
        job = model.queue.submit(
            computing(model, request.samples, self._settings.long_input, self.FIELD, request.prompt)
        )
        async with wanted(job, deadline, client):
            parts: list[ComputedTexts] = [part async for part in job.results()]
            results = [one for part in parts for one in part.results]
            if len(results) < len(request.samples):
                raise early_end(job.ending, self._settings.request_seconds)
            await client.answer(self._answered(model, request, results, sum(part.tokens for part in parts)))


class EmbeddingEndpoint(TextEndpoint[EmbeddingRequest]):
    """`POST /v1/embeddings`."""

    TASK = FEATURE_EXTRACTION

    def _read(self, document: Document) -> EmbeddingRequest:
        return embedding_request(document)

    def _answered(self, model: ServedModel, request: EmbeddingRequest, results: Sequence[Any], tokens: int) -> Document:
        return embeddings_document(model.name, results, request.encoding, tokens)


class ClassificationEndpoint(TextEndpoint[ClassificationRequest]):
    """`POST /v1/classify`."""

    TASK = TEXT_CLASSIFICATION

    def _read(self, document: Document) -> ClassificationRequest:
        return classification_request(document)

    def _check(self, model: ServedModel, request: ClassificationRequest) -> None:
        check_takes(model.pipeline, request)

    def _answered(
        self,
        model: ServedModel,
        request: ClassificationRequest,  # noqa: ARG002 -- as of others
        results: Sequence[Any],
        tokens: int,
    ) -> Document:
        return classifications_document(model.name, results, tokens)


class RankingEndpoint(TextEndpoint[RankingRequest]):
    """`POST /v1/rerank`."""

    TASK = TEXT_RANKING
    FIELD = "documents"

    def _read(self, document: Document) -> RankingRequest:
        return ranking_request(document)

    def _answered(self, model: ServedModel, request: RankingRequest, results: Sequence[Any], tokens: int) -> Document:
        return ranking_document(model.name, request, results, tokens)
