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

RESET_CHECK_SECONDS = 60.0
"""How often the answers to one credential and model are looked at."""
NOTED_MAX = 10_000
"""Credentials and models that are remembered: a client may name any number of models."""


class CapacityTracker:
    """Collect the provider limits that this process sees (`relay.ports.CapacityRecorder`)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[tuple[str, str | None], float] = {}
        self._found: dict[tuple[str, str], Capacity] = {}

    def note(
        self, credential_id: str, model: str | None, headers: Headers, monotonic_seconds: float
    ) -> None:
        """Record the limits in the head of an answer, at most once per `LOOK_SECONDS`."""
        if self._due.get((credential_id, model), 0.0) > monotonic_seconds:
            return
        self._look(credential_id, model, headers, monotonic_seconds)

    def _look(
        self, credential_id: str, model: str | None, headers: Headers, monotonic_seconds: float
    ) -> None:
        if len(self._due) >= NOTED_MAX:
            self._due.clear()
        self._due[credential_id, model] = monotonic_seconds + RESET_CHECK_SECONDS
        if model is None:
            return
        said = {
            name: read_limit(value)
            for name, value in headers
            if name in (REQUESTS_HEADER, TOKENS_HEADER)
        }
        requests, tokens = said.get(REQUESTS_HEADER), said.get(TOKENS_HEADER)
        if (requests is not None or tokens is not None) and len(self._found) < NOTED_MAX:
            self._found[credential_id, model] = Capacity(requests, tokens, self._clock.now())

    def flush(self, connection: sa.Connection) -> None:
        """Store what is new, and delete what is too old."""
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
