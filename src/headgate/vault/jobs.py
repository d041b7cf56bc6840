"""Carries a rotation through: short transactions with rests between them, for a thread to run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from headgate.audit.model import Actor
from headgate.kit.crypto import SecretKey
from headgate.vault.model.keys import (
    OrganizationKeyRecord,
    Rotation,
    RotationConflictError,
)
from headgate.vault.service.master_key import MasterKey
from headgate.vault.service.rotation import ResealedPage, Rotations
from headgate.vault.service.sealed_tables import BINDINGS

PAUSE_RATIO = 2
"""How much longer than a slice the database is left to the calls."""
PAUSE_SECONDS_MIN = 0.005
ROUNDS_MAX = 20
"""A key is gone through again while others still sealed under it; each round takes them along."""

Result = TypeVar("Result")
ReportProgress = Callable[[Rotation], None]


class Commit(Protocol):
    """Runs a function in a transaction of its own and waits until it is committed."""

    def __call__(self, work: Callable[[sa.Connection], Result], /) -> Result: ...


class Rotator:
    """Runs rotations. Everything blocks: it belongs into a thread, or a process, of its own."""

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
        """Bring in a new master key, or carry on with it. How many organization keys do not open;
        None if it was in force already.

        Raises `RotationConflictError` and `StorageUnavailableError`; the next run goes on from
        there.
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
        """Lay down the page behind `after`. Where the next one begins; None at the end."""
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
        """Replace organization keys, or carry on with it. How many rows do not open. Raises as
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
        """Empty a retired key and delete it. How many rows do not open."""
        for _ in range(ROUNDS_MAX):
            failed = sum(self._move_rows(rotation, table, retired) for table in BINDINGS)
            try:
                left = self._commit(
                    lambda connection: self._rotations.drop_key(connection, rotation, retired)
                )
            except exc.IntegrityError:
                continue  # a row came under it in this very moment
            if left == failed:
                return failed
        raise RotationConflictError(f"Others keep sealing under {retired.id}. Run this again.")

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


def _pause(took_seconds: float) -> None:
    threading.Event().wait(max(PAUSE_SECONDS_MIN, took_seconds * PAUSE_RATIO))
