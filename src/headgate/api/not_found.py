"""Answers requests to unknown paths and methods: in OpenAI's format, and below /api in the
platform API's."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headgate.api.error_format import FROM_GATEWAY
from headgate.api.errors import NOT_FOUND
from headgate.api.operation_handler import SECURITY_HEADERS
from headgate.kit.http.base_url import build_base_url
from headgate.llm.routes import find_client_base_url

API_PREFIX = "/api/"


class NotFoundHandler:
    def __init__(self, make_id: Callable[[str], str]) -> None:
        self._make_id = make_id

    async def answer_not_found(self, request: Request, _error: Exception) -> Response:
        if request.url.path.startswith(API_PREFIX):
            return self._answer_api(404, NOT_FOUND)
        known = guess_client_base_url(request)
        needed = find_client_base_url(known, request.url.path, request.headers.raw)
        advice = (
            "OpenAI clients need a base URL that ends in /v1"
            if needed == known
            else "Anthropic clients need this base URL"
        )
        message = f"Nothing is served at {request.method} {request.url.path}. {advice}: {needed}"
        return self._answer_openai(404, message, "unknown_url")

    async def answer_method_not_allowed(self, request: Request, error: Exception) -> Response:
        message = f"{request.method} is not possible on {request.url.path}."
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        if request.url.path.startswith(API_PREFIX):
            body = {"detail": message, "code": "method_not_allowed"}
            return self._answer_api(405, body, headers)
        return self._answer_openai(405, message, "method_not_allowed", headers)

    def _answer_openai(
        self, status: int, message: str, code: str, headers: Mapping[str, str] | None = None
    ) -> Response:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        request_id = self._make_id("req")
        own = {"x-request-id": request_id, "x-headgate-request-id": request_id, **FROM_GATEWAY}
        return JSONResponse({"error": error}, status, headers={**(headers or {}), **own})

    def _answer_api(
        self, status: int, body: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> Response:
        own = {"x-request-id": self._make_id("req"), **SECURITY_HEADERS}
        return JSONResponse(body, status, headers={**(headers or {}), **own})


def guess_client_base_url(request: Request) -> str:
    return build_base_url(request.headers.raw, scheme=request.url.scheme)
