"""Limit what keys, resources and credentials may use: the port that the pipeline asks.

The limits are `relay.capacity_limits`. The feature `capacity` counts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Container, Sequence
from typing import Protocol

from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.call_state import CallState
from headgate.relay.capacity_limits import CapacityLimit, WindowUsage
from headgate.relay.ports import Receipt

RETRIED_SECONDS_MAX = 60.0
"""A longer wait is not for the SDK, which would hold its caller for it or come back too early."""


class CapacityExhaustedError(HeadgateError):
    """A limit of the key, the resource or the credential is used up for its period.

    Wait for the seconds in `Retry-After`, or raise the limit. One for the lifetime never resets.
    """

    kind = Kind.LIMITED
    code = "resource_exhausted"

    def __init__(self, message: str, *, wait_seconds: float | None) -> None:
        super().__init__(
            message,
            retry_after_seconds=wait_seconds,
            should_retry=None
            if wait_seconds is not None and wait_seconds <= RETRIED_SECONDS_MAX
            else False,
        )


class PriorityGateError(HeadgateError):
    """The priority pool of the call has used its share of the credential's tokens per minute.

    Wait for the seconds in `Retry-After`, or give the pool a larger reservation.
    """

    kind = Kind.LIMITED
    code = "prioritization_gate_denied"


class CapacityGate(Protocol):
    """Count calls against the limits of their key, resource and credential.

    The pipeline asks only for a call whose key, resource or credential has limits, or whose project
    is among `projects`.
    """

    @property
    def projects(self) -> Container[str]:
        """Return the projects that have priority pools."""
        ...

    def admit(self, state: CallState) -> Awaitable[None]:
        """Count a call that is routed: one request and its estimated input, at all levels or at
        none.

        For a further target of the same call, only its credential is counted; `leave` comes before.
        A second call for the same target counts nothing. Raise `CapacityExhaustedError` or
        `PriorityGateError`.
        """
        ...

    def leave(self, state: CallState, *, sent: bool) -> None:
        """Take back what the credential of a failed target counts: its tokens, and also its request
        where nothing was `sent`. Key and resource stay counted until `settle`."""
        ...

    def settle(self, state: CallState, receipt: Receipt) -> None:
        """Replace the estimate of an admitted call by what it used. Must not raise."""
        ...


class NoCapacity:
    """Limit nobody (`CapacityGate`)."""

    projects: Container[str] = frozenset[str]()

    async def admit(self, state: CallState) -> None:
        return

    def leave(self, state: CallState, *, sent: bool) -> None:
        return

    def settle(self, state: CallState, receipt: Receipt) -> None:
        return


NO_CAPACITY: CapacityGate = NoCapacity()


class CapacityUsage(Protocol):
    """Show the usage of windows, from memory."""

    def find(
        self, level: str, owner_id: str, limits: Sequence[CapacityLimit], period: str
    ) -> WindowUsage | None:
        """Return the usage of a key, resource or credential in the current period, all dimensions
        left out; None without a limit of that period."""
        ...
