"""Builds the platform API on the services of an installation."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import Route

from headgate.api.platform import build_routes
from headgate.api.refusals import Refusals
from headgate.api.services import Services
from headgate.kit.db.writer import Writer
from headgate.kit.http.message import Client
from headgate.main.authentication import build_authentication
from headgate.main.installation import Installation
from headgate.main.rotations import KeyDesk
from headgate.main.storage import Storage
from headgate.relay.ports import Receipt, Settlement
from headgate.vault.service import Trials


def build(
    installation: Installation,
    writer: Writer,
    *,
    reload: Callable[[], None],
    client: Client,
    settlement: Settlement,
    observe: Callable[[Receipt, int], None],
    refusals: Refusals | None = None,
) -> list[Route]:
    """Every route of the API. What it sends itself goes through `client`, is recorded by
    `settlement`, and told to `observe`."""
    storage = Storage(installation.database, writer, reload=reload)
    authentication = build_authentication(installation, storage, client)
    services = Services(
        storage=storage,
        clock=installation.clock,
        ids=installation.ids,
        audit=installation.audit,
        refusals=refusals or build_refusals(installation, writer, reload=reload),
        accounts=installation.accounts,
        people=installation.people,
        members=installation.members,
        invitations=installation.invitations,
        sessions=installation.sessions,
        authentication=authentication,
        keys=installation.keys,
        key_index=installation.key_index,
        rate_limiter=installation.rate_limiter,
        credentials=installation.credentials,
        catalog=installation.catalog,
        price_book=installation.price_book,
        catalog_settings=installation.catalog_settings,
        managed_models=installation.managed_models,
        secrets=installation.secrets,
        vault=installation.vault,
        capacities=installation.capacities,
        trials=Trials(
            client,
            settlement=settlement,
            models=installation.catalog,
            observe=observe,
            clock=installation.clock,
            ids=installation.ids,
            per_minute=installation.settings.credential_tests_per_minute,
        ),
        key_desk=KeyDesk(installation, writer),
    )
    return build_routes(services, authentication.authenticator.identify)


def build_refusals(
    installation: Installation, writer: Writer, *, reload: Callable[[], None]
) -> Refusals:
    """What writes down who was not let in."""
    storage = Storage(installation.database, writer, reload=reload)
    return Refusals(storage, installation.audit, installation.key_index)
