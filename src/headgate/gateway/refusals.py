"""Tell the client and the request log of a request that the gateway refuses."""

from __future__ import annotations

from headgate.gateway import errors, vmx_answers
from headgate.gateway.encoder import PLAIN_RATE_PREFIX, encode_name, render_rate_limits
from headgate.gateway.exchange import InboundExchange
from headgate.gateway.request_head import RequestHead
from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Headers
from headgate.kit.rate_limiter import RateLimitedError
from headgate.relay.ports import Grant
from headgate.relay.request_log import RefusedRequest


def encode_head(
    error: HeadgateError,
    exchange: InboundExchange,
    request_head: RequestHead,
    retry_after_max_seconds: float,
) -> bytes:
    """Return the header lines of the answer that refuses a request."""
    request_id = request_head.request_id.encode()
    head = errors.encode_head(error, retry_after_max_seconds=retry_after_max_seconds)
    if isinstance(error, RateLimitedError):
        head += render_rate_limits(error.rate_limits) + render_rate_limits(
            error.rate_limits, PLAIN_RATE_PREFIX
        )
    head += b"x-request-id: %b\r\nx-headgate-request-id: %b\r\n" % (request_id, request_id)
    if errors.is_for_anthropic(exchange.target, exchange.headers):
        head += b"request-id: %b\r\n" % request_id
    if request_head.correlation_id is not None:
        head += b"x-headgate-correlation-id: %b\r\n" % encode_name(request_head.correlation_id)
    if request_head.envelope is not None:
        head += vmx_answers.render_request(
            request_head.request_id, request_head.envelope, request_head.correlation_id
        )
    return head


def describe(exchange: InboundExchange, request_head: RequestHead, grant: Grant) -> RefusedRequest:
    """Return what the request log keeps of a request that became no call."""
    return RefusedRequest(
        request_head.request_id,
        grant,
        request_head.endpoint.name if request_head.endpoint is not None else "",
        exchange.method.decode("latin-1"),
        exchange.target.partition(b"?")[0].decode("latin-1"),
        try_client_address(exchange),
        find_header(exchange.headers, b"user-agent"),
        request_head.correlation_id,
        request_head.metadata,
        request_head.started_at,
    )


def find_header(headers: Headers, name: bytes) -> str:
    """Return the first value of a header as text, empty without one."""
    for each, value in headers:
        if each == name:
            return value.decode("utf-8", "replace")
    return ""


def try_client_address(exchange: InboundExchange) -> str:
    """Return the client's address, empty where proxies name a malformed one."""
    try:
        return exchange.client_address
    except HeadgateError:
        return ""
