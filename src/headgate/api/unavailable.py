"""Answers requests to the platform API with an error while there is no database."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from headgate.kit.errors import HeadgateError

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def build_unavailable_routes(error: HeadgateError, retry_after_seconds: float) -> list[BaseRoute]:
    """Return routes that answer every request below `/api` with one error."""
    headers = {"retry-after": f"{retry_after_seconds:.0f}"}
    body = {"detail": error.message, "code": error.code}

    async def refuse(_request: Request) -> Response:
        return JSONResponse(body, error.kind.value, headers=headers)

    return [Route("/api/{path:path}", refuse, methods=METHODS)]
