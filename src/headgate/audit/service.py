"""Writes the audit log in the transaction of the action, reads it, and verifies its chain."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.audit import store
from headgate.audit.model import (
    FIRST_HASH,
    MICROSECONDS,
    Actor,
    AuditEntry,
    AuditEvent,
    AuditFilter,
    ChainVerification,
    hash_entry,
)
from headgate.kit.clock import Clock


class AuditLog:
    """Record and read audit events. An action and its entry are one transaction: what cannot be
    recorded is not done."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def record(self, connection: sa.Connection, by: Actor, event: AuditEvent) -> AuditEntry:
        """Append an event to the log. Other processes that record wait until this transaction
        ends."""
        number = store.lock_head(connection)
        if number is None:
            store.insert_head(connection, first_hash=FIRST_HASH)
            number = 1
        _, previous = store.read_head(connection)
        # An integer, so that the entry read back gives the same bytes and the same hash.
        at = round(self._clock.now() * MICROSECONDS)
        entry_hash = hash_entry(number, at, by, event, after=previous)
        entry = AuditEntry(number, at / MICROSECONDS, by, event, previous, entry_hash)
        store.insert_entry(connection, entry)
        return entry

    def list(
        self, connection: sa.Connection, audit_filter: AuditFilter, *, limit: int, offset: int = 0
    ) -> tuple[list[AuditEntry], int]:
        """Return a page of the matching entries, newest first, and their total number."""
        entries = store.select_entries(connection, audit_filter, limit=limit, offset=offset)
        return entries, store.count_entries(connection, audit_filter)

    def verify(self, connection: sa.Connection) -> ChainVerification:
        head, count = FIRST_HASH, 0
        for at, entry in store.select_chain(connection):
            count += 1
            if entry.number != count:
                return ChainVerification(count - 1, head, f"entry {count} is missing")
            if entry.previous_hash != head:
                return ChainVerification(
                    count - 1, head, f"entry {count} does not follow the one before it"
                )
            if hash_entry(count, at, entry.actor, entry.event, after=head) != entry.hash:
                return ChainVerification(count - 1, head, f"entry {count} was changed")
            head = entry.hash
        # The chain alone does not show that its last entries were removed, but the head does.
        number, newest = store.read_head(connection)
        if (number, newest or FIRST_HASH) != (count, head):
            return ChainVerification(
                count, head, f"entries after {count} are missing: there were {number}"
            )
        return ChainVerification(count, head)

    def contains_hash(self, connection: sa.Connection, entry_hash: str) -> bool:
        try:
            return store.has_hash(connection, bytes.fromhex(entry_hash))
        except ValueError:
            return False
