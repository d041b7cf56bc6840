"""Records the rate limits that providers state, and stores them at intervals."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from headgate.credentials.model.capacity import (
    REQUESTS_HEADER,
    TOKENS_HEADER,
    VALID_SECONDS,
    Capacity,
    read_limit,
)
from headgate.credentials.store import capacity as store
from headgate.kit.clock import Clock
from headgate.kit.http.message import Headers

OBSERVE_SECONDS = 60.0
"""Headers are read once in this time for each credential and model, to keep calls cheap."""
CAPACITIES_MAX = 10_000
"""Bounds the memory, because a client may name any number of models."""


class CapacityTracker:
    """Collect the provider limits that this process sees (`relay.ports.CapacityRecorder`)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[tuple[str, str | None], float] = {}
        self._found: dict[tuple[str, str], Capacity] = {}
        self._known: dict[tuple[str, str], Capacity] = {}

    def note(
        self, credential_id: str, model: str | None, headers: Headers, monotonic_seconds: float
    ) -> None:
        """Record the limits in the head of an answer, at most once per `OBSERVE_SECONDS`."""
        if self._due.get((credential_id, model), 0.0) > monotonic_seconds:
            return
        self._record(credential_id, model, headers, monotonic_seconds)

    def _record(
        self, credential_id: str, model: str | None, headers: Headers, monotonic_seconds: float
    ) -> None:
        if len(self._due) >= CAPACITIES_MAX:
            self._due.clear()
        self._due[credential_id, model] = monotonic_seconds + OBSERVE_SECONDS
        if model is None:
            return
        limits = {
            name: read_limit(value)
            for name, value in headers
            if name in (REQUESTS_HEADER, TOKENS_HEADER)
        }
        requests, tokens = limits.get(REQUESTS_HEADER), limits.get(TOKENS_HEADER)
        if (requests is not None or tokens is not None) and len(self._found) < CAPACITIES_MAX:
            capacity = Capacity(requests, tokens, self._clock.now())
            self._found[credential_id, model] = capacity
            if len(self._known) >= CAPACITIES_MAX:
                self._known.clear()
            self._known[credential_id, model] = capacity

    def find(self, credential_id: str, model: str | None) -> tuple[int | None, int | None]:
        """Return the requests and tokens per minute that were announced for a model, from memory;
        None for what was not announced, or long ago."""
        capacity = self._known.get((credential_id, model or ""))
        if capacity is None or capacity.observed_at < self._clock.now() - VALID_SECONDS:
            return None, None
        return capacity.requests, capacity.tokens

    def load(self, connection: sa.Connection) -> None:
        """Take over what was announced before this process began, and to other processes."""
        since = self._clock.now() - VALID_SECONDS
        for key, capacity in store.select_latest(connection, since=since, limit=CAPACITIES_MAX):
            known = self._known.get(key)
            if known is None or known.observed_at < capacity.observed_at:
                self._known[key] = capacity

    def flush(self, connection: sa.Connection) -> None:
        found, self._found = self._found, {}
        if found:
            store.write_capacity(
                connection, [(each[0], each[1], capacity) for each, capacity in found.items()]
            )
            store.delete_capacity_before(connection, self._clock.now() - VALID_SECONDS)

    def list(
        self, connection: sa.Connection, credential_ids: Iterable[str]
    ) -> dict[str, dict[str, Capacity]]:
        """Return the capacities that are still valid, by credential and model."""
        since = self._clock.now() - VALID_SECONDS
        return store.select_capacity(connection, credential_ids, since=since)
