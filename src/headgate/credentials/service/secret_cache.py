"""Keeps opened secrets in memory, so that a reload opens only the seals that changed."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import msgspec
import sqlalchemy as sa

from headgate.credentials.model.credential import CredentialRecord
from headgate.credentials.model.integration import Integration
from headgate.kit.crypto import BrokenSealError, SecretKey
from headgate.vault.model.base_url import parse_base_url
from headgate.vault.model.secret import BrokenReferenceError, parse_reference
from headgate.vault.service.sealing import Sealer, bind_credential, open_secret
from headgate.vault.service.secrets import ReferencedSecrets, bind_secret, open_value

ROWS_BETWEEN_PAUSES = 8
PAUSE_SECONDS = 0.001


class _Known(msgspec.Struct, frozen=True):
    sealed: bytes
    bound_to: bytes
    text: str

    def __repr__(self) -> str:
        return "_Known()"


class SecretCache:
    """Hold the opened secrets of one process.

    A seal is opened again only if its bytes or the values that it is bound to changed. A secret
    that is no longer stored is dropped at the next `SecretCacheLoad`.
    """

    def __init__(self, sealer: Sealer) -> None:
        self.sealer = sealer
        self.opened = 0
        """The number of seals opened since the start, for measurements."""
        self._known: dict[str, _Known] = {}

    def begin(self, connection: sa.Connection) -> SecretCacheLoad:
        return SecretCacheLoad(self, connection, self.sealer.organization_keys(connection))

    def find(self, row_id: str, sealed: bytes, bound_to: bytes) -> str | None:
        """Return the opened secret of a seal; None if it was not opened before."""
        known = self._known.get(row_id)
        if known is None or known.sealed != sealed or known.bound_to != bound_to:
            return None
        return known.text

    def count(self) -> None:
        """Count an opened seal, and pause now and then.

        Calls share the interpreter with this thread: the pauses let them run when thousands of
        seals are opened, as after a rotation. The first load does not pause, as there are no calls
        yet.
        """
        self.opened += 1
        if self._known and self.opened % ROWS_BETWEEN_PAUSES == 0:
            threading.Event().wait(PAUSE_SECONDS)

    def replace(self, known: dict[str, _Known]) -> None:
        """Keep these secrets, and drop all others."""
        self._known = known


class SecretCacheLoad:
    def __init__(
        self, cache: SecretCache, connection: sa.Connection, keys: Mapping[str, SecretKey]
    ) -> None:
        self._cache = cache
        self._connection = connection
        self._keys = keys
        self._is_fresh = False
        self._kept: dict[str, _Known] = {}
        self._secrets = ReferencedSecrets(connection)

    def open(self, record: CredentialRecord, sealed: bytes, integration: Integration) -> str:
        """Return the secret of a credential, or the stored secret that it refers to.

        Raise `BrokenSealError`, `KeyError` for a key that does not open, and
        `BrokenReferenceError`.
        """
        key, bound_to = self._find_key(record.key_id), bind_credential(record)
        text = self._cache.find(record.id, sealed, bound_to)
        if text is None:
            self._cache.count()
            text = open_secret(key, sealed, record)
        self._kept[record.id] = _Known(sealed, bound_to, text)
        name = parse_reference(text)
        return text if name is None else self._follow(record, name, integration)

    def _find_key(self, key_id: str) -> SecretKey:
        """Return an organization key; look once more for a key that is missing.

        A transaction that is no snapshot may see rows of a rotation that began after the keys were
        read. Raise `KeyError`.
        """
        if key_id not in self._keys and not self._is_fresh:
            self._is_fresh = True
            self._keys = self._cache.sealer.organization_keys(self._connection)
        return self._keys[key_id]

    def end(self) -> None:
        """Drop what this load did not ask for."""
        self._cache.replace(self._kept)

    def _follow(self, credential: CredentialRecord, name: str, integration: Integration) -> str:
        record, sealed = self._secrets.find(
            credential.organization_id or "",
            name,
            integration_base_url=integration.base_url,
            origin=parse_base_url(credential.base_url)[0],
        )
        bound_to = bind_secret(record)
        value = self._cache.find(record.id, sealed, bound_to)
        if value is None:
            self._cache.count()
            try:
                value = open_value(self._find_key(record.key_id), sealed, record)
            except (BrokenSealError, KeyError) as error:
                message = f"the secret {name!r} that it refers to cannot be opened"
                raise BrokenReferenceError(message) from error
        self._kept[record.id] = _Known(sealed, bound_to, value)
        return value
