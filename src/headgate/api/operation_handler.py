"""Handles a request of the platform API: authorization, query, body, the operation itself,
response."""

from __future__ import annotations

import functools
import re

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from headgate.api.access_denials import find_denied_request
from headgate.api.download import Download
from headgate.api.error_format import ENVELOPED, MANAGED, OPENAI, PLATFORM, ErrorFormat
from headgate.api.errors import JSON, InvalidFieldError, OutdatedVersionError
from headgate.api.event_stream import ServerSentEvents
from headgate.api.gate import ORGANIZATION_HEADER, AuthorizedPrincipal, Gate
from headgate.api.large_bodies import LargeBodies
from headgate.api.operation import (
    CheckAccess,
    Operation,
    RepeatedRequestError,
    RequestContext,
    ResponseHead,
    parse_if_match,
)
from headgate.api.parsing import parse_body, parse_query, receive_body
from headgate.api.schemas.fields import FileBody, RawBody
from headgate.api.services import Services
from headgate.api.vmx_errors import VmxErrorFormat, find_missing_code
from headgate.kit.errors import HeadgateError
from headgate.kit.idempotency import IdempotencyClaim
from headgate.signatures.model import check_body

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
VERSION_FIELD = "version"

SECURITY_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Sent with every response: it must not be cached, run as a page, or be shown in one."""

log = structlog.get_logger(__name__)


class OperationHandler:
    def __init__(
        self, operation: Operation, services: Services, gate: Gate, large_bodies: LargeBodies
    ) -> None:
        self._operation = operation
        self._services = services
        self._gate = gate
        self._large_bodies = large_bodies

    async def serve(self, request: Request) -> Response:
        """Answer a request; errors are answered in the platform API's format."""
        request_id = self._services.ids.make("req")
        error_format = choose_error_format(self._operation)
        try:
            response = await self._answer(request, request_id)
        except HeadgateError as error:
            denied = find_denied_request(request, error)
            if denied is not None:
                self._services.denials.record(denied)
            response = error_format.render(error)
        except ClientDisconnect:
            # Nobody reads this: the edge has answered a slow client, others have disconnected.
            response = Response(status_code=408)
        # The client must get an answer, but no details: the log has those.
        except Exception:
            log.exception("api.fault", request_id=request_id, operation=self._operation.id)
            response = error_format.render_fault(request_id)
        response.headers["x-request-id"] = request_id
        if self._operation.is_v1:
            response.headers["x-headgate-request-id"] = request_id
        response.headers.update(SECURITY_HEADERS)
        return response

    async def _answer(self, request: Request, request_id: str) -> Response:
        operation = self._operation
        admit = functools.partial(
            self._gate.admit,
            request,
            operation.access,
            is_key_enough=operation.is_v1 or operation.is_vmx,
        )
        admitted = await admit()
        with self._large_bodies.hold(request, operation.body_bytes_max):
            return await self._run(request, request_id, admitted, admit)

    async def _run(
        self,
        request: Request,
        request_id: str,
        admitted: AuthorizedPrincipal,
        admit: CheckAccess,
    ) -> Response:
        operation = self._operation
        query = parse_query(request, operation.query)
        if operation.changes and parse_if_match(request) is not None and not operation.is_versioned:
            raise OutdatedVersionError(
                "This object has no versions. Send the request without If-Match."
            )
        raw = b""
        if operation.changes:
            raw = await receive_body(request, operation.body_bytes_max)
        signed = admitted.principal.signed
        if signed is not None:
            check_body(signed, raw)
            await self._services.signatures.claim(signed)
        is_read = operation.changes and operation.body is not RawBody
        body = parse_body(request, raw, operation.body) if is_read else operation.body()
        response_head = ResponseHead(operation.status)
        context = RequestContext(
            request,
            self._services,
            principal=admitted.principal,
            organization_id=admitted.organization_id,
            query=query,
            body=body,
            claim=build_idempotency_claim(request, operation, admitted, raw=raw),
            response_head=response_head,
            raw=raw,
            check_access=admit,
            request_id=request_id,
        )
        try:
            answer = await operation.handler(context)
        except RepeatedRequestError as repeated:
            response_head.headers["idempotent-replayed"] = "true"
            return render(response_head, repeated.answer)
        if isinstance(answer, FileBody):
            return render_file(response_head, answer)
        if isinstance(answer, Download | ServerSentEvents):
            return answer.to_response(response_head.status, response_head.headers)
        version = getattr(answer, VERSION_FIELD, None)
        if isinstance(version, int):
            response_head.headers["etag"] = f'"{version}"'
        return render(
            response_head, None if operation.answer is None else msgspec.json.encode(answer)
        )


def choose_error_format(operation: Operation) -> ErrorFormat:
    if operation.is_v1:
        return OPENAI
    if operation.is_vmx:
        return VmxErrorFormat(find_missing_code(operation.path))
    if operation.is_enveloped:
        return ENVELOPED
    return MANAGED if operation.is_managed else PLATFORM


def build_idempotency_claim(
    request: Request, operation: Operation, admitted: AuthorizedPrincipal, *, raw: bytes
) -> IdempotencyClaim | None:
    """Return what the request is recognized by when it is repeated; None without an idempotency
    key."""
    key = request.headers.get("idempotency-key")
    if key is None or operation.method != "POST":
        return None
    if not IDEMPOTENCY_KEY.fullmatch(key):
        message = "An idempotency key is 1 to 255 printable characters without blanks."
        raise InvalidFieldError(message, ("header", "Idempotency-Key"))
    principal = admitted.principal
    organization_id = admitted.organization_id or request.headers.get(ORGANIZATION_HEADER, "")
    target = f"{operation.method} {request.url.path} {organization_id} {principal.id}"
    return IdempotencyClaim(principal.token, key, target, raw)


def render(response_head: ResponseHead, body: bytes | None) -> Response:
    response = Response(
        body, response_head.status, response_head.headers, media_type=None if body is None else JSON
    )
    for cookie in response_head.cookies:
        response.headers.append("set-cookie", cookie)
    return response


def render_file(response_head: ResponseHead, file: FileBody) -> Response:
    response_head.headers["content-disposition"] = f'attachment; filename="{file.name}"'
    return Response(
        file.content, response_head.status, response_head.headers, media_type=file.media_type
    )
