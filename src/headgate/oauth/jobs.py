"""Deletes codes and tokens that have expired, and grants that hold none any more. Revokes
applications that never got tokens."""

from __future__ import annotations

from headgate.kit.clock import Clock
from headgate.kit.db.writer import Writer
from headgate.oauth.service.applications import ApplicationService
from headgate.oauth.store import grants as store

INTERVAL_SECONDS = 600.0
UNUSED_SECONDS = 600.0
"""After which time a grant without a code or token has ended."""
KEPT_SECONDS = 30 * 86_400.0
"""For how long grants that ended are kept."""


class OAuthPruner:
    """Delete in small transactions."""

    def __init__(self, writer: Writer, applications: ApplicationService, clock: Clock) -> None:
        self._writer = writer
        self._applications = applications
        self._clock = clock

    async def run(self) -> None:
        while await self._writer.call(
            lambda connection: store.delete_expired(connection, now=self._clock.now())
        ):
            pass
        now = self._clock.now()
        await self._writer.call(
            lambda connection: store.end_unused_grants(
                connection, before=now - UNUSED_SECONDS, at=now
            )
        )
        while await self._writer.call(
            lambda connection: self._applications.revoke_unconnected(
                connection, before=now - UNUSED_SECONDS
            )
        ):
            pass
        while await self._writer.call(
            lambda connection: store.delete_ended_grants(connection, before=now - KEPT_SECONDS)
        ):
            pass
