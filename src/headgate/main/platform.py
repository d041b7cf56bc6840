"""Builds the platform API from the parts of the application."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.routing import BaseRoute

from headgate.api.access_denials import AccessDenialLog
from headgate.api.operation import Operations
from headgate.api.platform import build_routes
from headgate.api.routes import ALL
from headgate.api.services import Services
from headgate.connectors.service.action_receipts import ActionReceipts
from headgate.credentials.service import CredentialTester
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.db.writer import Writer
from headgate.kit.http.message import Client
from headgate.main.actions import InProcessModels, build_actions
from headgate.main.application import Application
from headgate.main.assets import build_assets
from headgate.main.authentication import build_authentication
from headgate.main.data_plane import build_signatures
from headgate.main.mcp_servers import McpServerParts, build_mcp_servers
from headgate.main.oauth import build_authorization_server
from headgate.main.payments import build_checkout
from headgate.main.setup import build_directory, build_setup
from headgate.relay.ports import Receipt, Settlement
from headgate.request_log.service.replay import NoReplayer, Replayer
from headgate.request_log.service.tail import RequestTails
from headgate.vault.jobs import RotationRunner

SHARED = (
    "accounts",
    "adjustments",
    "assets",
    "audit",
    "auto_top_ups",
    "capacity",
    "capacity_tracker",
    "catalog",
    "catalog_settings",
    "clock",
    "credential_resolver",
    "credentials",
    "dry_runs",
    "error_rates",
    "ids",
    "invitations",
    "key_index",
    "keys",
    "managed_models",
    "mcp_servers",
    "mcp_tools",
    "members",
    "people",
    "plans",
    "pools",
    "prices",
    "rate_limiter",
    "receipts",
    "render_invoice",
    "request_log",
    "resource_index",
    "resources",
    "sealer",
    "secrets",
    "sessions",
    "signing_secrets",
    "wallet_settings",
    "webhooks",
)
"""The services that operations use as the application has them."""


def build(
    application: Application,
    writer: Writer,
    *,
    reload: Callable[[], None],
    client: Client,
    settlement: Settlement,
    observe: Callable[[Receipt, int], None],
    denials: AccessDenialLog | None = None,
    replayer: Replayer | None = None,
    models: InProcessModels | None = None,
    mcp: McpServerParts | None = None,
    modules: Sequence[Operations] = ALL,
) -> list[BaseRoute]:
    """Return the routes of the platform API."""
    services = build_services(
        application,
        writer,
        reload=reload,
        client=client,
        settlement=settlement,
        observe=observe,
        denials=denials,
        replayer=replayer,
        models=models,
        mcp=mcp,
    )
    return build_routes_of(services, modules=modules)


def build_routes_of(services: Services, *, modules: Sequence[Operations] = ALL) -> list[BaseRoute]:
    """Return the routes of the platform API over its services."""
    return build_routes(services, services.authentication.authenticator.identify, modules=modules)


def build_services(
    application: Application,
    writer: Writer,
    *,
    reload: Callable[[], None],
    client: Client,
    settlement: Settlement,
    observe: Callable[[Receipt, int], None],
    denials: AccessDenialLog | None = None,
    replayer: Replayer | None = None,
    models: InProcessModels | None = None,
    mcp: McpServerParts | None = None,
) -> Services:
    """Build what the platform API and the MCP server use. Requests that they send themselves go
    through `client`, are recorded by `settlement`, and reported to `observe`; those of actions to
    models through `models`."""
    storage = AsyncDatabase(application.database, writer, reload=reload)
    authentication = build_authentication(application, storage, client)
    assets = build_assets(application, storage, client)
    actions = build_actions(
        application,
        client=client,
        receipts=ActionReceipts(settlement, application.clock, observe),
        models=models,
        handles=assets.handles,
    )
    tester = build_credential_tester(application, client, settlement, observe)
    return Services(
        **{name: getattr(application, name) for name in SHARED},
        storage=storage,
        denials=denials or build_access_denial_log(application, writer, reload=reload),
        authentication=authentication,
        workspaces=application.workspace_index,
        budgets=application.budget_service,
        request_tails=build_tails(application),
        replayer=replayer or NoReplayer(),
        oauth=build_authorization_server(application, storage, client),
        signatures=build_signatures(application.settings, application, writer),
        asset_files=assets.files,
        handles=assets.handles,
        credential_tester=tester,
        rotation_runner=RotationRunner(
            application.rotations, application.accounts, application.database, writer
        ),
        checkout=build_checkout(application, client),
        actions=actions,
        directory=build_directory(application, actions),
        setup=build_setup(application, storage, tester, actions),
        mcp_discoverer=(mcp or build_mcp_servers(application, storage, client)).discoverer,
    )


def build_credential_tester(
    application: Application,
    client: Client,
    settlement: Settlement,
    observe: Callable[[Receipt, int], None],
) -> CredentialTester:
    return CredentialTester(
        client,
        settlement=settlement,
        models=application.catalog,
        observe=observe,
        clock=application.clock,
        ids=application.ids,
        per_minute=application.settings.credential_tests_per_minute,
    )


def build_tails(application: Application) -> RequestTails:
    seconds_max = application.settings.request_tail_seconds_max
    return RequestTails(application.clock, seconds_max=seconds_max)


def build_access_denial_log(
    application: Application, writer: Writer, *, reload: Callable[[], None]
) -> AccessDenialLog:
    storage = AsyncDatabase(application.database, writer, reload=reload)
    return AccessDenialLog(storage, application.audit, application.key_index)
