"""Rotations of keys: run in short transactions with pauses between them, in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy import exc

from headgate.accounts.model import AccountNotFoundError
from headgate.accounts.service import AccountService
from headgate.audit.model import Actor
from headgate.kit.crypto import SecretKey
from headgate.kit.db.engine import Database
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError
from headgate.vault.model.keys import (
    EVERY_KEY,
    PLATFORM_KEY,
    OrganizationKeyRecord,
    Rotation,
    RotationConflictError,
)
from headgate.vault.service.master_key import MasterKey
from headgate.vault.service.rotation import ResealedPage, Rotations, VaultStatus
from headgate.vault.service.sealed_tables import BINDINGS

log = structlog.get_logger(__name__)

PAUSE_RATIO = 2
"""The pause after a page, as a multiple of the time that the page took: calls go first."""
PAUSE_SECONDS_MIN = 0.005
STATUS_ROTATIONS_MAX = 100
PASSES_MAX = 20
"""Other processes may seal under a retired key until they reload, so its rows are read again."""

Result = TypeVar("Result")
ReportProgress = Callable[[Rotation], None]


class Commit(Protocol):
    """Run a function in its own transaction, and return after the commit."""

    def __call__(self, work: Callable[[sa.Connection], Result], /) -> Result: ...


class Rotator:
    """Run rotations. Every method blocks, so call it in a thread or process of its own."""

    def __init__(
        self,
        rotations: Rotations,
        *,
        reading: Callable[[], AbstractContextManager[sa.Connection]],
        commit: Commit,
        report: ReportProgress = lambda _: None,
    ) -> None:
        self._rotations = rotations
        self._reading = reading
        self._commit = commit
        self._report = report

    def rotate_master(self, target: MasterKey, *, by: Actor) -> int | None:
        """Replace the master key, or continue an interrupted replacement.

        Return how many organization keys do not open; None if the key is active already. Raise
        `RotationConflictError` and `StorageUnavailableError`; the next run continues from there.
        """
        rotation = self._commit(
            lambda connection: self._rotations.begin_master(connection, target, by=by)
        )
        if rotation is None:
            return None
        self._report(rotation)
        after: str | None = ""
        while after is not None:
            after = self._stage(rotation, target, after)
        return self._commit(
            lambda connection: self._rotations.activate_master(connection, rotation, target, by=by)
        )

    def _stage(self, rotation: Rotation, target: MasterKey, after: str) -> str | None:
        """Stage the page after `after`; return where the next page begins, None at the end."""
        started = time.perf_counter()
        with self._reading() as connection:
            page = self._rotations.stage(connection, target, after=after)
        if page.pairs:
            self._report(
                self._commit(
                    lambda connection: self._rotations.store_staged(connection, rotation, page)
                )
            )
            _pause(time.perf_counter() - started)
        return page.last_id

    def rotate_keys(self, scope: str, *, by: Actor) -> int:
        """Replace organization keys, or continue; return how many rows do not open. Raise as
        `rotate_master`."""
        rotation = self._commit(
            lambda connection: self._rotations.begin_keys(connection, scope, by=by)
        )
        self._report(rotation)
        with self._reading() as connection:
            retired = self._rotations.list_retired(connection)
        failed = sum(self._replace_key(rotation, record) for record in retired)
        self._commit(
            lambda connection: self._rotations.end_keys(connection, rotation, failed, by=by)
        )
        return failed

    def _replace_key(self, rotation: Rotation, retired: OrganizationKeyRecord) -> int:
        """Move all rows off a retired key and delete it; return how many rows do not open."""
        for _ in range(PASSES_MAX):
            failed = sum(self._move_rows(rotation, table, retired) for table in BINDINGS)
            try:
                left = self._commit(
                    lambda connection: self._rotations.drop_key(connection, rotation, retired)
                )
            except exc.IntegrityError:
                continue  # another process sealed a row under it since the count
            if left == failed:
                return failed
        raise RotationConflictError(
            f"Other processes still seal under the key {retired.id}. Run the rotation again."
        )

    def _move_rows(self, rotation: Rotation, table: str, retired: OrganizationKeyRecord) -> int:
        successor = self._commit(
            lambda connection: self._rotations.find_successor(connection, retired)
        )
        failed, after = 0, ""
        while True:
            page = self._move_page(rotation, table, retired, successor, after=after)
            failed += page.failed
            if page.last_id is None:
                return failed
            after = page.last_id

    def _move_page(
        self,
        rotation: Rotation,
        table: str,
        retired: OrganizationKeyRecord,
        successor: tuple[str, SecretKey],
        *,
        after: str,
    ) -> ResealedPage:
        started = time.perf_counter()
        with self._reading() as connection:
            page = self._rotations.reseal(connection, table, retired, successor, after=after)
        if page.changes:
            self._report(
                self._commit(
                    lambda connection: self._rotations.store_resealed(connection, rotation, page)
                )
            )
            _pause(time.perf_counter() - started)
        return page


class RotationRunner:
    """Run rotations of organization keys inside a server, one at a time, through its one writer. A
    rotation that was interrupted continues when it is begun again."""

    def __init__(
        self, rotations: Rotations, accounts: AccountService, database: Database, writer: Writer
    ) -> None:
        self._rotations = rotations
        self._accounts = accounts
        self._database = database
        self._writer = writer
        self._running: set[asyncio.Task[None]] = set()

    def describe(self, connection: sa.Connection) -> VaultStatus:
        """Return all keys, and the newest rotations."""
        return self._rotations.describe(connection, rotations_max=STATUS_ROTATIONS_MAX)

    def begin(self, connection: sa.Connection, scope: str, *, by: Actor) -> Rotation:
        """Begin a rotation, or return the one under way. Raise `RotationConflictError`, and
        `AccountNotFoundError` for an unknown organization."""
        known = [each.id for each in self._accounts.list_organizations(connection)]
        if scope not in (EVERY_KEY, PLATFORM_KEY, *known):
            raise AccountNotFoundError("There is no such organization.", param="scope")
        return self._rotations.begin_keys(connection, scope, by=by)

    def start(self, rotation: Rotation, *, by: Actor) -> None:
        """Run a rotation to its end in the background; do nothing while another one runs."""
        if not self._running:
            task = asyncio.create_task(self._run(rotation, by))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, rotation: Rotation, by: Actor) -> None:
        loop = asyncio.get_running_loop()

        async def write(work: Callable[[sa.Connection], Any]) -> Any:
            return await self._writer.call(work)

        def commit(work: Callable[[sa.Connection], Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(write(work), loop).result()

        rotator = Rotator(self._rotations, reading=self._database.reading, commit=commit)
        try:
            failed = await asyncio.to_thread(rotator.rotate_keys, rotation.scope, by=by)
        except HeadgateError as error:
            log.warning("vault.rotation_interrupted", rotation=rotation.id, error=error.message)
            return
        log.info("vault.rotation_ended", rotation=rotation.id, failed=failed)


def _pause(took_seconds: float) -> None:
    threading.Event().wait(max(PAUSE_SECONDS_MIN, took_seconds * PAUSE_RATIO))
