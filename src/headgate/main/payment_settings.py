"""Checks the settings of payments before anything is served."""

from __future__ import annotations

import importlib.util

from headgate.kit.http.message import Origin
from headgate.kit.http.url import parse_url
from headgate.settings import InvalidSettingError, Settings, variable_of

SECRET_BYTES_MIN = 24


def check_payments(settings: Settings) -> None:
    """Raise `InvalidSettingError` for settings by which anybody could credit a wallet, or a payment
    would never be credited."""
    parse_api_base(settings)
    secret, key = settings.stripe_webhook_secret, settings.stripe_secret_key
    if secret is not None and len(secret.encode()) < SECRET_BYTES_MIN:
        raise _refuse(
            "stripe_webhook_secret",
            f"must have at least {SECRET_BYTES_MIN} bytes: a short one could be guessed, and "
            "payments be forged",
        )
    if key is not None and secret is None:
        needed = variable_of("stripe_webhook_secret")
        raise _refuse("stripe_secret_key", f"needs {needed} as well, or no payment is credited")
    if key is not None and importlib.util.find_spec("stripe") is None:
        raise _refuse("stripe_secret_key", "needs the extra: pip install 'headgate[payments]'")
    if settings.invoice_font is not None and not settings.invoice_font.is_file():
        raise _refuse("invoice_font", f"names no file: {settings.invoice_font}")
    if settings.top_up_cents_max < settings.top_up_cents_min:
        raise _refuse("top_up_cents_max", "must not be below the smallest payment")


def parse_api_base(settings: Settings) -> Origin:
    """Return the origin of the payment provider. Raise `InvalidSettingError`."""
    try:
        return parse_url(settings.stripe_api_base)[0]
    except ValueError as error:
        raise _refuse("stripe_api_base", f"cannot be used: {error}") from error


def _refuse(name: str, reason: str) -> InvalidSettingError:
    return InvalidSettingError(f"{variable_of(name)} {reason}.", param=name)
