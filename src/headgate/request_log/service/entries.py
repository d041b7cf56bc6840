"""Build the rows of the request log from what was followed."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Headers
from headgate.llm.usage import Usage
from headgate.relay.call_state import CallState
from headgate.relay.ports import Receipt
from headgate.relay.request_log import RefusedRequest
from headgate.relay.targets import CallEvent
from headgate.request_log.model.entry import (
    MICROSECONDS,
    REPLAYED,
    TEXT_CHARACTERS_MAX,
    RequestEntry,
)
from headgate.request_log.service.followed_call import FollowedCall

PATH_CHARACTERS_MAX = 512
USER_AGENT_CHARACTERS_MAX = 256
_encode = msgspec.json.Encoder().encode


def build_entry(followed: FollowedCall, *, now: float, monotonic: float) -> RequestEntry:
    """Build the row of a call that has ended. Times are unix and monotonic seconds."""
    call, receipt, error = followed.call, followed.receipt, followed.error
    grant = call.grant
    total = int((monotonic - call.started_at) * MICROSECONDS)
    entry = RequestEntry(
        id=call.request_id,
        created_at=int(now * MICROSECONDS),
        organization_id=grant.organization_id,
        project_id=grant.project_id,
        key_id=grant.key_id,
        endpoint=followed.endpoint,
        method=followed.method,
        path=clean(read_path(followed.target), PATH_CHARACTERS_MAX),
        status=error.kind.value if error is not None else followed.status,
        outcome=REPLAYED if error is None else "refused",
        error_code="" if error is None else error.code,
        failure_reason=clean(followed.failure_reason if error is None else error.message),
        model=clean(call.model or ""),
        total_microseconds=total,
        response_bytes=followed.response.size,
        client_address=followed.client_address,
        user_agent=find_user_agent(followed.headers),
        correlation_id=call.correlation_id or "",
        metadata=clean(call.metadata, None),
        request_bytes=len(followed.request_body or b""),
    )
    if receipt is None or followed.state is None:
        return entry
    return add_receipt(entry, receipt, followed.state)


def add_receipt(entry: RequestEntry, receipt: Receipt, state: CallState) -> RequestEntry:
    """Return a row with what the receipt of its call says, which counts before everything else."""
    call, route = state.call, state.call.route
    gate = state.sent_at - call.started_at if state.sent_at else -1.0
    routing = None if route is None else route.routing_seconds
    return msgspec.structs.replace(
        entry,
        created_at=int(receipt.created_at * MICROSECONDS),
        status=receipt.status or entry.status,
        outcome=receipt.outcome,
        error_code=clean(receipt.error_code or entry.error_code),
        provider=receipt.provider,
        model=clean(receipt.model_requested or ""),
        model_served=clean(receipt.model_served or ""),
        credential_id=receipt.credential_id or "",
        managed=int(receipt.managed),
        resource_id="" if route is None else route.resource_id or "",
        resource_name="" if route is None else clean(route.resource_name),
        streamed=int(receipt.streamed),
        attempts=receipt.attempts,
        events=encode_events(state.events),
        usage=encode_usage(receipt.usage),
        cost_nano=receipt.cost_nano,
        pricing=receipt.pricing,
        total_microseconds=receipt.total_microseconds,
        gate_microseconds=int(gate * MICROSECONDS) if gate >= 0 else -1,
        routing_microseconds=-1 if routing is None else int(routing * MICROSECONDS),
        first_byte_microseconds=receipt.first_byte_microseconds,
        upstream_microseconds=receipt.upstream_microseconds,
        overhead_microseconds=receipt.overhead_microseconds,
        request_bytes=receipt.request_bytes or entry.request_bytes,
        response_bytes=receipt.response_bytes or entry.response_bytes,
        upstream_request_id=clean(receipt.upstream_request_id or ""),
        response_id=clean(receipt.answer_id or ""),
        cache_status=receipt.cache_status,
        metadata=clean(receipt.metadata, None),
    )


def list_end(receipt: Receipt) -> dict[str, Any]:
    """Return what the last receipt of a response in the background changes in its row."""
    return {
        "outcome": receipt.outcome,
        "status": receipt.status,
        "error_code": clean(receipt.error_code or ""),
        "model_served": clean(receipt.model_served or ""),
        "response_id": clean(receipt.answer_id or ""),
        "usage": encode_usage(receipt.usage),
        "cost_nano": receipt.cost_nano,
        "pricing": receipt.pricing,
    }


def build_refusal(
    request: RefusedRequest, error: HeadgateError, *, now: float, monotonic: float
) -> RequestEntry:
    """Build the row of a request that was refused before it became a call."""
    grant = request.grant
    return RequestEntry(
        id=request.request_id,
        created_at=int(now * MICROSECONDS),
        organization_id=grant.organization_id,
        project_id=grant.project_id,
        key_id=grant.key_id,
        endpoint=request.endpoint,
        method=clean(request.method),
        path=clean(request.path, PATH_CHARACTERS_MAX),
        status=error.kind.value,
        outcome="refused",
        error_code=error.code,
        failure_reason=clean(error.message),
        total_microseconds=int((monotonic - request.started_at) * MICROSECONDS),
        client_address=request.client_address,
        user_agent=clean(request.user_agent, USER_AGENT_CHARACTERS_MAX),
        correlation_id=request.correlation_id or "",
        metadata=clean(request.metadata, None),
    )


def encode_events(events: tuple[CallEvent, ...]) -> str:
    return clean(_encode(events).decode(), None) if events else ""


def encode_usage(usage: Usage | None) -> str:
    return "" if usage is None else _encode(usage).decode()


def read_path(target: bytes) -> str:
    """Return the path of a target as text, without its query."""
    return target.partition(b"?")[0].decode("latin-1")


def find_user_agent(headers: Headers) -> str:
    for name, value in headers:
        if name == b"user-agent":
            return clean(value.decode("utf-8", "replace"), USER_AGENT_CHARACTERS_MAX)
    return ""


def clean(text: str, characters_max: int | None = TEXT_CHARACTERS_MAX) -> str:
    """Return a text that every database stores: without NUL and half characters, and cut."""
    if "\0" in text:
        text = text.replace("\0", "")
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text if characters_max is None else text[:characters_max]
