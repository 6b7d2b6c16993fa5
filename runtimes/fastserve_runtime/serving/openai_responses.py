"""Answers of OpenAI's API: documents, and events of streams."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fastserve_runtime.generation.finish import FinishReason, Generation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_runtime.serving.openai_requests import Encoding

Document = dict[str, Any]
END_OF_STREAM = "data: [DONE]\n\n"
_FINISH_REASONS: Mapping[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "context": "length",
    "cancelled": "length",
}


@dataclass(frozen=True)
class GenerationAnswer:
    """One answer to a request for text: its documents have the same id, model and time.

    Attributes:
        kind: of a conversation, or of a text that is continued.
        model: the model's id.
        include_usage: whether the stream ends with the counts of tokens; then its other events have a null for them.
        id: of the answer.
        created: seconds since 1970.
    """

    kind: Literal["chat", "completion"]
    model: str
    include_usage: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, generation: Generation) -> Document:
        """Return the document of a whole text."""
        message: Document = {"role": "assistant", "content": generation.text, "refusal": None}
        if generation.tool_calls:
            message |= {"content": generation.text or None, "tool_calls": _calls(generation)}
        content = {"text": generation.text} if self.kind == "completion" else {"message": message}
        reason = _reason(generation)
        return self._document([_choice(content, reason)], is_chunk=False, usage=_usage(generation))

    def beginning(self) -> list[Document]:
        """Return the documents that a stream begins with."""
        return [self._chunk({"role": "assistant", "content": ""})] if self.kind == "chat" else []

    def piece(self, text: str) -> Document:
        """Return the document of a piece of text."""
        return self._chunk({"content": text})

    def end(self, generation: Generation) -> list[Document]:
        """Return the documents that a stream ends with."""
        calls = [{"index": index, **call} for index, call in enumerate(_calls(generation))]
        last = [self._chunk({"tool_calls": calls})] if calls else []
        last.append(self._chunk({}, _reason(generation)))
        if not self.include_usage:
            return last
        return [*last, self._document([], is_chunk=True, usage=_usage(generation))]

    def _chunk(self, delta: Document, reason: str | None = None) -> Document:
        content = {"delta": delta} if self.kind == "chat" else {"text": delta.get("content", "")}
        usage = {"usage": None} if self.include_usage else {}
        return self._document([_choice(content, reason)], is_chunk=True) | usage

    def _document(self, choices: list[Document], *, is_chunk: bool, usage: Document | None = None) -> Document:
        prefix, name = ("chatcmpl", "chat.completion") if self.kind == "chat" else ("cmpl", "text_completion")
        # Chunks of completions are named as whole ones are.
        name += ".chunk" if is_chunk and self.kind == "chat" else ""
        document = {
            "id": f"{prefix}-{self.id}",
            "object": name,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        return document if usage is None else {**document, "usage": usage}


def embeddings_document(
    model: str, embeddings: Sequence[NDArray[np.float32]], encoding: Encoding, tokens: int
) -> Document:
    """Return the answer to a request for embeddings.

    Args:
        model: the model's id.
        embeddings: one a text, each of shape [d].
        encoding: lists of numbers, or base64 of little-endian float32.
        tokens: how many the texts have together.
    """
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(embedding, encoding)}
        for index, embedding in enumerate(embeddings)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def model_document(model: str, created: int) -> Document:
    """Return what `GET /v1/models/ID` answers; `created` is when it was loaded, in seconds since 1970."""
    return {"id": model, "object": "model", "created": created, "owned_by": "fastserve"}


def models_document(models: Sequence[Document]) -> Document:
    """Return what `GET /v1/models` answers, of the documents of each."""
    return {"object": "list", "data": list(models)}


def event(document: Document) -> str:
    """Return a document as a server-sent event (WHATWG HTML, 9.2)."""
    return f"data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _choice(content: Document, reason: str | None) -> Document:
    return {"index": 0, **content, "logprobs": None, "finish_reason": reason}


def _reason(generation: Generation) -> str:
    return "tool_calls" if generation.tool_calls else _FINISH_REASONS[generation.finish_reason]


def _calls(generation: Generation) -> list[Document]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in generation.tool_calls
    ]


def _usage(generation: Generation) -> Document:
    prompt, new = generation.prompt_tokens, len(generation.tokens)
    return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


def _encoded(embedding: NDArray[np.float32], encoding: Encoding) -> list[float] | str:
    values = embedding.astype("<f4", copy=False)
    if encoding == "base64":
        return base64.b64encode(values.tobytes()).decode("ascii")
    return [float(value) for value in values]
