"""The path of one request through the API: gate, query, body, handler, answer."""

from __future__ import annotations

import re

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from headgate.api.access_denials import find_denied_request
from headgate.api.errors import (
    JSON,
    InvalidFieldError,
    OutdatedVersionError,
    advise,
    describe,
    status_of,
)
from headgate.api.gate import Gate
from headgate.api.operation import (
    Operation,
    RepeatedRequestError,
    RequestContext,
    ResponseHead,
    read_match,
)
from headgate.api.principal import Principal
from headgate.api.reading import read_body, read_query, take_body
from headgate.api.services import Services
from headgate.kit.errors import HeadgateError
from headgate.kit.idempotency import IdempotencyClaim

REPETITION_KEY = re.compile(r"[\x21-\x7e]{1,255}")
VERSION_FIELD = "version"

SAFE_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Of every answer: it is for its asker alone, it is no page, and no page may show it."""

log = structlog.get_logger(__name__)


class OperationHandler:
    """Serves one operation."""

    def __init__(self, operation: Operation, services: Services, gate: Gate) -> None:
        self._operation = operation
        self._services = services
        self._gate = gate

    async def serve(self, request: Request) -> Response:
        """Answer a request; every error in the API's own shape."""
        request_id = self._services.ids.make("req")
        try:
            response = await self._answer(request)
        except HeadgateError as error:
            denied = find_denied_request(request, error)
            if denied is not None:
                self._services.denials.note(denied)
            response = render_error(error)
        except ClientDisconnect:
            # Nobody reads this: the edge has told a client that is too slow, others are gone.
            response = Response(status_code=408)
        # A fault of ours must not leave the client waiting; it is logged whole, and told in short.
        except Exception:
            log.exception("api.fault", request_id=request_id, operation=self._operation.id)
            response = render_fault(request_id)
        response.headers["x-request-id"] = request_id
        response.headers.update(SAFE_HEADERS)
        return response

    async def _answer(self, request: Request) -> Response:
        operation = self._operation
        admitted = await self._gate.admit(request, operation.access)
        query = read_query(request, operation.query)
        if operation.changes and read_match(request) is not None and not operation.is_versioned:
            raise OutdatedVersionError(
                "This has no versions, so that none is the one that was named."
            )
        raw = await take_body(request) if operation.changes else b""
        body = read_body(request, raw, operation.body) if operation.changes else operation.body()
        response_head = ResponseHead(operation.status)
        context = RequestContext(
            request,
            self._services,
            principal=admitted.principal,
            organization_id=admitted.organization_id,
            query=query,
            body=body,
            claim=read_claim(request, operation, admitted.principal, raw=raw),
            response_head=response_head,
        )
        try:
            answer = await operation.handler(context)
        except RepeatedRequestError as repeated:
            response_head.headers["idempotent-replayed"] = "true"
            return render(response_head, repeated.answer)
        version = getattr(answer, VERSION_FIELD, None)
        if isinstance(version, int):
            response_head.headers["etag"] = f'"{version}"'
        return render(
            response_head, None if operation.answer is None else msgspec.json.encode(answer)
        )


def read_claim(
    request: Request, operation: Operation, principal: Principal, *, raw: bytes
) -> IdempotencyClaim | None:
    """By what this request would be known again; None where it does not ask for that."""
    key = request.headers.get("idempotency-key")
    if key is None or operation.method != "POST":
        return None
    if not REPETITION_KEY.fullmatch(key):
        message = "An idempotency key is 1 to 255 printable characters without blanks."
        raise InvalidFieldError(message, ("header", "Idempotency-Key"))
    organization_id = request.headers.get("x-organization-id", "")
    target = f"{operation.method} {request.url.path} {organization_id} {principal.id}"
    return IdempotencyClaim(principal.token, key, target, raw)


def render(response_head: ResponseHead, body: bytes | None) -> Response:
    """An answer with its headers and cookies."""
    response = Response(
        body, response_head.status, response_head.headers, media_type=None if body is None else JSON
    )
    for cookie in response_head.cookies:
        response.headers.append("set-cookie", cookie)
    return response


def render_error(error: HeadgateError) -> Response:
    """An error in the API's own shape."""
    body = msgspec.json.encode(describe(error))
    return Response(body, status_of(error), advise(error), media_type=JSON)


def render_fault(request_id: str) -> Response:
    """A fault of ours: the log has the rest under the same id."""
    detail = f"Something went wrong here. The log has it under {request_id}."
    body = msgspec.json.encode({"detail": detail, "code": "internal_error"})
    return Response(body, 500, media_type=JSON)
