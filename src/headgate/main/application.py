"""One data directory, opened: its database, its master key, and the services that live on them."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.accounts.service import (
    AccountService,
    InvitationService,
    MemberService,
    PasswordHasher,
    PersonService,
    SessionService,
)
from headgate.audit.service import AuditLog
from headgate.catalog import service as catalog
from headgate.keys import service as keys
from headgate.kit.clock import Clock, SteadyClock, SystemClock
from headgate.kit.db import migration, schema
from headgate.kit.db.engine import Database
from headgate.kit.failpoint import failpoint
from headgate.kit.http.guard import EgressRules
from headgate.kit.http.message import Origin
from headgate.kit.ids import Ids
from headgate.kit.rate_limiter import RateLimiter
from headgate.kit.settings import Settings
from headgate.main import data_lock, data_remains, master_keys
from headgate.main.data_lock import DATABASE_FILE, DataDirectoryInUseError
from headgate.main.egress import build_rules
from headgate.metering.jobs import Latencies
from headgate.relay.ports import OPERATOR
from headgate.vault import service as vault


class Installation:
    """The services of one process. Snapshots are empty until `load`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        master_key: vault.MasterKey,
        egress_rules: EgressRules,
        *,
        clock: Clock,
        source: vault.MasterKeySource | None = None,
    ) -> None:
        self.settings = settings
        self.database = database
        self.egress_rules = egress_rules
        self.clock = clock
        self.steady_clock = SteadyClock(clock)
        self.ids = Ids()
        self.audit = AuditLog(self.clock)
        self.accounts = AccountService(self.clock, self.ids, self.audit)
        self.keys = keys.KeyService(
            self.steady_clock,
            self.accounts,
            self.audit,
            keys_max=settings.keys_max,
            subscribed=lambda _topic: settings.test_mode,
        )
        self.people = PersonService(self.clock, self.ids, self.audit)
        self.members = MemberService(self.audit)
        self.invitations = InvitationService(
            self.steady_clock,
            self.ids,
            self.audit,
            self.people,
            open_seconds=settings.invitation_seconds,
        )
        self.sessions = SessionService(
            self.steady_clock,
            self.ids,
            self.audit,
            absolute_seconds=settings.session_seconds,
            idle_seconds=settings.session_idle_seconds,
        )
        self.hasher = PasswordHasher()
        self.key_index = keys.KeyIndex(self.clock)
        self.catalog = catalog.Catalog.load(settings.catalog_dir)
        self.price_book = catalog.PriceBook(self.catalog, self.audit, self.clock)
        self.catalog_settings = catalog.CatalogSettings(self.catalog, self.audit, self.clock)
        self.rate_limiter = RateLimiter(self.clock)
        sealer = vault.Sealer(master_key, self.clock, source)
        integrations = self.catalog.integrations
        self.vault = vault.Vault(sealer, integrations, self.clock)
        self.offers = vault.ManagedOffers(self.vault)
        self.managed_models = vault.ManagedBook(
            models=self.catalog,
            audit=self.audit,
            clock=self.clock,
            ids=self.ids,
        )
        self.latencies = Latencies()
        self.capacities = vault.Capacities(self.clock)
        self.secrets = vault.SecretBook(sealer, clock=self.clock, ids=self.ids, audit=self.audit)
        self._sealer = sealer
        self.rotations = vault.Rotations(sealer, self.clock, self.ids, self.audit)
        self.credentials = self._open_book()

    def allow(self, origin: Origin) -> None:
        """Let the operator's credentials go to an origin that this process has itself put up."""
        self.egress_rules = self.egress_rules.with_origins(OPERATOR, origin)
        self.credentials = self._open_book()

    def _open_book(self) -> vault.CredentialBook:
        return vault.CredentialBook(
            self._sealer,
            self.catalog.integrations,
            egress_rules=self.egress_rules,
            clock=self.clock,
            ids=self.ids,
            audit=self.audit,
        )

    def load(self, connection: sa.Connection, topics: frozenset[str]) -> None:
        """Take up what is stored under the topics that changed."""
        if not topics.isdisjoint(keys.TOPICS):
            self.key_index.load(connection)
        if vault.TOPIC in topics:
            self.vault.load(connection)
            self.offers.load(connection)
        if catalog.TOPIC in topics:
            self.catalog.reload(connection)
            self.catalog_settings.reload(connection)

    def write_back(self, connection: sa.Connection) -> None:
        """Write down what was noted beside the calls."""
        schema.record_time(connection, self.steady_clock.now())
        self.vault.flush_used(connection)
        self.capacities.flush(connection)

    @property
    def has_old_master_key(self) -> bool:
        """Whether the next start needs another master key than this process has."""
        return self._sealer.is_outdated

    def close(self) -> None:
        """Close the database, and end the threads that hash passwords."""
        self.hasher.close()
        self.database.close()


def open_installation(settings: Settings, *, clock: Clock | None = None) -> Installation:
    """Open a data directory, made and brought up to date first where that is needed.

    Raises a `HeadgateError` (`UnusableDataDirectoryError`, `InvalidMasterKeyError`,
    `KeyServiceUnavailableError`,
    `UnusableSchemaError`, `StorageUnavailableError`), and has then written nothing to an existing
    database.
    """
    egress_rules = build_rules(settings)
    data_lock.make_directory(settings.data)
    remains = data_remains.find(settings)
    if settings.database_url is None:
        data_remains.check_file(settings, remains)
    database = open_database(settings)
    try:
        if remains and not migration.has_schema(database):
            raise data_remains.refuse(settings, database.name, remains)
        source = master_keys.build_source(settings)
        with database.reading() as connection:
            known = source.find(connection)
        migration.prepare(database, schema.METADATA)
        with database.transaction(alone=True) as connection:
            if known is None or known.provenance.wrapped is None:
                # Another process may have made or remembered its own in the meantime.
                known = source.find(connection)
            master_key = known or source.create()
            failpoint("first_start_master_key")
            installation = Installation(
                settings,
                database,
                master_key,
                egress_rules,
                clock=clock or SystemClock(),
                source=source,
            )
            installation.steady_clock.raise_to(schema.read_time(connection))
            vault.remember_master_key(connection, master_key, now=installation.clock.now())
    except BaseException:
        database.close()
        raise
    return installation


def open_for_command(settings: Settings, command: str) -> Installation:
    """Open a data directory for a command, also beside a running server, whose schema is left as
    it is. Raises as `open_installation`, and `DataDirectoryInUseError` where the schema would have
    to change."""
    try:
        with data_lock.hold(settings, command):
            return open_installation(settings)
    except DataDirectoryInUseError:
        database = open_database(settings)
        try:
            if not migration.is_current(database):
                raise
        finally:
            database.close()
    return open_installation(settings)


def open_database(settings: Settings) -> Database:
    """The database of the settings: PostgreSQL where there is a URL, else the file. Raises
    `InvalidDatabaseUrlError` and `DriverNotInstalledError`."""
    return Database(
        settings.database_url or settings.data / DATABASE_FILE,
        busy_timeout_seconds=settings.database_wait_seconds,
        always_flush=settings.always_flush,
    )
