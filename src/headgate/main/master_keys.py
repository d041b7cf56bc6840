"""Builds the source of the master key from the settings: this machine, or a key service."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from headgate.data_directory.leftovers import MASTER_KEY_FILE
from headgate.kit.clock import SystemClock
from headgate.kit.http.errors import EgressError
from headgate.kit.http.message import Origin, Request
from headgate.main.egress import build_rule, open_client
from headgate.settings import InvalidSettingError, Settings, variable_of
from headgate.vault.service.master_key import LOCAL, LocalSource, RemoteSource
from headgate.vault.service.master_key.configuration import (
    InvalidKeyServiceConfigError,
    KeyServiceConfig,
    build_key_service,
)
from headgate.vault.service.master_key.key_service import ANSWER_BYTES_MAX, KeyServiceResponse, Send


class KeyServiceSender:
    """Send requests to a key service through the egress client; block until the answer is read. The
    operator named the service in the settings, so its origin is allowed for this purpose only."""

    def __init__(self, settings: Settings, *origins: Origin) -> None:
        self._settings = settings
        self._rule = build_rule(settings).with_origins(*origins)

    def __call__(self, request: Request) -> KeyServiceResponse:
        with ThreadPoolExecutor(1, thread_name_prefix="headgate-key-service") as pool:
            return pool.submit(asyncio.run, self._send(request)).result()

    async def _send(self, request: Request) -> KeyServiceResponse:
        client = open_client(self._settings, self._rule)
        try:
            response = await client.send(request)
            return KeyServiceResponse(response.status, await response.read(ANSWER_BYTES_MAX))
        except OSError as error:
            raise EgressError(str(error)) from error
        finally:
            await client.close()


def build_source(settings: Settings) -> LocalSource | RemoteSource:
    """Return the source of the master key that the settings name. Raise `InvalidSettingError` and
    `InvalidMasterKeyError`."""
    if settings.master_key_provider == LOCAL:
        return LocalSource(text=settings.master_key, path=settings.data / MASTER_KEY_FILE)

    def open_sender(*origins: Origin) -> Send:
        return KeyServiceSender(settings, *origins)

    fields = KeyServiceConfig.__struct_fields__
    config = KeyServiceConfig(**{name: getattr(settings, name) for name in fields})
    try:
        return RemoteSource(build_key_service(config, open_sender, SystemClock()))
    except InvalidKeyServiceConfigError as error:
        message = f"{variable_of(error.field)} {error.reason}"
        raise InvalidSettingError(message, param=error.field) from error
