"""Builds the platform API on the services of an installation."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.routing import Route

from headgate.api.platform import build_routes
from headgate.api.principal import Principal
from headgate.api.services import Services
from headgate.kit.db.writer import Writer
from headgate.main.installation import Installation
from headgate.main.storage import Storage


def build(
    installation: Installation, writer: Writer, *, take_up: Callable[[], None]
) -> list[Route]:
    """Every route of the API."""
    services = Services(
        storage=Storage(installation.database, writer, take_up=take_up),
        clock=installation.clock,
        ids=installation.ids,
        audit=installation.audit,
        accounts=installation.accounts,
        keys=installation.keys,
        key_ring=installation.key_ring,
        rates=installation.rates,
        managed_models=installation.managed_models,
    )
    return build_routes(services, identify)


async def identify(_request: Request, _token: str) -> Principal | None:
    """Nobody signs in yet."""
    return None
