"""The ASGI application: routes, who may use them, and errors in one form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fastserve_runtime.serving.access import LOOPBACK_NAMES, is_authorized
from fastserve_runtime.serving.models import ServedModel
from fastserve_runtime.serving.openai_responses import model_document, models_document
from fastserve_runtime.serving.refusal import Refusal
from fastserve_runtime.serving.routes import GenerationEndpoint, error_response
from fastserve_runtime.serving.settings import ServerSettings
from fastserve_runtime.serving.task_routes import task_endpoints
from fastserve_runtime.serving.text_routes import ClassificationEndpoint, EmbeddingEndpoint, RankingEndpoint

HEALTH = "/health"


def application(models: Sequence[ServedModel], settings: ServerSettings) -> Starlette:
    """Return the application that serves models.

    Without a token, which is for loopback only, requests must name this machine as their host: else a page of a
    stranger could reach the server by a name of its own that leads here (DNS rebinding).
    """
    routes = [
        Route(HEALTH, _health),
        Route("/v1/models", _models(models)),
        Route("/v1/models/", _models(models)),
        Route("/v1/models/{model:path}", _model(models)),
        Route("/v1/chat/completions", GenerationEndpoint(models, settings, "chat"), methods=["POST"]),
        Route("/v1/completions", GenerationEndpoint(models, settings, "completion"), methods=["POST"]),
        Route("/v1/embeddings", EmbeddingEndpoint(models, settings), methods=["POST"]),
        Route("/v1/classify", ClassificationEndpoint(models, settings), methods=["POST"]),
        Route("/v1/rerank", RankingEndpoint(models, settings), methods=["POST"]),
        *(Route(path, endpoint, methods=["POST"]) for path, endpoint in task_endpoints(models, settings)),
    ]
    if settings.token is None:
        guard = Middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK_NAMES, settings.host], www_redirect=False)
    else:
        guard = Middleware(TokenRequired, token=settings.token)
    return Starlette(routes=routes, middleware=[guard], exception_handlers={HTTPException: _http_error})


class TokenRequired:
    """Lets requests through that bring the token; `/health` needs none."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        is_open = scope["type"] != "http" or scope["path"] == HEALTH
        if is_open or is_authorized(Headers(scope=scope).get("authorization"), self._token):
            await self._app(scope, receive, send)
            return
        refusal = Refusal(
            401,
            "The request has no token, or not the one of this server. Send it as 'Authorization: Bearer TOKEN'.",
            "invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
        await error_response(refusal)(scope, receive, send)


async def _health(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


def _models(models: Sequence[ServedModel]) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def listed(_: Request) -> JSONResponse:
        return JSONResponse(models_document([model_document(m.name, m.created) for m in models]))

    return listed


def _model(models: Sequence[ServedModel]) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def shown(request: Request) -> JSONResponse:
        name = request.path_params["model"].removesuffix("/")
        for model in models:
            if model.name == name:
                return JSONResponse(model_document(model.name, model.created))
        return error_response(Refusal(404, f"There is no model '{name:.60}'.", "model_not_found", parameter="model"))

    return shown


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    messages = {
        404: f"There is no route '{request.url.path:.60}'.",
        405: f"The route '{request.url.path:.60}' does not take {request.method}.",
    }
    message = messages.get(error.status_code, error.detail)
    return error_response(Refusal(error.status_code, message, headers=error.headers))
