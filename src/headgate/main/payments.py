"""Builds what takes payments. The library of the provider is loaded at the first payment."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from headgate.audit.model import Actor
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.db.engine import Database
from headgate.kit.db.writer import Writer
from headgate.kit.http.message import Client
from headgate.kit.jobs import Job
from headgate.main.application import Application
from headgate.main.egress import open_client
from headgate.main.local_address import find_local_url
from headgate.payments.jobs import INVOICE_SECONDS, TOP_UP_SECONDS, InvoiceJob
from headgate.payments.model.order import PaymentOrder
from headgate.payments.service.automatic import AutomaticTopUps
from headgate.payments.service.checkout import Checkout, PaymentLimits, TopUp
from headgate.payments.service.provider import PaymentProvider, ProviderLoader
from headgate.settings import Settings

Result = TypeVar("Result")


def build_checkout(application: Application, client: Client) -> Checkout:
    """Build the service that starts payments, with requests through `client`."""
    settings = application.settings
    limits = PaymentLimits(
        settings.top_up_cents_min, settings.top_up_cents_max, find_return_url(settings)
    )
    loader = build_loader(application, client)
    return Checkout(application.orders, application.accounts, loader, limits)


def build_jobs(
    application: Application, writer: Writer, client: Client, reload: Callable[[], None]
) -> list[Job]:
    """Return the background work of payments, with requests to the provider through `client`."""
    storage = AsyncDatabase(application.database, writer, reload=reload)
    top_ups = AutomaticTopUps(
        storage,
        application.orders,
        application.auto_top_ups,
        build_loader(application, client),
        application.clock,
    )
    invoices = InvoiceJob(storage, application.invoices, application.monthly_invoices)
    return [
        Job(name="top_up", run=top_ups.run, period_seconds=TOP_UP_SECONDS),
        Job(name="invoice", run=invoices.run, period_seconds=INVOICE_SECONDS, first_seconds=20.0),
    ]


async def start_top_up(
    application: Application, organization_id: str, wanted: TopUp, *, by: Actor
) -> PaymentOrder:
    """Start a payment from a command, without a server."""
    client = open_client(application.settings, application.egress_rules)
    try:
        checkout = build_checkout(application, client)
        storage = CommandStorage(application.database)
        return await checkout.start_top_up(storage, organization_id, wanted, by=by)
    finally:
        await client.close()


class CommandStorage:
    """Read and write the database of a command, which waits for nothing else."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, work: Callable[[sa.Connection], Result]) -> Result:
        with self._database.reading() as connection:
            return work(connection)

    async def write(self, work: Callable[[sa.Connection], Result]) -> Result:
        with self._database.transaction() as connection:
            return work(connection)


def build_loader(application: Application, client: Client) -> ProviderLoader:
    settings = application.settings
    key, secret = settings.stripe_secret_key, settings.stripe_webhook_secret
    if key is None or secret is None:
        return ProviderLoader(None)

    def load() -> PaymentProvider:
        gateway = importlib.import_module("headgate.payments.service.stripe_gateway")
        config = gateway.StripeConfig(key, secret, settings.stripe_api_base)
        return gateway.StripeGateway(config, client, application.clock)

    return ProviderLoader(load)


def find_return_url(settings: Settings) -> str:
    """Return where the payment page leads back to."""
    return settings.payment_return_url or settings.public_url or find_local_url(settings)
