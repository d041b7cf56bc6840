"""The ASGI application: everything that is not a model call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import headgate


class Health(Protocol):
    """Whether calls can be served."""

    def check(self) -> str | None:
        """None when they can; otherwise the reason in a few words."""
        ...


def build_app(
    *, health: Health, render_metrics: Callable[[], bytes], make_id: Callable[[str], str]
) -> Starlette:
    """The routes of operators: health, metrics, and what this is."""

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_request: Request) -> Response:
        reason = health.check()
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "unready", "reason": reason}, status_code=503)

    async def metrics(_request: Request) -> Response:
        return Response(render_metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def root(request: Request) -> Response:
        return JSONResponse(
            {
                "name": "Headgate",
                "version": headgate.__version__,
                "openai_base_url": f"{request.base_url}v1",
            }
        )

    async def unknown(request: Request, _error: Exception) -> Response:
        message = (
            f"Nothing is served at {request.method} {request.url.path}. "
            "OpenAI clients need a base URL that ends in /v1."
        )
        return refuse(404, message, "unknown_url")

    async def other_method(request: Request, error: Exception) -> Response:
        message = f"{request.method} is not possible on {request.url.path}."
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        return refuse(405, message, "method_not_allowed", headers)

    def refuse(
        status: int, message: str, code: str, headers: Mapping[str, str] | None = None
    ) -> Response:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        own = {"x-request-id": make_id("req"), "x-headgate-error-source": "gateway"}
        return JSONResponse({"error": error}, status, headers={**(headers or {}), **own})

    return Starlette(
        routes=[
            Route("/", root),
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", metrics),
        ],
        exception_handlers={404: unknown, 405: other_method},
    )
