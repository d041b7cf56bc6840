"""Limit the connections to the edge, and define the errors for requests beyond the limits."""

from __future__ import annotations

import msgspec

from headgate.kit.errors import HeadgateError, Kind


class EdgeLimits(msgspec.Struct, frozen=True):
    """Limit what a connection may cost before its key is known; in bytes, counts and seconds."""

    header_bytes_max: int = 64 * 1024
    header_count_max: int = 100
    target_bytes_max: int = 8 * 1024
    connections_max: int = 10_000
    first_request_seconds: float = 15.0
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    body_grace_seconds: float = 10.0
    body_bytes_per_second_min: int = 1000
    write_seconds: float = 60.0
    keepalive_seconds: float = 75.0


class TargetTooLongError(HeadgateError):
    """The URL of the request is too long.

    Move data from the query into the body.
    """

    kind = Kind.TARGET_TOO_LONG
    code = "target_too_long"


class RequestHeadTooLargeError(HeadgateError):
    """The request has too many headers, or too large ones.

    Send fewer and smaller headers.
    """

    kind = Kind.HEADERS_TOO_LARGE
    code = "headers_too_large"


class TooManyUnfinishedHeadsError(HeadgateError):
    """Too many clients have sent only a part of a large request head.

    Try again; send the head in one go.
    """

    kind = Kind.UNAVAILABLE
    code = "too_many_unfinished_heads"


class MalformedRequestError(HeadgateError):
    """The request is not well-formed HTTP, or could be read in two ways.

    Use an HTTP library, and check the proxy in front.
    """

    kind = Kind.INVALID
    code = "malformed_request"


class RequestTimeoutError(HeadgateError):
    """The request did not arrive in time.

    Send it again over a faster connection.
    """

    kind = Kind.TIMEOUT
    code = "request_timeout"


class UnsupportedExpectationError(HeadgateError):
    """The header `Expect` asks for something else than `100-continue`.

    Leave the header out.
    """

    kind = Kind.EXPECTATION
    code = "expectation_failed"


class UnsupportedConnectMethodError(HeadgateError):
    """The request asks for a tunnel (`CONNECT`); the gateway is no forward proxy.

    Use the gateway as base URL, not as proxy.
    """

    kind = Kind.UNSUPPORTED
    code = "connect_unsupported"


class UnsupportedWebSocketError(HeadgateError):
    """The request asks for a WebSocket, which the gateway does not carry.

    Send the same request over HTTP, with `"stream": true` for events as they come.
    """

    kind = Kind.UPGRADE_REQUIRED
    code = "websocket_unsupported"


class TooManyConnectionsError(HeadgateError):
    """The gateway has as many connections as it accepts.

    Try again, and reuse connections.
    """

    kind = Kind.UNAVAILABLE
    code = "too_many_connections"


class HostNotAllowedError(HeadgateError):
    """The host of the request is not one of this installation.

    An operator adds it to `HEADGATE_ALLOWED_HOSTS`.
    """

    kind = Kind.MISDIRECTED
    code = "host_not_allowed"


class MalformedForwardedAddressError(HeadgateError):
    """The headers of the proxy in front do not name one client address.

    Let the proxy set one of `X-Forwarded-For` and `Forwarded`.
    """

    kind = Kind.INVALID
    code = "malformed_forwarded_address"


class InvalidTrustedProxiesError(HeadgateError):
    """`HEADGATE_TRUSTED_PROXIES` has an invalid network, or would trust everybody.

    Name the networks of your proxies.
    """

    kind = Kind.INVALID
    code = "trusted_proxies_refused"


class InvalidCorsOriginError(HeadgateError):
    """`HEADGATE_CORS_ORIGINS` has a value that is no origin.

    Write scheme, host and, if unusual, port: `https://app.example.com`.
    """

    kind = Kind.INVALID
    code = "cors_origin_refused"
