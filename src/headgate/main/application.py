"""The composition root: the services of one process, built from its settings and its database."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import sqlalchemy as sa

from headgate.accounts.service import TOPIC as ACCOUNTS_TOPIC
from headgate.accounts.service import (
    AccountService,
    FirstOwner,
    InvitationService,
    MemberService,
    PasswordHasher,
    PersonService,
    SessionService,
    WorkspaceIndex,
)
from headgate.assets.model.asset import AssetUsage
from headgate.assets.service import AssetService
from headgate.audit.service import AuditLog
from headgate.billing.service.budget_index import TOPICS as BUDGET_TOPICS
from headgate.billing.service.budget_index import BudgetIndex
from headgate.billing.service.budgets import BudgetService
from headgate.billing.service.plan_limits import TOPIC as PLANS_TOPIC
from headgate.billing.service.plan_limits import PlanLimitIndex
from headgate.billing.service.plans import PlanService
from headgate.billing.service.receipts import ReceiptService
from headgate.capacity import service as capacity
from headgate.catalog.service.catalog import TOPIC as CATALOG_TOPIC
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.service.prices import PriceService
from headgate.catalog.service.settings import CatalogSettings
from headgate.credentials import service as credentials
from headgate.data_directory import directory_lock, leftovers
from headgate.data_directory.database import open_database
from headgate.data_directory.directory_lock import DATABASE_FILE, DataDirectoryInUseError
from headgate.data_directory.leftovers import FIRST_KEYS_FILE
from headgate.keys import service as keys
from headgate.kit import idempotency, outbox
from headgate.kit.clock import Clock, SteadyClock, SystemClock
from headgate.kit.db import cache_store, claim_store, migration, repetition_store, schema
from headgate.kit.db.clock import DatabaseClock
from headgate.kit.db.engine import Database
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.failpoint import failpoint
from headgate.kit.http.guard import EgressRules
from headgate.kit.http.lookup import SystemLookup
from headgate.kit.http.message import Origin
from headgate.kit.ids import IdGenerator
from headgate.kit.rate_limiter import RateLimiter
from headgate.main.egress import build_rules, simulator_origin
from headgate.main.master_keys import build_source
from headgate.mcp_servers import service as mcp_servers
from headgate.metering.jobs import Latencies
from headgate.oauth import service as oauth
from headgate.payments.model.invoice import Party, StoredInvoice
from headgate.payments.service.adjustments import AdjustmentService
from headgate.payments.service.auto_top_ups import AutoTopUpService
from headgate.payments.service.documents import render_pdf
from headgate.payments.service.invoices import InvoiceService
from headgate.payments.service.monthly import MonthlyInvoices
from headgate.payments.service.orders import OrderService
from headgate.payments.service.settings import WalletSettingsService
from headgate.relay.balancing import Balancer
from headgate.relay.ports import OPERATOR
from headgate.request_log.service.error_rates import AttemptCounter
from headgate.request_log.service.index import TOPIC as REQUEST_LOG_TOPIC
from headgate.request_log.service.index import RequestLogIndex
from headgate.request_log.service.requests import RequestLogService
from headgate.resources import service as resources
from headgate.settings import Settings
from headgate.signatures import service as signatures
from headgate.vault import service as vault
from headgate.webhooks import service as webhooks

TABLES = (
    *(idempotency.IDEMPOTENT_RESPONSES, claim_store.CLAIMS, cache_store.CACHED),
    repetition_store.REPEATABLE,
    capacity.WINDOWS,
)
"""The tables that no service below uses: a command that makes the database makes them, too."""


class DataDirectoryNotFoundError(HeadgateError):
    """The data directory lacks what the command works on.

    Name the directory with `--data`, or start the server once.
    """

    kind = Kind.MISSING
    code = "data_missing"


class Application:
    """Hold the services of one process. Snapshots are empty until `load`.

    What seals or opens secrets is there from `unlock` on: `sealer`, `credential_resolver`,
    `managed_routes`, `resource_index`, `dry_runs`, `secrets`, `signing_secrets`, `rotations`,
    `webhooks`, `credentials` and `mcp_servers`.
    Commands that touch no secret need no master key.
    """

    sealer: vault.Sealer
    credential_resolver: credentials.CredentialResolver
    managed_routes: credentials.ManagedModelRouteTable
    resource_index: resources.ResourceIndex
    dry_runs: resources.DryRuns
    secrets: vault.SecretService
    signing_secrets: signatures.SigningSecretService
    rotations: vault.Rotations
    webhooks: webhooks.WebhookService
    credentials: credentials.CredentialService
    mcp_servers: mcp_servers.McpServerService

    def __init__(
        self,
        settings: Settings,
        database: Database,
        egress_rules: EgressRules,
        *,
        clock: Clock | None = None,
        catalog: Catalog | None = None,
    ) -> None:
        self.settings = settings
        self.database = database
        self.egress_rules = egress_rules
        self.clock = clock = clock or SystemClock()
        self.steady_clock = SteadyClock(clock)
        self.database_clock = DatabaseClock(clock, database)
        self.ids = IdGenerator()
        self.audit = AuditLog(clock)
        self.webhook_index = webhooks.EndpointIndex()
        self.subscriptions = webhooks.Subscriptions()
        self.read_wanted: outbox.ReadWanted = self.subscriptions.read_wanted
        if settings.test_mode:
            self.read_wanted = outbox.want_everything
        self.accounts = AccountService(clock, self.ids, self.audit)
        self.keys = keys.KeyService(
            self.steady_clock,
            self.accounts,
            self.audit,
            keys_max=settings.keys_max,
            read_wanted=self.read_wanted,
        )
        self.budget_service = BudgetService(clock, self.accounts, self.keys, self.audit)
        self.plans = PlanService(clock, self.accounts, self.audit)
        self.people = PersonService(clock, self.ids, self.audit)
        self.members = MemberService(self.audit)
        self.invitations = InvitationService(
            self.steady_clock,
            self.ids,
            self.audit,
            self.people,
            open_seconds=settings.invitation_seconds,
        )
        self.first_owner = FirstOwner(
            self.accounts,
            self.people,
            self.invitations,
            file=settings.data / FIRST_KEYS_FILE,
            is_shared=settings.database_url is not None,
        )
        self.sessions = SessionService(
            self.steady_clock,
            self.ids,
            self.audit,
            absolute_seconds=settings.session_seconds,
            idle_seconds=settings.session_idle_seconds,
        )
        self.hasher = PasswordHasher()
        self._build_indexes(clock)
        self.catalog = catalog or Catalog.load(settings.catalog_dir)
        self.prices = PriceService(self.catalog, self.audit, clock)
        self.receipts = ReceiptService(self.prices)
        self.catalog_settings = CatalogSettings(self.catalog, self.audit, clock)
        self.managed_models = credentials.ManagedModelService(
            models=self.catalog, audit=self.audit, clock=clock, ids=self.ids
        )
        self.resources = self._build_resources()
        self._build_for_agents()
        self._build_payments()
        self.rate_limiter = RateLimiter(clock)
        self._build_observers()
        self._build_capacity()

    def _build_mcp_tools(self) -> mcp_servers.McpToolService:
        seconds = self.settings.mcp_server_refresh_seconds
        return mcp_servers.McpToolService(
            clock=self.clock, audit=self.audit, refresh_seconds=seconds
        )

    def _build_observers(self) -> None:
        self.latencies = Latencies()
        self.balancer = Balancer(self.clock)
        self.capacity_tracker = credentials.CapacityTracker(self.clock)
        index = self.request_log_index = RequestLogIndex(self.settings.request_log)
        self.request_log = RequestLogService(self.clock, self.audit, index)
        self.error_rates = AttemptCounter(self.clock, self.ids.make("proc"))

    def _build_capacity(self) -> None:
        self.pools = capacity.PoolService(self.clock, self.audit)
        self.pool_index = capacity.PoolIndex()
        self.capacity_clock = SteadyClock(self.database_clock)
        self.capacity_windows = capacity.Windows(
            windows_max=self.settings.capacity_windows_max,
            keeps_minutes=self.settings.database_url is not None,
        )
        self.capacity = capacity.CapacityLimiter(
            self.capacity_clock,
            self.capacity_windows,
            announced=self.capacity_tracker,
            pools=self.pool_index,
        )

    def _build_indexes(self, clock: Clock) -> None:
        """Build what calls look up in memory, of keys and of their owners."""
        self.key_index = keys.KeyIndex(clock)
        self.workspace_index = WorkspaceIndex()
        self.mcp_server_index = mcp_servers.McpServerIndex()
        self.signing_secret_index = signatures.SigningSecretIndex()
        self.budgets = BudgetIndex()
        self.plan_limits = PlanLimitIndex(clock)

    def _build_resources(self) -> resources.ResourceService:
        return resources.ResourceService(
            self.accounts,
            self.keys,
            self.catalog,
            clock=self.clock,
            ids=self.ids,
            audit=self.audit,
            resources_max=self.settings.resources_max,
        )

    def _build_for_agents(self) -> None:
        settings = self.settings
        self.mcp_tools = self._build_mcp_tools()
        maxima = AssetUsage(settings.assets_max, settings.assets_bytes_max)
        self.assets = AssetService(self.accounts, self.clock, self.audit, maxima)
        self._build_oauth()

    def _build_payments(self) -> None:
        settings = self.settings
        self.invoices = InvoiceService(
            self.clock,
            self.ids,
            self.audit,
            issuer=Party(
                settings.invoice_issuer_name,
                (settings.invoice_issuer_address or "").replace(",", "\n"),
                settings.invoice_issuer_tax_id or "",
            ),
            prefix=settings.invoice_prefix,
            read_wanted=self.read_wanted,
        )
        self.auto_top_ups = AutoTopUpService(
            self.clock,
            self.audit,
            cents_min=settings.top_up_cents_min,
            cents_max=settings.top_up_cents_max,
            read_wanted=self.read_wanted,
        )
        self.orders = OrderService(
            self.clock,
            self.ids,
            self.audit,
            accounts=self.accounts,
            invoices=self.invoices,
            auto_top_ups=self.auto_top_ups,
            read_wanted=self.read_wanted,
        )
        self.monthly_invoices = MonthlyInvoices(
            self.clock, self.accounts, self.invoices, retention_days=settings.retention_days
        )
        self.adjustments = AdjustmentService(self.clock, self.audit, self.invoices)
        self.wallet_settings = WalletSettingsService(self.audit)

    def _build_oauth(self) -> None:
        settings = self.settings
        self.connected_applications = oauth.ApplicationService(
            self.accounts,
            self.people,
            self.keys,
            self.audit,
            clock=self.steady_clock,
            ids=self.ids,
        )
        self.oauth_tokens = oauth.TokenService(
            self.people,
            self.keys,
            self.audit,
            clock=self.steady_clock,
            lifetimes=oauth.TokenLifetimes(
                access_seconds=settings.oauth_access_token_seconds,
                refresh_seconds=settings.oauth_refresh_token_seconds,
                grace_seconds=settings.oauth_refresh_grace_seconds,
            ),
        )

    def render_invoice(self, stored: StoredInvoice) -> bytes:
        """Return an invoice as PDF. It blocks. Raise `PdfNotInstalledError`."""
        return render_pdf(stored, self.settings.invoice_font)

    def unlock(self, connection: sa.Connection) -> Application:
        """Build what needs the master key, once, with the key that the settings name.

        Raise `InvalidMasterKeyError`, `KeyServiceUnavailableError`, and
        `DataDirectoryNotFoundError` where no key was made yet.
        """
        if not hasattr(self, "sealer"):
            source = build_source(self.settings)
            key = source.find(connection)
            if key is None:
                message = "There is no master key yet; start `headgate serve` once to make it."
                raise DataDirectoryNotFoundError(message)
            self.unlock_with(key, source)
        return self

    def unlock_with(self, master_key: vault.MasterKey, source: vault.MasterKeySource) -> None:
        """Build what needs the master key. `source` is asked when another process rotates it."""
        sealer = self.sealer = vault.Sealer(master_key, self.clock, source)
        self.credential_resolver = credentials.CredentialResolver(
            sealer, self.catalog.integrations, self.clock
        )
        self.managed_routes = credentials.ManagedModelRouteTable(self.credential_resolver)
        live_values = resources.LiveValuesSource(
            error_rates=self.error_rates,
            capacity=self.capacity,
            find_credential=self.credential_resolver.find_named,
        )
        self.resource_index = resources.ResourceIndex(
            self.credential_resolver, self.catalog, self.clock, live_values=live_values
        )
        self.dry_runs = resources.DryRuns(live_values, find_rest=self.balancer.find_rest)
        self.secrets = vault.SecretService(sealer, clock=self.clock, ids=self.ids, audit=self.audit)
        self.signing_secrets = signatures.SigningSecretService(
            sealer, clock=self.clock, audit=self.audit
        )
        self.rotations = vault.Rotations(sealer, self.clock, self.ids, self.audit)
        self.webhooks = self._build_webhooks()
        self.credentials = self._build_credentials()
        self.mcp_servers = mcp_servers.McpServerService(
            sealer,
            egress_rules=self.egress_rules,
            clock=self.clock,
            audit=self.audit,
            servers_max=self.settings.mcp_servers_max,
            reserved_names=frozenset(self.catalog.integrations),
        )

    def allow(self, origin: Origin) -> None:
        """Let the operator's credentials go to an origin that this process itself started."""
        self.egress_rules = self.egress_rules.with_origins(OPERATOR, origin)
        self.credentials = self._build_credentials()

    def _build_webhooks(self) -> webhooks.WebhookService:
        return webhooks.WebhookService(
            self.sealer,
            egress_rules=self.egress_rules,
            clock=self.database_clock,
            ids=self.ids,
            audit=self.audit,
            endpoints_max=self.settings.webhook_endpoints_max,
            read_wanted=self.read_wanted,
            lookup=SystemLookup(lookups_max=self.settings.lookups_max),
        )

    def _build_credentials(self) -> credentials.CredentialService:
        return credentials.CredentialService(
            self.sealer,
            self.catalog.integrations,
            egress_rules=self.egress_rules,
            clock=self.clock,
            ids=self.ids,
            audit=self.audit,
        )

    def load(self, connection: sa.Connection, topics: frozenset[str]) -> None:
        if not topics.isdisjoint(keys.TOPICS):
            self.key_index.load(connection)
        if ACCOUNTS_TOPIC in topics or not self.workspace_index.is_loaded:
            self.workspace_index.load(connection)
        self._load_limits(connection, topics)
        if vault.TOPIC in topics:
            self.credential_resolver.load(connection)
            self.managed_routes.load(connection)
        if resources.TOPIC in topics:
            self.resource_index.load(connection)
        if CATALOG_TOPIC in topics:
            self.catalog.reload(connection)
            self.catalog_settings.reload(connection)
        self._load_rest(connection, topics)

    def _load_rest(self, connection: sa.Connection, topics: frozenset[str]) -> None:
        """Load what few calls look at."""
        if signatures.TOPIC in topics or not self.signing_secret_index.is_loaded:
            self.signing_secret_index.load(connection, self.sealer)
        if REQUEST_LOG_TOPIC in topics:
            self.request_log_index.load(connection)
        if webhooks.TOPIC in topics or not self.webhook_index.is_loaded:
            self.webhook_index.load(connection, self.sealer)
            self.subscriptions.load(connection)
        index = self.mcp_server_index
        is_changed = index.has_references and vault.TOPIC in topics
        if is_changed or mcp_servers.TOPIC in topics or not index.is_loaded:
            index.load(connection, self.sealer)

    def _load_limits(self, connection: sa.Connection, topics: frozenset[str]) -> None:
        if not topics.isdisjoint(BUDGET_TOPICS):
            self.budgets.load(connection)
        if PLANS_TOPIC in topics:
            self.plan_limits.load(connection)
        if capacity.TOPIC in topics:
            self.pool_index.load(connection)

    def write_back(self, connection: sa.Connection) -> None:
        """Store what calls only noted in memory: the time, last uses, provider capacities."""
        schema.record_time(connection, self.steady_clock.now())
        self.credential_resolver.flush_used(connection)
        self.capacity_tracker.flush(connection)
        self.error_rates.share(connection)

    @property
    def has_old_master_key(self) -> bool:
        """Return whether the next start needs another master key than this process has."""
        return self.sealer.is_outdated

    def close(self) -> None:
        self.hasher.close()
        self.database.close()


