"""Answers requests to the platform API with an error while there is no database."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from headgate.api.error_format import FROM_GATEWAY
from headgate.kit.errors import HeadgateError
from headgate.llm import error_object

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def build_unavailable_routes(error: HeadgateError, retry_after_seconds: float) -> list[BaseRoute]:
    """Return routes that answer every request below `/api` and `/v1` with one error."""
    headers = {"retry-after": f"{retry_after_seconds:.0f}"}
    body = {"detail": error.message, "code": error.code}

    async def refuse(_request: Request) -> Response:
        return JSONResponse(body, error.kind.value, headers=headers)

    async def refuse_v1(_request: Request) -> Response:
        openai_body = {"error": error_object.describe(error)}
        return JSONResponse(openai_body, error.kind.value, headers={**headers, **FROM_GATEWAY})

    return [
        Route("/api/{path:path}", refuse, methods=METHODS),
        Route("/v1/{path:path}", refuse_v1, methods=METHODS),
    ]
