"""Gather refusals with 429, so that a flood of them becomes few events.

At most one event for each key and run of `take` (once a second), with the number of refusals.
Whether anybody wants the events is asked when they are stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headgate.kit import outbox
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError
from headgate.kit.ids import IdGenerator
from headgate.relay.ports import Grant
from headgate.webhooks.events import RequestRateLimited

KEYS_MAX = 1_000
"""Keys whose refusals are gathered at the same time; of others there is no event in that second."""
MICROSECONDS = 1_000_000

_encode = msgspec.json.Encoder().encode


class _Refusals:
    __slots__ = ("code", "count", "first_at", "grant", "last_at", "message", "request_id")

    def __init__(self, error: HeadgateError, grant: Grant, request_id: str, now: float) -> None:
        # Not the error itself, whose traceback holds the whole call.
        self.code = error.code
        self.message = error.message
        self.grant = grant
        self.request_id = request_id
        self.count = 1
        self.first_at = self.last_at = now


class RateLimitNotices:
    """Count refusals of keys between two runs of `take`."""

    def __init__(self, clock: Clock, ids: IdGenerator) -> None:
        self._clock = clock
        self._ids = ids
        self._refusals: dict[str, _Refusals] = {}

    def observe(self, error: HeadgateError, grant: Grant, request_id: str) -> None:
        """Note one refusal."""
        now = self._clock.now()
        known = self._refusals.get(grant.key_id)
        if known is not None:
            known.count += 1
            known.last_at = now
        elif len(self._refusals) < KEYS_MAX:
            self._refusals[grant.key_id] = _Refusals(error, grant, request_id, now)

    def take(self) -> list[outbox.Row]:
        """Return what was gathered as rows of the outbox."""
        refusals, self._refusals = self._refusals, {}
        return [self._make_row(each) for each in refusals.values()]

    def _make_row(self, refusals: _Refusals) -> outbox.Row:
        grant = refusals.grant
        event = RequestRateLimited(
            organization_id=grant.organization_id,
            project_id=grant.project_id,
            key_id=grant.key_id,
            request_id=refusals.request_id,
            code=refusals.code,
            message=refusals.message,
            count=refusals.count,
            first_at=refusals.first_at,
            last_at=refusals.last_at,
        )
        at = int(refusals.first_at * MICROSECONDS)
        return self._ids.make(event.type), at, event.type, grant.organization_id, _encode(event)


def select_wanted(rows: Sequence[outbox.Row], wanted: outbox.WantedEvents) -> list[outbox.Row]:
    """Return the rows that somebody wants. The key of a row is its organization."""
    return [row for row in rows if (row[2], row[3]) in wanted]
