"""Picks the credential of a call from opened credentials in memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import sqlalchemy as sa
import structlog

from headgate.audit.model import SYSTEM, AuditEvent
from headgate.audit.service import AuditLog
from headgate.credentials.model.credential import (
    MANAGED_INTEGRATION,
    STREAM_USAGE_NEVER,
    CredentialRecord,
    NoCredentialError,
    UnusableCredentialError,
    find_purpose,
)
from headgate.credentials.model.integration import Integration, build_headers
from headgate.credentials.service.secret_cache import SecretCache, SecretCacheLoad
from headgate.credentials.store import credentials as credential_store
from headgate.kit.clock import Clock
from headgate.kit.crypto import BrokenSealError
from headgate.kit.errors import HeadgateError
from headgate.relay.admission import is_in_scope
from headgate.relay.capacity_limits import CapacityEntry, read_limits
from headgate.relay.deadlines import make_deadlines
from headgate.relay.ports import Credential
from headgate.vault.model.base_url import parse_base_url
from headgate.vault.model.sealed_row import UnreadableRow
from headgate.vault.model.secret import BrokenReferenceError
from headgate.vault.service.sealing import Sealer, explain_unreadable

log = structlog.get_logger(__name__)


class _Candidate(msgspec.Struct, frozen=True):
    """Hold an opened credential, or the fault that keeps it from being used."""

    credential: Credential | None
    expires_at: float
    managed: bool
    models: tuple[str, ...] = ()
    fault: str = ""


class _CredentialSnapshot(msgspec.Struct, frozen=True):
    """Hold the candidates of one organization for one integration, best first."""

    candidates: Sequence[_Candidate] = ()
    named: Mapping[str, _Candidate] = {}
    ambiguous: frozenset[str] = frozenset()


_SnapshotKey = tuple[str | None, str]
"""Organization (None: the platform, for everyone) and integration."""
_Entry = tuple[CredentialRecord, _Candidate]


class CredentialResolver:
    """Pick opened credentials for calls (`relay.ports.Credentials`); `load` refreshes them."""

    def __init__(
        self, sealer: Sealer, integrations: Mapping[str, Integration], clock: Clock
    ) -> None:
        self._cache = SecretCache(sealer)
        self._integrations = integrations
        self._now = clock.now
        self._snapshots: Mapping[_SnapshotKey, _CredentialSnapshot] = {}
        self._used: dict[str, float] = {}
        self.unreadable_rows: Sequence[UnreadableRow] = ()
        """The rows that did not open at the last load."""
        self._audit = AuditLog(clock)
        self._reported: set[UnreadableRow] = set()
        self._unrecorded: list[tuple[UnreadableRow, str | None]] = []

    @property
    def seals_opened(self) -> int:
        return self._cache.opened

    def load(self, connection: sa.Connection) -> list[UnreadableRow]:
        """Open what changed since the last load, and return the rows that do not open. Calls that
        run meanwhile use the previous state."""
        opened: dict[_SnapshotKey, list[_Entry]] = {}
        unreadable_rows: list[UnreadableRow] = []
        load = self._cache.begin(connection)
        for record, sealed in credential_store.select_credentials(connection):
            candidate = self._open(record, sealed, load)
            if candidate.credential is None:
                unreadable_rows.append(self._report(record, candidate.fault))
            for snapshot_key in _list_snapshot_keys(record):
                opened.setdefault(snapshot_key, []).append((record, candidate))
        load.end()
        self._snapshots, self.unreadable_rows = _build_snapshots(opened), unreadable_rows
        return unreadable_rows

    def resolve(
        self,
        organization_id: str,
        *,
        integration: str,
        name: str | None,
        model: str | None = None,
        is_free: bool = False,
    ) -> Credential:
        """Return the credential of a call, in the order that `relay.ports.Credentials` defines.
        Raise `NoCredentialError` and, for a named one, `UnusableCredentialError`."""
        snapshot = self._snapshots.get((organization_id, integration))
        if snapshot is None:
            snapshot = self._snapshots.get((None, integration), _EMPTY)
        now = self._now()
        if name is not None:
            candidate = self._find_named(snapshot, name, now)
            if candidate.models and not _allows_model(candidate, model, is_free=is_free):
                raise UnusableCredentialError(
                    f"The credential {name!r} cannot be used: {_describe_limit(candidate, model)}. "
                    "No other credential is used instead.",
                    should_retry=False,
                )
            return self._use(candidate, now)
        fault = ""
        for candidate in snapshot.candidates:
            if candidate.expires_at <= now:
                continue
            if fault and candidate.managed:
                break  # a broken own credential must not silently spend the wallet's money
            credential = candidate.credential
            if credential is None:
                fault = fault or candidate.fault
            elif candidate.models and not _allows_model(candidate, model, is_free=is_free):
                fault = fault or _describe_limit(candidate, model)
            else:
                self._used[credential.id] = now
                return credential
        raise _explain_none(snapshot, integration, fault)

    def find_integration(self, organization_id: str, name: str, preferred: str) -> str:
        """Return the integration of a named credential, `preferred` if it is unknown. Raise
        `UnusableCredentialError` if several integrations have one of that name."""
        if name in self._find_snapshot(organization_id, preferred).named:
            return preferred
        found = [
            integration
            for integration in self._integrations
            if name in self._find_snapshot(organization_id, integration).named
        ]
        if len(found) > 1:
            message = (
                f"The credential {name!r} is one of several of that name, of {', '.join(found)}: "
                "give its id. No other credential is used instead."
            )
            raise UnusableCredentialError(message, should_retry=False)
        return found[0] if found else preferred

    def find_named(self, organization_id: str, name: str) -> Credential | None:
        """Return the credential of an id or a name without using it; None where none, or more than
        one, is meant."""
        snapshots = [
            self._find_snapshot(organization_id, integration) for integration in self._integrations
        ]
        named = [each.named[name].credential for each in snapshots if name in each.named]
        found = {each.id: each for each in named if each is not None}
        return next(iter(found.values())) if len(found) == 1 else None

    def has_named(self, organization_id: str, name: str) -> bool:
        """Return whether an organization can use a credential of this id or name."""
        return any(
            name in self._find_snapshot(organization_id, integration).named
            for integration in self._integrations
        )

    def has_any(self, organization_id: str, integration: str) -> bool:
        return bool(self._find_snapshot(organization_id, integration).candidates)

    def has_usable(self, organization_id: str, integration: str) -> bool:
        """Return whether an organization can use a credential of an integration now, its own or a
        managed one."""
        now = self._now()
        candidates = self._find_snapshot(organization_id, integration).candidates
        return any(each.credential is not None and each.expires_at > now for each in candidates)

    def peek(self, organization_id: str, integration: str) -> Credential | None:
        """Return the own credential that a call without a name would use, without recording a
        use."""
        now = self._now()
        snapshot = self._snapshots.get((organization_id, integration), _EMPTY)
        for candidate in snapshot.candidates:
            if (
                candidate.credential is not None
                and candidate.expires_at > now
                and not candidate.managed
            ):
                return candidate.credential
        return None

    def _find_snapshot(self, organization_id: str, integration: str) -> _CredentialSnapshot:
        snapshot = self._snapshots.get((organization_id, integration))
        return self._snapshots.get((None, integration), _EMPTY) if snapshot is None else snapshot

    def open(self, organization_id: str, *, integration: str, credential_id: str) -> Credential:
        """Open a credential for a test without updating `last_used_at`. Raise
        `UnusableCredentialError`."""
        snapshot = self._snapshots.get((organization_id, integration), _EMPTY)
        candidate = self._find_named(snapshot, credential_id, self._now())
        assert candidate.credential is not None, "what is unusable was refused"
        return candidate.credential

    def flush_used(self, connection: sa.Connection) -> None:
        """Store last uses, and audit the rows that do not open."""
        used, self._used = self._used, {}
        for credential_id, at in list(used.items()):
            credential_store.update_credential(connection, credential_id, {"last_used_at": at})
        while self._unrecorded:
            fault, organization_id = self._unrecorded.pop()
            event = AuditEvent(
                "credential.unreadable",
                organization_id,
                fault.credential_id,
                {"name": fault.name, "reason": fault.reason},
            )
            self._audit.record(connection, SYSTEM, event)

    def _report(self, record: CredentialRecord, reason: str) -> UnreadableRow:
        """Log a row that does not open at each load; audit it once per process."""
        log.error(
            "vault.credential_unreadable", credential=record.id, name=record.name, reason=reason
        )
        fault = UnreadableRow(record.id, record.name, reason)
        if fault not in self._reported:
            self._reported.add(fault)
            self._unrecorded.append((fault, record.organization_id))
        return fault

    def _find_named(self, snapshot: _CredentialSnapshot, name: str, now: float) -> _Candidate:
        candidate = snapshot.named.get(name)
        if name in snapshot.ambiguous:
            state = "is one of several of that name: give its id"
        elif candidate is None:
            state = "is not known or cannot be opened"
        elif candidate.credential is None:
            state = f"cannot be used: {candidate.fault}"
        elif candidate.expires_at <= now:
            state = "has expired"
        else:
            return candidate
        message = f"The credential {name!r} {state}. No other credential is used instead."
        raise UnusableCredentialError(message, should_retry=False)

    def _use(self, candidate: _Candidate, now: float) -> Credential:
        credential = candidate.credential
        assert credential is not None, "what is unusable was refused"
        self._used[credential.id] = now
        return credential

    def _open(self, record: CredentialRecord, sealed: bytes, load: SecretCacheLoad) -> _Candidate:
        expires_at = math.inf if record.expires_at is None else record.expires_at
        managed = record.organization_id is None
        try:
            integration = self._integrations[record.integration]
            secret = load.open(record, sealed, integration)
            credential = make_credential(record, integration, secret)
        except BrokenReferenceError as error:
            return _Candidate(None, expires_at, managed, fault=error.message)
        except (BrokenSealError, KeyError, HeadgateError) as error:
            return _Candidate(None, expires_at, managed, fault=explain_unreadable(error))
        return _Candidate(credential, expires_at, managed, tuple(record.allowed_models))


_EMPTY = _CredentialSnapshot()


def make_credential(record: CredentialRecord, integration: Integration, secret: str) -> Credential:
    origin, base_path = parse_base_url(record.base_url)
    has_integration_address = record.base_url.rstrip("/") == integration.base_url.rstrip("/")
    return Credential(
        id=record.id,
        name=record.name,
        integration=record.integration,
        managed=record.organization_id is None,
        origin=origin,
        base_path=base_path,
        headers=build_headers(
            integration, secret, record.provider_organization, secret_header=record.secret_header
        ),
        secret=secret.encode(),
        purpose=find_purpose(record),
        asks_usage=STREAM_USAGE_NEVER not in (record.stream_usage, integration.stream_usage),
        has_integration_address=has_integration_address,
        surfaces=frozenset(integration.surfaces),
        has_catalog_models=has_integration_address or has_models_of(integration, origin.host),
        deadlines=make_deadlines(
            record.first_byte_seconds, record.idle_seconds, record.total_seconds
        ),
        capacity=read_limits(msgspec.convert(record.capacity, list[CapacityEntry])),
    )


def has_models_of(integration: Integration, host: str) -> bool:
    """Return whether a host has the models of an integration: its own, one below that, such as
    `eu.api.openai.com`, or any if the integration has no address of its own."""
    if not integration.base_url:
        return True
    own = parse_base_url(integration.base_url)[0].host
    return host == own or host.endswith(f".{own}")


def _allows_model(candidate: _Candidate, model: str | None, *, is_free: bool) -> bool:
    """Tell whether a limited credential may serve a call; the limit applies to both spellings. A
    call that names no model is allowed only if no model answers it."""
    if model is None or candidate.credential is None:
        return is_free
    spelled = f"{candidate.credential.integration}/{model}"
    return is_in_scope(model, candidate.models) or is_in_scope(spelled, candidate.models)


def _describe_limit(candidate: _Candidate, model: str | None) -> str:
    named = f"`{model}`" if model is not None else "no model"
    return f"it is limited to the models {', '.join(candidate.models)}; this request names {named}"


def _explain_none(snapshot: _CredentialSnapshot, integration: str, fault: str) -> NoCredentialError:
    """Build the error for a call without a usable credential; `fault` is about the best one."""
    message = f"There is no usable {integration} credential for this organization"
    if fault:
        message += f": the best one cannot be used because {fault}"
    elif snapshot.candidates:
        message += f": {len(snapshot.candidates)} expired"
    message += f". Its owner can add one with: headgate credentials add {integration}"
    return NoCredentialError(message, should_retry=False)


def _list_snapshot_keys(record: CredentialRecord) -> list[_SnapshotKey]:
    snapshot_keys: list[_SnapshotKey] = [(record.organization_id, record.integration)]
    if record.organization_id is None:
        snapshot_keys.append((None, MANAGED_INTEGRATION))
    return snapshot_keys


def _build_snapshots(
    opened: Mapping[_SnapshotKey, Sequence[_Entry]],
) -> Mapping[_SnapshotKey, _CredentialSnapshot]:
    ordered = {snapshot_key: _order(entries) for snapshot_key, entries in opened.items()}
    snapshots: dict[_SnapshotKey, _CredentialSnapshot] = {}
    for (organization_id, integration), own in ordered.items():
        managed = [] if organization_id is None else ordered.get((None, integration), [])
        entries = own + managed
        # In reverse, so that on equal names own credentials win over managed ones.
        named = {record.name: candidate for record, candidate in reversed(entries)}
        named.update((record.id, candidate) for record, candidate in entries)
        snapshots[organization_id, integration] = _CredentialSnapshot(
            [candidate for _, candidate in entries], named, _find_ambiguous(own, managed)
        )
    return snapshots


def _find_ambiguous(own: Sequence[_Entry], managed: Sequence[_Entry]) -> frozenset[str]:
    """Return names that several credentials have. An own name takes precedence over managed
    ones."""
    counts = Counter(record.name for record, _ in own)
    others = Counter(record.name for record, _ in managed if record.name not in counts)
    several = {name for name, count in (counts + others).items() if count > 1}
    return frozenset(several - {record.id for record, _ in (*own, *managed)})


def _order(entries: Sequence[_Entry]) -> list[_Entry]:
    """Sort the default first, then newest first."""
    return sorted(
        entries,
        key=lambda entry: (entry[0].is_default, entry[0].created_at, entry[0].id),
        reverse=True,
    )