def open_application(
    settings: Settings, *, clock: Clock | None = None, catalog: Catalog | None = None
) -> Application:
    """Open a data directory, which is created or upgraded where needed, with a catalog that was
    read before or else that of the settings.

    Raise a `HeadgateError` (`UnusableDataDirectoryError`, `InvalidMasterKeyError`,
    `KeyServiceUnavailableError`, `UnusableSchemaError`, `StorageUnavailableError`); nothing was
    then written to an existing database.
    """
    egress_rules = build_rules(settings)
    directory_lock.make_directory(settings.data)
    remains = leftovers.find(settings)
    if settings.database_url is None:
        leftovers.check_file(settings, remains)
    database = open_database(settings)
    try:
        if remains and not migration.has_schema(database):
            raise leftovers.refuse(settings, database.name, remains)
        source = build_source(settings)
        with database.reading() as connection:
            known = source.find(connection)
        migration.prepare(database, schema.METADATA)
        with database.transaction(exclusive=True) as connection:
            if known is None or known.provenance.wrapped is None:
                # Another process may have made or remembered its own in the meantime.
                known = source.find(connection)
            master_key = known or source.create()
            failpoint("first_start_master_key")
            application = Application(
                settings, database, egress_rules, clock=clock, catalog=catalog
            )
            application.unlock_with(master_key, source)
            application.steady_clock.raise_to(schema.read_time(connection))
            vault.store_master_key(connection, master_key, now=application.clock.now())
    except BaseException:
        database.close()
        raise
    return application


