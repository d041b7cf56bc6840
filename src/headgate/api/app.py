"""Builds the ASGI application: everything that is not a model call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

import headgate
from headgate.api.not_found import NotFoundHandler


class ReadinessCheck(Protocol):
    def check(self) -> str | None:
        """Return None if calls can be served, or the reason in a few words."""
        ...


def build_app(
    *,
    health: ReadinessCheck,
    render_metrics: Callable[[], bytes],
    make_id: Callable[[str], str],
    platform: Sequence[BaseRoute] = (),
) -> Starlette:
    """Build the application: health, metrics, the root page, and the routes of the platform API."""

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

    not_found = NotFoundHandler(make_id)
    app = Starlette(
        routes=[
            *platform,
            Route("/", root),
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", metrics),
        ],
        exception_handlers={
            404: not_found.answer_not_found,
            405: not_found.answer_method_not_allowed,
        },
    )
    app.router.redirect_slashes = False
    return app
