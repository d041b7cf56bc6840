"""Limits of connections to the edge, and the errors for requests that exceed them."""

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
    kind = Kind.TARGET_TOO_LONG
    code = "target_too_long"


class RequestHeadTooLargeError(HeadgateError):
    kind = Kind.HEADERS_TOO_LARGE
    code = "headers_too_large"


class TooManyUnfinishedHeadsError(HeadgateError):
    kind = Kind.UNAVAILABLE
    code = "too_many_unfinished_heads"


class MalformedRequestError(HeadgateError):
    kind = Kind.INVALID
    code = "malformed_request"


class RequestTimeoutError(HeadgateError):
    kind = Kind.TIMEOUT
    code = "request_timeout"


class UnsupportedExpectationError(HeadgateError):
    kind = Kind.EXPECTATION
    code = "expectation_failed"


class UnsupportedConnectMethodError(HeadgateError):
    kind = Kind.UNSUPPORTED
    code = "connect_unsupported"


class UnsupportedWebSocketError(HeadgateError):
    kind = Kind.UPGRADE_REQUIRED
    code = "websocket_unsupported"


class TooManyConnectionsError(HeadgateError):
    kind = Kind.UNAVAILABLE
    code = "too_many_connections"


class HostNotAllowedError(HeadgateError):
    kind = Kind.MISDIRECTED
    code = "host_not_allowed"


class MalformedForwardedAddressError(HeadgateError):
    kind = Kind.INVALID
    code = "malformed_forwarded_address"


class InvalidTrustedProxiesError(HeadgateError):
    kind = Kind.INVALID
    code = "trusted_proxies_refused"


class InvalidCorsOriginError(HeadgateError):
    kind = Kind.INVALID
    code = "cors_origin_refused"
