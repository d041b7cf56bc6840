"""What commands work with: the data directory, opened without a server."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Mapping
from pathlib import Path

import sqlalchemy as sa

from headgate.accounts.service import AccountService, PersonService
from headgate.audit.service import AuditLog
from headgate.catalog.service import Catalog, PriceBook
from headgate.keys.service import KeyService
from headgate.kit import log, settings
from headgate.kit.clock import SystemClock
from headgate.kit.db import migration
from headgate.kit.db.engine import Database
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.ids import Ids
from headgate.kit.settings import Settings
from headgate.main import data_lock, data_remains
from headgate.main.data_lock import DATABASE_FILE
from headgate.main.egress import build_rules, simulator_origin
from headgate.main.installation import open_database
from headgate.main.master_keys import build_source
from headgate.vault.service import CredentialBook, ManagedBook, Sealer, SecretBook, Vault


class DataMissing(HeadgateError):
    """The data directory has not what the command works on."""

    kind = Kind.MISSING
    code = "data_missing"


class Desk:
    """The services of one data directory. `transaction` and `reading` are the database's."""

    def __init__(self, loaded: Settings, database: Database) -> None:
        self.settings = loaded
        self.database = database
        self.clock = SystemClock()
        self.ids = Ids()
        self.audit = AuditLog(self.clock)
        self.accounts = AccountService(self.clock, self.ids, self.audit)
        self.catalog = Catalog.load(loaded.catalog_dir)
        self.price_book = PriceBook(self.catalog, self.audit, self.clock)
        self.keys = KeyService(self.clock, self.accounts, self.audit, keys_max=loaded.keys_max)
        self.people = PersonService(self.clock, self.ids, self.audit)
        self.egress_rules = build_rules(loaded, simulator_origin(loaded))
        self._sealer: Sealer | None = None

    def open_sealer(self, connection: sa.Connection) -> Sealer:
        """The sealer under the master key. Raises `MasterKeyRefused`, `KeyServiceFailed` and
        `DataMissing`."""
        if self._sealer is None:
            source = build_source(self.settings)
            key = source.find(connection)
            if key is None:
                message = "There is no master key yet; start `headgate serve` once to make it."
                raise DataMissing(message)
            self._sealer = Sealer(key, self.clock, source)
        return self._sealer

    def open_book(self, connection: sa.Connection) -> CredentialBook:
        """The stored credentials. Raises as `open_sealer`."""
        sealer = self.open_sealer(connection)
        return CredentialBook(
            sealer,
            self.catalog.integrations,
            egress_rules=self.egress_rules,
            clock=self.clock,
            ids=self.ids,
            audit=self.audit,
        )

    def open_managed_models(self) -> ManagedBook:
        """The models that the platform sells."""
        return ManagedBook(
            models=self.catalog,
            audit=self.audit,
            clock=self.clock,
            ids=self.ids,
        )

    def open_secrets(self, connection: sa.Connection) -> SecretBook:
        """The stored secrets. Raises as `open_sealer`."""
        sealer = self.open_sealer(connection)
        return SecretBook(sealer, clock=self.clock, ids=self.ids, audit=self.audit)

    def open_vault(self, connection: sa.Connection) -> Vault:
        """A vault that is not loaded yet. Raises as `open_sealer`."""
        return Vault(self.open_sealer(connection), self.catalog.integrations, self.clock)


@contextlib.contextmanager
def open_desk(data: Path | None, environment: Mapping[str, str] = os.environ) -> Generator[Desk]:
    """The desk of a data directory. Raises `DataMissing` where nothing was ever started, and
    `DataUnusable` where the database of an installation is gone."""
    loaded = settings.load(environment, data=data)
    log.configure(sys.stderr, level=loaded.log_level)
    loaded = data_lock.adopt(loaded, data_lock.find_server(loaded))
    path = loaded.data / DATABASE_FILE
    if not loaded.database_url:
        data_remains.check_file(loaded, data_remains.find(loaded))
    if not loaded.database_url and not path.is_file():
        message = f"There is no database {path}; start `headgate serve` once, or give --data."
        raise DataMissing(message)
    database = open_database(loaded)
    try:
        if not migration.has_schema(database):
            message = f"Headgate never used {database.name}; start `headgate serve` once."
            raise DataMissing(message)
        yield Desk(loaded, database)
    finally:
        database.close()
