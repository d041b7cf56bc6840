"""Picks the credential of a call from opened secrets in memory (systems.md 1.4)."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence

import msgspec
import sqlalchemy as sa
import structlog

from headgate.audit.model import SYSTEM, Deed
from headgate.audit.service import AuditLog
from headgate.kit.clock import Clock
from headgate.kit.crypto import SealBroken, SecretKey
from headgate.kit.errors import HeadgateError
from headgate.relay.ports import Credential
from headgate.vault import store
from headgate.vault.model import (
    MANAGED_INTEGRATION,
    CredentialMissing,
    CredentialRecord,
    CredentialUnusable,
    Fault,
    Integration,
    build_headers,
    parse_base_url,
)
from headgate.vault.service.sealing import Sealer, explain, open_secret

TOPIC = store.TOPIC
ROWS_BETWEEN_RESTS = 8
REST_SECONDS = 0.001
"""When thousands are opened anew, as after a rotation, calls get in between each millisecond."""

log = structlog.get_logger(__name__)


class _Choice(msgspec.Struct, frozen=True):
    credential: Credential
    expires_at: float


_Mark = tuple[CredentialRecord, bytes, SecretKey | None]
"""All that decides what is opened. A key is the same object as long as it is the same key."""


class _Shelf(msgspec.Struct, frozen=True):
    """What one organization may choose from for one integration, the best first."""

    choices: Sequence[_Choice] = ()
    named: Mapping[str, _Choice] = {}


_Place = tuple[str | None, str]
"""Organization (None: the platform, for everyone) and integration."""


class Vault:
    """The opened credentials (`relay.ports.Credentials`), taken up by `load`."""

    def __init__(
        self, sealer: Sealer, integrations: Mapping[str, Integration], clock: Clock
    ) -> None:
        self._sealer = sealer
        self._integrations = integrations
        self._now = clock.now
        self._shelves: Mapping[_Place, _Shelf] = {}
        self._used: dict[str, float] = {}
        self._kept: dict[str, tuple[_Mark, _Choice]] = {}
        self._opened_count = 0
        self.faults: Sequence[Fault] = ()
        """What did not open when it was last loaded."""
        self._audit = AuditLog(clock)
        self._reported: set[Fault] = set()
        self._unrecorded: list[tuple[Fault, str | None]] = []

    def load(self, connection: sa.Connection) -> list[Fault]:
        """Open what is stored; calls that run meanwhile see what was before.

        Those that do not open are left out, logged and given back.
        """
        opened: dict[_Place, list[tuple[CredentialRecord, _Choice]]] = {}
        faults: list[Fault] = []
        keys = self._sealer.organization_keys(connection)
        rows = list(store.select_credentials(connection))
        if any(record.key_id not in keys for record, _ in rows):
            # Made since: where a transaction is no snapshot, a rotation may come in between.
            keys |= self._sealer.organization_keys(connection)
        kept: dict[str, tuple[_Mark, _Choice]] = {}
        for record, sealed in rows:
            try:
                _, choice = kept[record.id] = self._take(record, sealed, keys)
            except (SealBroken, KeyError, HeadgateError) as error:
                faults.append(self._report(record, explain(error)))
                continue
            for place in _places(record):
                opened.setdefault(place, []).append((record, choice))
        self._kept, self._shelves, self.faults = kept, _arrange(opened), faults
        return faults

    def resolve(self, organization_id: str, *, integration: str, name: str | None) -> Credential:
        """See `relay.ports.Credentials.resolve`. Raises `CredentialMissing` and, for a named
        one, `CredentialUnusable`."""
        shelf = self._shelves.get((organization_id, integration))
        if shelf is None:
            shelf = self._shelves.get((None, integration), _EMPTY)
        now = self._now()
        if name is not None:
            return self._take_named(shelf, name, now)
        for choice in shelf.choices:
            if choice.expires_at > now:
                self._used[choice.credential.id] = now
                return choice.credential
        message = (
            f"There is no usable {integration} credential for this organization. "
            f"Its owner can add one with: headgate credentials add {integration}"
        )
        raise CredentialMissing(message, should_retry=False)

    def flush_used(self, connection: sa.Connection) -> None:
        """Write down when credentials were last used and which do not open, as far as is new."""
        used, self._used = self._used, {}
        for credential_id, at in list(used.items()):
            store.update_credential(connection, credential_id, {"last_used_at": at})
        while self._unrecorded:
            fault, organization_id = self._unrecorded.pop()
            deed = Deed(
                "credential.unreadable",
                organization_id,
                fault.credential_id,
                {"name": fault.name, "reason": fault.reason},
            )
            self._audit.record(connection, SYSTEM, deed)

    def _report(self, record: CredentialRecord, reason: str) -> Fault:
        """Tell of a row that does not open: the log each time, the audit log once a process."""
        log.error(
            "vault.credential_unreadable", credential=record.id, name=record.name, reason=reason
        )
        fault = Fault(record.id, record.name, reason)
        if fault not in self._reported:
            self._reported.add(fault)
            self._unrecorded.append((fault, record.organization_id))
        return fault

    def _take_named(self, shelf: _Shelf, name: str, now: float) -> Credential:
        choice = shelf.named.get(name)
        if choice is None or choice.expires_at <= now:
            state = "is not known or cannot be opened" if choice is None else "has expired"
            message = f"The credential {name!r} {state}; no other one is taken in its place."
            raise CredentialUnusable(message, should_retry=False)
        self._used[choice.credential.id] = now
        return choice.credential

    def _take(
        self, record: CredentialRecord, sealed: bytes, keys: Mapping[str, SecretKey]
    ) -> tuple[_Mark, _Choice]:
        """What was opened before, where nothing of it changed; thousands did not when one did."""
        key = keys.get(record.key_id)
        mark = (msgspec.structs.replace(record, last_used_at=None), sealed, key)
        kept = self._kept.get(record.id)
        if kept is not None and kept[0] == mark:
            return kept
        self._opened_count += 1
        if self._kept and self._opened_count % ROWS_BETWEEN_RESTS == 0:
            # Calls share the interpreter with this thread; at a start there are none.
            threading.Event().wait(REST_SECONDS)
        return mark, self._open(record, sealed, keys)

    def _open(
        self, record: CredentialRecord, sealed: bytes, keys: Mapping[str, SecretKey]
    ) -> _Choice:
        secret = open_secret(keys[record.key_id], sealed, record)
        origin, base_path = parse_base_url(record.base_url)
        integration = self._integrations[record.integration]
        credential = Credential(
            id=record.id,
            name=record.name,
            integration=record.integration,
            managed=record.organization_id is None,
            origin=origin,
            base_path=base_path,
            headers=build_headers(integration, secret, record.provider_organization),
            secret=secret.encode(),
        )
        expires_at = math.inf if record.expires_at is None else record.expires_at
        return _Choice(credential, expires_at)


_EMPTY = _Shelf()


def _places(record: CredentialRecord) -> list[_Place]:
    places: list[_Place] = [(record.organization_id, record.integration)]
    if record.organization_id is None:
        places.append((None, MANAGED_INTEGRATION))
    return places


def _arrange(
    opened: Mapping[_Place, Sequence[tuple[CredentialRecord, _Choice]]],
) -> Mapping[_Place, _Shelf]:
    ordered = {place: _order(entries) for place, entries in opened.items()}
    shelves: dict[_Place, _Shelf] = {}
    for (organization_id, integration), own in ordered.items():
        managed = [] if organization_id is None else ordered.get((None, integration), [])
        entries = own + managed
        # Own ones last, so that a managed one cannot take the name of an own one.
        named = {record.name: choice for record, choice in reversed(entries)}
        named.update((record.id, choice) for record, choice in entries)
        shelves[organization_id, integration] = _Shelf([choice for _, choice in entries], named)
    return shelves


def _order(
    entries: Sequence[tuple[CredentialRecord, _Choice]],
) -> list[tuple[CredentialRecord, _Choice]]:
    """The default first, then the newest."""
    return sorted(
        entries,
        key=lambda entry: (entry[0].is_default, entry[0].created_at, entry[0].id),
        reverse=True,
    )
