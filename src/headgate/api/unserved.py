"""What is answered where nothing is served: in OpenAI's shape, and in the API's own below /api."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headgate.api.errors import NOT_FOUND
from headgate.api.operation_handler import SAFE_HEADERS
from headgate.kit.http.base_url import build_base_url

API_PREFIX = "/api/"


class Unserved:
    """The answers to unknown addresses and methods."""

    def __init__(self, make_id: Callable[[str], str]) -> None:
        self._make_id = make_id

    async def refuse_address(self, request: Request, _error: Exception) -> Response:
        """404."""
        if request.url.path.startswith(API_PREFIX):
            return self._refuse_api(404, NOT_FOUND)
        message = (
            f"Nothing is served at {request.method} {request.url.path}. "
            f"OpenAI clients need a base URL that ends in /v1: {guess(request)}"
        )
        return self._refuse(404, message, "unknown_url")

    async def refuse_method(self, request: Request, error: Exception) -> Response:
        """405."""
        message = f"{request.method} is not possible on {request.url.path}."
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        if request.url.path.startswith(API_PREFIX):
            body = {"detail": message, "code": "method_not_allowed"}
            return self._refuse_api(405, body, headers)
        return self._refuse(405, message, "method_not_allowed", headers)

    def _refuse(
        self, status: int, message: str, code: str, headers: Mapping[str, str] | None = None
    ) -> Response:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        own = {"x-request-id": self._make_id("req"), "x-headgate-error-source": "gateway"}
        return JSONResponse({"error": error}, status, headers={**(headers or {}), **own})

    def _refuse_api(
        self, status: int, body: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> Response:
        own = {"x-request-id": self._make_id("req"), **SAFE_HEADERS}
        return JSONResponse(body, status, headers={**(headers or {}), **own})


def guess(request: Request) -> str:
    """Return the base URL that the client should have had."""
    return build_base_url(request.headers.raw, scheme=request.url.scheme)
