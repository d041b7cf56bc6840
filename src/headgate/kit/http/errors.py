"""Define the errors of an exchange with an upstream.

EgressError
├── ConnectError                nothing was sent: name, route, refusal, TLS
│   ├── ForbiddenAddressError   the guard allows nobody to connect there
│   ├── ConnectTimeoutError
│   ├── PoolExhaustedError      not tried: too many connections, names or sockets are in use here
│   └── TlsError
├── FirstByteTimeoutError       sent, and no head in time: the peer may have done the work
├── IdleTimeoutError            the body stalled
├── TotalTimeoutError           the whole exchange took too long
├── DisconnectedError           the peer closed or reset; `reused` if at once on a kept connection
├── MalformedResponseError      not HTTP, or a body that contradicts its framing
├── ResponseHeadTooLargeError
└── ResponseTooLargeError

ConnectCancelledError is no failure: the task that waited for a connection was cancelled.
"""

from __future__ import annotations

import asyncio


class EgressError(Exception):
    """Report a failed exchange; `sent` says whether the peer got any byte of the request."""

    sent = True


class ConnectError(EgressError):
    sent = False


class ForbiddenAddressError(ConnectError):
    """Report an address that the guard forbids; `reason` leaves out what its operator could do."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason + remedy)
        self.reason = reason


class ConnectTimeoutError(ConnectError):
    pass


class PoolExhaustedError(ConnectError):
    """Report that this process or its system has no room for one more connection.

    It says nothing against the origin.
    """


class TlsError(ConnectError):
    pass


class FirstByteTimeoutError(EgressError):
    pass


class IdleTimeoutError(EgressError):
    pass


class TotalTimeoutError(EgressError):
    """Report that the deadline of the whole exchange has passed."""

    @classmethod
    def unsent(cls, message: str) -> TotalTimeoutError:
        """Return an error for a request that never got a connection."""
        error = cls(message)
        error.sent = False
        return error


class DisconnectedError(EgressError):
    """Report that the peer went away. `reused` marks a kept connection that ended at once, without
    a byte.

    Such a connection may have ended before the request arrived, or after the peer has read it.
    """

    def __init__(self, message: str, *, reused: bool = False) -> None:
        super().__init__(message)
        self.reused = reused


class MalformedResponseError(EgressError):
    pass


class ResponseHeadTooLargeError(EgressError):
    pass


class ResponseTooLargeError(EgressError):
    pass


class ConnectCancelledError(asyncio.CancelledError):
    """Report a task cancelled before it had a connection: nothing was sent.

    `asyncio.timeout` does not recognize it as its own cancellation: put deadlines into the request.
    """
