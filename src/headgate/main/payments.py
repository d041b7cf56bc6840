"""Builds what takes payments. The library of the provider is loaded at the first payment."""

from __future__ import annotations

import importlib

from headgate.kit.http.message import Client
from headgate.main.application import Application
from headgate.payments.service.checkout import Checkout, PaymentLimits
from headgate.payments.service.provider import PaymentProvider, ProviderLoader
from headgate.settings import Settings


def build_checkout(application: Application, client: Client) -> Checkout:
    """Build the service that starts payments, with requests through `client`."""
    settings = application.settings
    limits = PaymentLimits(
        settings.top_up_cents_min, settings.top_up_cents_max, find_return_url(settings)
    )
    loader = build_loader(application, client)
    return Checkout(application.orders, application.accounts, loader, limits)


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
    own = f"http://{settings.host}:{settings.port}"
    return settings.payment_return_url or settings.public_url or own
