"""Scores of texts: requests and answers of `/v1/classify` and `/v1/rerank`.

OpenAI has neither. The forms are those of vLLM's server: classification as of its `/classify`, ranking as of Jina's and
Cohere's `rerank` (https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastserve_runtime.bundle.raw_inputs import Text
from fastserve_runtime.pipelines.text_classification import Classification, MultiLabelClassification
from fastserve_runtime.preprocessors.text_samples import is_pair
from fastserve_runtime.serving.openai_requests import MAX_TEXTS, OF_OTHER_SERVERS_FOR_TEXTS, texts_of
from fastserve_runtime.serving.openai_responses import Document
from fastserve_runtime.serving.refusal import Refusal
from fastserve_runtime.serving.request_fields import PROMPT_NAME, RequestFields, message_text, wrong


@dataclass(frozen=True)
class ClassificationRequest:
    """Texts, or pairs of texts, to be classified.

    Attributes:
        model: the id of the model; None if the request names none.
        samples: at least one.
        prompt: the name of what is put before each; None: what the model usually has there, `""`: nothing.
    """

    model: str | None
    samples: tuple[Text, ...]
    prompt: str | None = None


@dataclass(frozen=True)
class RankingRequest:
    """Documents to be ranked for a query.

    Attributes:
        model: the id of the model; None if the request names none.
        query: what is looked for.
        documents: at least one.
        top_n: so many of the best are wanted; None for all.
        returns_documents: whether the answer has their texts.
        prompt: the name of what is put before the query; None: what the model usually has there, `""`: nothing.
    """

    model: str | None
    query: str
    documents: tuple[str, ...]
    top_n: int | None
    returns_documents: bool
    prompt: str | None = None

    @property
    def samples(self) -> tuple[Text, ...]:
        """The pairs of query and document."""
        return tuple((self.query, document) for document in self.documents)


_SCORES_AS_THEY_COME: Mapping[str, bool] = {
    "activation": True,
    "use_activation": True,
    "softmax": True,
    "raw_scores": False,
}
"""What other servers take to give logits instead of scores, with the value that asks for scores."""


def _fields(document: Mapping[str, Any]) -> RequestFields:
    fields = RequestFields(document)
    for name, usual in _SCORES_AS_THEY_COME.items():
        fields.only(name, usual)
    for name in OF_OTHER_SERVERS_FOR_TEXTS:
        fields.only(name)
    return fields


def classification_request(document: Mapping[str, Any]) -> ClassificationRequest:
    """Read the body of `POST /v1/classify`: `input` is a text, a list of texts, or a list of pairs of texts.

    Raises:
        Refusal: a field is wrong.
    """
    fields = _fields(document)
    value = fields.value("input")
    if isinstance(value, list) and 0 < len(value) <= MAX_TEXTS and all(is_pair(sample) for sample in value):
        samples: tuple[Text, ...] = tuple((sample[0], sample[1]) for sample in value)
    else:
        samples = texts_of(value, "input")
    return ClassificationRequest(fields.text("model"), samples, fields.text(PROMPT_NAME))


def ranking_request(document: Mapping[str, Any]) -> RankingRequest:
    """Read the body of `POST /v1/rerank`: documents are strings, or objects with a `text`.

    Raises:
        Refusal: a field is wrong.
    """
    fields = _fields(document)
    fields.only("rank_fields")
    query = fields.value("query")
    if not isinstance(query, str) or not query:
        raise wrong("query", query, "a string that is not empty")
    documents = fields.value("documents")
    if not isinstance(documents, list) or not 0 < len(documents) <= MAX_TEXTS:
        raise wrong("documents", documents, f"a list of 1 to {MAX_TEXTS} texts")
    texts = tuple(
        message_text(d.get("text") if isinstance(d, dict) else d, f"documents[{n}]") for n, d in enumerate(documents)
    )
    returns = fields.value("return_documents")
    return RankingRequest(
        fields.text("model"),
        query,
        texts,
        fields.integer("top_n", 0, MAX_TEXTS) or None,  # 0 is all on some servers
        returns is None or fields.flag("return_documents"),
        fields.text(PROMPT_NAME),
    )


def classifications_document(model: str, results: Sequence[Classification], tokens: int) -> Document:
    """Return the answer to a request for labels; where several may be right, `labels` are those that are."""
    data = []
    for index, result in enumerate(results):
        one: Document = {
            "index": index,
            "label": result.label,
            "probs": list(result.scores.values()),
            "num_classes": len(result.scores),
            "scores": dict(result.scores),
        }
        if isinstance(result, MultiLabelClassification):
            one["labels"] = list(result.labels)
        data.append(one)
    return {
        "id": f"classify-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def ranking_document(model: str, request: RankingRequest, results: Sequence[float], tokens: int) -> Document:
    """Return the answer to a request for an order of documents, the best first; of equal ones the earlier given."""
    order = sorted(range(len(results)), key=lambda index: -float(results[index]))[: request.top_n]
    ranked = []
    for index in order:
        one: Document = {"index": index, "relevance_score": float(results[index])}
        if request.returns_documents:
            one["document"] = {"text": request.documents[index]}
        ranked.append(one)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"id": f"rerank-{uuid.uuid4().hex}", "model": model, "results": ranked, "usage": usage}


def check_takes(pipeline: Any, request: ClassificationRequest) -> None:
    """Refuse pairs to a model of single texts, and the other way round.

    Raises:
        Refusal: naming what the model takes.
    """
    takes_pairs = bool(pipeline.preprocessor.takes_pairs)
    if takes_pairs != (not isinstance(request.samples[0], str)):
        wanted = "a list of pairs of texts: the model was exported for pairs" if takes_pairs else "texts, no pairs"
        raise Refusal(400, f"input is not what the model takes. Give {wanted}.", parameter="input")
