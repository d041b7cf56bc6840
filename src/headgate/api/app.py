"""The ASGI application: everything that is not a model call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

import headgate
from headgate.api.unserved import Unserved


class ReadinessCheck(Protocol):
    """Whether calls can be served."""

    def check(self) -> str | None:
        """None when they can; otherwise the reason in a few words."""
        ...


def build_app(
    *,
    health: ReadinessCheck,
    render_metrics: Callable[[], bytes],
    make_id: Callable[[str], str],
    platform: Sequence[BaseRoute] = (),
) -> Starlette:
    """The routes of operators: health, metrics, and what this is; with them, the platform API."""

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

    unserved = Unserved(make_id)
    app = Starlette(
        routes=[
            *platform,
            Route("/", root),
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", metrics),
        ],
        exception_handlers={404: unserved.refuse_address, 405: unserved.refuse_method},
    )
    app.router.redirect_slashes = False
    return app