def open_application_for_command(settings: Settings, command: str) -> Application:
    """Open a data directory for a command, also beside a running server, whose schema stays.

    Raise as `open_application`, and `DataDirectoryInUseError` where the schema would have to
    change.
    """
    try:
        with directory_lock.hold(settings, command):
            return open_application(settings)
    except DataDirectoryInUseError:
        database = open_database(settings)
        try:
            if not migration.is_current(database):
                raise
        finally:
            database.close()
    return open_application(settings)


@contextlib.contextmanager
def open_existing_application(settings: Settings) -> Generator[Application]:
    """Open a data directory as it is, with the egress settings of the server that runs on it.

    Raise `DataDirectoryNotFoundError` where no server was ever started, and
    `UnusableDataDirectoryError` where the database is gone.
    """
    settings = directory_lock.adopt(settings, directory_lock.find_server(settings))
    path = settings.data / DATABASE_FILE
    if not settings.database_url:
        leftovers.check_file(settings, leftovers.find(settings))
    if not settings.database_url and not path.is_file():
        message = f"There is no database {path}; start `headgate serve` once, or give --data."
        raise DataDirectoryNotFoundError(message)
    database = open_database(settings)
    try:
        if not migration.has_schema(database):
            message = f"Headgate never used {database.name}; start `headgate serve` once."
            raise DataDirectoryNotFoundError(message)
        rules = build_rules(settings, simulator_origin(settings))
        yield Application(settings, database, rules)
    finally:
        database.close()
