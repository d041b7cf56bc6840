"""Connect the limits of capacity to the Valkey that the settings name."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.main.application import Application
from headgate.settings import Settings
from headgate.telemetry.observers import Observers


class ValkeyNotInstalledError(HeadgateError):
    """HEADGATE_VALKEY_URL is set, and the client of Valkey is not installed.

    Install `headgate[valkey]`, or remove the setting.
    """

    kind = Kind.UNSUPPORTED
    code = "extra_missing"


class InvalidValkeyUrlError(HeadgateError):
    """HEADGATE_VALKEY_URL is not the URL of a Valkey.

    Write it as `valkey://host:6379/0`, `redis://...`, or `rediss://...` with TLS.
    """

    kind = Kind.INVALID
    code = "invalid_valkey_url"


def share_capacity(
    settings: Settings,
    application: Application,
    stack: contextlib.AsyncExitStack,
    observers: Observers,
) -> None:
    """Let the limits be counted in Valkey, where the settings name one. Raise
    `ValkeyNotInstalledError` or `InvalidValkeyUrlError`."""
    limiter = application.capacity
    observers.watch({}, {"capacity_refusals": lambda: limiter.refusals})
    if settings.valkey_url is None:
        return
    shared = connect(settings, application.capacity_clock)
    limiter.share(shared.counters, shared.pools)
    stack.push_async_callback(shared.close)
    observers.watch({}, {"valkey_failures": lambda: shared.failures})


def connect(settings: Settings, clock: Clock) -> Any:
    """Return what counts in Valkey. Nothing is connected yet."""
    try:
        valkey: Any = importlib.import_module("headgate.capacity.service.valkey")
    except ModuleNotFoundError as error:
        message = "HEADGATE_VALKEY_URL needs a client: pip install 'headgate[valkey]'"
        raise ValkeyNotInstalledError(message) from error
    # The client knows Valkey by the names of Redis.
    url = (settings.valkey_url or "").replace("valkey://", "redis://", 1)
    url = url.replace("valkeys://", "rediss://", 1)
    try:
        return valkey.Valkey(url, clock, timeout_seconds=settings.valkey_timeout_seconds)
    except ValueError as error:
        raise InvalidValkeyUrlError(f"HEADGATE_VALKEY_URL cannot be read: {error}") from None
