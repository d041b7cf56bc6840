"""Declare what observes calls beside their receipts: the request log, and rates of errors.

The feature `request_log` implements both, and `main` connects them. A call of a project without a
request log, and without a resource, runs none of this.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

import msgspec

from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Headers
from headgate.relay.call import Call, Caller
from headgate.relay.call_state import CallState
from headgate.relay.ports import Grant, Receipt


class RefusedRequest(msgspec.Struct, frozen=True):
    """Describe a request of a known key that was refused before it became a call.

    `endpoint` is empty where the path leads to none; `path` begins with `/v1`.
    """

    request_id: str
    grant: Grant
    endpoint: str
    method: str
    path: str
    client_address: str
    user_agent: str
    correlation_id: str | None
    metadata: str
    started_at: float
    """In monotonic seconds."""


class RequestLog(Protocol):
    """Keep one row for each request of the projects that ask for it."""

    projects: Container[str]
    """The projects whose requests are kept. A request of another one costs one look."""

    def begin(self, call: Call, caller: Caller, *, target: bytes, headers: Headers) -> Caller:
        """Set `call.record`, and return the caller that takes the place of the client.

        `target` and `headers` are all that the client sent. Call it before the body is converted.
        The record takes the receipt. It is kept when the returned caller has the end of its answer,
        or the record an error in its place.
        """
        ...

    def refuse(self, request: RefusedRequest, error: HeadgateError) -> None:
        """Keep a request that did not become a call. Must not raise, and must be cheap."""
        ...


class AttemptFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Select attempts; None does not restrict. `credential` is an id or a name. With a `status`,
    only attempts that ended with it count as failed."""

    resource_id: str | None = None
    credential: str | None = None
    model: str | None = None
    status: int | None = None


ALL_ATTEMPTS = AttemptFilter()


class ErrorRates(Protocol):
    """Find how often attempts failed in the last minutes, from memory.

    An attempt is one request to a provider on behalf of a call with a route (`Call.route`): the one
    that answered, or one that failed before a fallback. It failed if its status is 400 or more, or
    if it broke off. Calls whose client left do not count.
    """

    def find(
        self, project_id: str, wanted: AttemptFilter = ALL_ATTEMPTS, *, minutes: int = 10
    ) -> float:
        """Return the failed attempts in percent of all, from 0.0 to 100.0; 0.0 without
        attempts."""
        ...


class RouteObserver(Protocol):
    """Take calls that had a route, once their receipt is committed."""

    def observe(self, state: CallState, receipt: Receipt) -> None:
        """Must not raise, and must be cheap."""
        ...


class NoRequestLog:
    """Keep nothing."""

    projects: Container[str] = frozenset[str]()

    def begin(self, call: Call, caller: Caller, *, target: bytes, headers: Headers) -> Caller:
        return caller

    def refuse(self, request: RefusedRequest, error: HeadgateError) -> None:
        """Keep nothing."""


NO_REQUEST_LOG = NoRequestLog()
