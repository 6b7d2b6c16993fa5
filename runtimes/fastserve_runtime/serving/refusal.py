"""Requests that are not served, told in the form of OpenAI's API."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastserve_runtime.errors import FastServeError, UsageError
from fastserve_runtime.generation.context import PromptTooLong

_logger = logging.getLogger(__name__)


class Refusal(Exception):
    """An answer that says why there is none.

    Attributes:
        status: of HTTP.
        message: one sentence of what is wrong, and mostly one of what to do.
        code: a word for programs, such as `context_length_exceeded`; None where OpenAI has none.
        parameter: the request's field that is wrong, None if it is no single one.
        headers: more headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        parameter: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.parameter = status, message, code, parameter
        self.headers = dict(headers or {})

    def as_document(self) -> dict[str, Any]:
        """Return OpenAI's error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        if self.status == 429:
            kind = "rate_limit_error"
        return {"error": {"message": self.message, "type": kind, "param": self.parameter, "code": self.code}}


def refusal_of(error: Exception) -> Refusal:
    """Return what a client is told of an error that came of its request.

    What the client can change is told in the error's own words. What failed here is logged; of an error that nobody
    expected, the client gets no details.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, PromptTooLong):
        return Refusal(400, f"{error.problem} Shorten it.", "context_length_exceeded")
    if isinstance(error, UsageError):
        return Refusal(400, str(error))
    _logger.debug("A request failed.", exc_info=error)
    if isinstance(error, FastServeError):
        _logger.error("A request failed: %r", str(error))
        return Refusal(500, str(error))
    _logger.error("A request failed with an error that nobody expected: %r", error)
    return Refusal(500, "The server met an error that it did not expect.")
