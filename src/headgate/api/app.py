"""The ASGI application: everything that is not a model call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import headgate


class Health(Protocol):
    """Whether calls can be served."""

    def check(self) -> str | None:
        """None when they can; otherwise the reason in a few words."""
        ...


def build_app(*, health: Health, render_metrics: Callable[[], bytes]) -> Starlette:
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
        body = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        return JSONResponse({"error": body}, status_code=404)

    return Starlette(
        routes=[
            Route("/", root),
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", metrics),
        ],
        exception_handlers={404: unknown},
    )
