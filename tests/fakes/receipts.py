"""The receipts of a running server, read from its database as an auditor would."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from headgate.kit.db.engine import Database
from headgate.metering import store as metering
from headgate.relay.ports import Receipt
from tests.fakes.gateway import Gateway

ROWS_MAX = 1000


class Receipts:
    """Return each receipt of a database once."""

    def __init__(self, database: Database, organization_id: str) -> None:
        self._database = database
        self._organization_id = organization_id
        self._seen: set[str] = set()

    def take(self) -> list[Receipt]:
        """Return the receipts since the last call, oldest first."""
        with self._database.reading() as connection:
            rows = metering.list_recent(connection, self._organization_id, rows_max=ROWS_MAX)
        new = [row for row in reversed(rows) if row.request_id not in self._seen]
        self._seen.update(row.request_id for row in new)
        return new

    def take_one(self) -> Receipt:
        """Return the only new receipt."""
        (receipt,) = self.take()
        return receipt


@contextmanager
def open_receipts(gateway: Gateway) -> Generator[Receipts]:
    database = Database(gateway.place)
    try:
        yield Receipts(database, gateway.keys["organization_id"])
    finally:
        database.close()
