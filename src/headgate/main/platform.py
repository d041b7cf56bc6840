"""Builds the platform API from the parts of the application."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.routing import BaseRoute

from headgate.api.access_denials import AccessDenialLog
from headgate.api.operation import Operations
from headgate.api.platform import build_routes
from headgate.api.routes import ALL
from headgate.api.services import Services
from headgate.credentials.service import CredentialTester
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.db.writer import Writer
from headgate.kit.http.message import Client
from headgate.main.application import Application
from headgate.main.authentication import build_authentication
from headgate.main.data_plane import build_signatures
from headgate.main.payments import build_checkout
from headgate.relay.ports import Receipt, Settlement
from headgate.request_log.service.replay import NoReplayer, Replayer
from headgate.request_log.service.tail import RequestTails
from headgate.vault.jobs import RotationRunner


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
) -> Services:
    """Build what the platform API and the MCP server use. Requests that they send themselves go
    through `client`, are recorded by `settlement`, and reported to `observe`."""
    storage = AsyncDatabase(application.database, writer, reload=reload)
    authentication = build_authentication(application, storage, client)
    return Services(
        storage=storage,
        clock=application.clock,
        ids=application.ids,
        audit=application.audit,
        denials=denials or build_access_denial_log(application, writer, reload=reload),
        accounts=application.accounts,
        people=application.people,
        members=application.members,
        invitations=application.invitations,
        sessions=application.sessions,
        authentication=authentication,
        keys=application.keys,
        workspaces=application.workspace_index,
        budgets=application.budget_service,
        plans=application.plans,
        key_index=application.key_index,
        rate_limiter=application.rate_limiter,
        credentials=application.credentials,
        catalog=application.catalog,
        prices=application.prices,
        receipts=application.receipts,
        catalog_settings=application.catalog_settings,
        managed_models=application.managed_models,
        request_log=application.request_log,
        request_tails=build_tails(application),
        error_rates=application.error_rates,
        replayer=replayer or NoReplayer(),
        sealer=application.sealer,
        secrets=application.secrets,
        signatures=build_signatures(application.settings, application, writer),
        signing_secrets=application.signing_secrets,
        webhooks=application.webhooks,
        credential_resolver=application.credential_resolver,
        resources=application.resources,
        dry_runs=application.dry_runs,
        resource_index=application.resource_index,
        capacity_tracker=application.capacity_tracker,
        capacity=application.capacity,
        pools=application.pools,
        credential_tester=build_credential_tester(application, client, settlement, observe),
        rotation_runner=RotationRunner(
            application.rotations, application.accounts, application.database, writer
        ),
        checkout=build_checkout(application, client),
        adjustments=application.adjustments,
        wallet_settings=application.wallet_settings,
        auto_top_ups=application.auto_top_ups,
        render_invoice=application.render_invoice,
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
