"""Picks the credential of a call from opened secrets in memory (systems.md 1.4)."""

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
    NEVER,
    CredentialRecord,
    NoCredentialError,
    UnusableCredentialError,
    find_purpose,
)
from headgate.credentials.model.integration import Integration, build_headers
from headgate.credentials.service.secret_cache import Opener, Round
from headgate.credentials.store import credentials as credential_store
from headgate.kit.clock import Clock
from headgate.kit.crypto import BrokenSealError
from headgate.kit.errors import HeadgateError
from headgate.relay.admission import is_in_scope
from headgate.relay.deadlines import make_deadlines
from headgate.relay.ports import Credential
from headgate.vault.model.base_url import parse_base_url
from headgate.vault.model.sealed_row import Fault
from headgate.vault.model.secret import BrokenReferenceError
from headgate.vault.service.sealing import Sealer, explain

log = structlog.get_logger(__name__)


class _Choice(msgspec.Struct, frozen=True):
    """An opened credential; or none, and why."""

    credential: Credential | None
    expires_at: float
    managed: bool
    models: tuple[str, ...] = ()
    fault: str = ""


class _Shelf(msgspec.Struct, frozen=True):
    """What one organization may choose from for one integration, the best first."""

    choices: Sequence[_Choice] = ()
    named: Mapping[str, _Choice] = {}
    ambiguous: frozenset[str] = frozenset()


_Place = tuple[str | None, str]
"""Organization (None: the platform, for everyone) and integration."""
_Entry = tuple[CredentialRecord, _Choice]


class Vault:
    """The opened credentials (`relay.ports.Credentials`), taken up by `load`."""

    def __init__(
        self, sealer: Sealer, integrations: Mapping[str, Integration], clock: Clock
    ) -> None:
        self._opener = Opener(sealer)
        self._integrations = integrations
        self._now = clock.now
        self._shelves: Mapping[_Place, _Shelf] = {}
        self._used: dict[str, float] = {}
        self.faults: Sequence[Fault] = ()
        """What did not open when it was last loaded."""
        self._audit = AuditLog(clock)
        self._reported: set[Fault] = set()
        self._unrecorded: list[tuple[Fault, str | None]] = []

    @property
    def seals_opened(self) -> int:
        """How many seals were opened since the start."""
        return self._opener.opened

    def load(self, connection: sa.Connection) -> list[Fault]:
        """Open what is stored, as far as it changed; calls that run meanwhile see what was before.

        Those that do not open are left out, logged and given back.
        """
        opened: dict[_Place, list[_Entry]] = {}
        faults: list[Fault] = []
        taking = self._opener.begin(connection)
        for record, sealed in credential_store.select_credentials(connection):
            choice = self._open(record, sealed, taking)
            if choice.credential is None:
                faults.append(self._report(record, choice.fault))
            for place in _places(record):
                opened.setdefault(place, []).append((record, choice))
        taking.end()
        self._shelves, self.faults = _arrange(opened), faults
        return faults

    def resolve(
        self,
        organization_id: str,
        *,
        integration: str,
        name: str | None,
        model: str | None = None,
        is_free: bool = False,
    ) -> Credential:
        """See `relay.ports.Credentials.resolve`. Raises `NoCredentialError` and, for a named
        one, `UnusableCredentialError`."""
        shelf = self._shelves.get((organization_id, integration))
        if shelf is None:
            shelf = self._shelves.get((None, integration), _EMPTY)
        now = self._now()
        if name is not None:
            choice = self._find_named(shelf, name, now)
            if choice.models and not _fits(choice, model, is_free=is_free):
                raise UnusableCredentialError(
                    f"The credential {name!r} cannot be used: {_describe_limit(choice, model)}. "
                    "No other one is taken in its place.",
                    should_retry=False,
                )
            return self._take(choice, now)
        fault = ""
        for choice in shelf.choices:
            if choice.expires_at <= now:
                continue
            if fault and choice.managed:
                break  # an own one that must be mended is no leave to spend the wallet's money
            credential = choice.credential
            if credential is None:
                fault = fault or choice.fault
            elif choice.models and not _fits(choice, model, is_free=is_free):
                fault = fault or _describe_limit(choice, model)
            else:
                self._used[credential.id] = now
                return credential
        raise _explain_want(shelf, integration, fault)

    def find_integration(self, organization_id: str, name: str, preferred: str) -> str:
        """See `relay.ports.Credentials.find_integration`. Raises `UnusableCredentialError`."""
        if name in self._find_shelf(organization_id, preferred).named:
            return preferred
        found = [
            integration
            for integration in self._integrations
            if name in self._find_shelf(organization_id, integration).named
        ]
        if len(found) > 1:
            message = (
                f"The credential {name!r} is one of several of that name, of {', '.join(found)}: "
                "give its id. No other one is taken in its place."
            )
            raise UnusableCredentialError(message, should_retry=False)
        return found[0] if found else preferred

    def has_any(self, organization_id: str, integration: str) -> bool:
        """See `relay.ports.Credentials.has_any`."""
        return bool(self._find_shelf(organization_id, integration).choices)

    def peek(self, organization_id: str, integration: str) -> Credential | None:
        """See `relay.ports.Credentials.peek`."""
        now = self._now()
        shelf = self._shelves.get((organization_id, integration), _EMPTY)
        for choice in shelf.choices:
            if choice.credential is not None and choice.expires_at > now and not choice.managed:
                return choice.credential
        return None

    def _find_shelf(self, organization_id: str, integration: str) -> _Shelf:
        shelf = self._shelves.get((organization_id, integration))
        return self._shelves.get((None, integration), _EMPTY) if shelf is None else shelf

    def open(self, organization_id: str, *, integration: str, credential_id: str) -> Credential:
        """A credential of this organization, to be tried; that is no use of it. Raises
        `UnusableCredentialError`."""
        shelf = self._shelves.get((organization_id, integration), _EMPTY)
        choice = self._find_named(shelf, credential_id, self._now())
        assert choice.credential is not None, "what is unusable was refused"
        return choice.credential

    def flush_used(self, connection: sa.Connection) -> None:
        """Write down when credentials were last used and which do not open, as far as is new."""
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

    def _find_named(self, shelf: _Shelf, name: str, now: float) -> _Choice:
        choice = shelf.named.get(name)
        if name in shelf.ambiguous:
            state = "is one of several of that name: give its id"
        elif choice is None:
            state = "is not known or cannot be opened"
        elif choice.credential is None:
            state = f"cannot be used: {choice.fault}"
        elif choice.expires_at <= now:
            state = "has expired"
        else:
            return choice
        message = f"The credential {name!r} {state}; no other one is taken in its place."
        raise UnusableCredentialError(message, should_retry=False)

    def _take(self, choice: _Choice, now: float) -> Credential:
        credential = choice.credential
        assert credential is not None, "what is unusable was refused"
        self._used[credential.id] = now
        return credential

    def _open(self, record: CredentialRecord, sealed: bytes, taking: Round) -> _Choice:
        expires_at = math.inf if record.expires_at is None else record.expires_at
        managed = record.organization_id is None
        try:
            integration = self._integrations[record.integration]
            secret = taking.open(record, sealed, integration)
            credential = make_credential(record, integration, secret)
        except BrokenReferenceError as error:
            return _Choice(None, expires_at, managed, fault=error.message)
        except (BrokenSealError, KeyError, HeadgateError) as error:
            return _Choice(None, expires_at, managed, fault=explain(error))
        return _Choice(credential, expires_at, managed, tuple(record.allowed_models))


_EMPTY = _Shelf()


def make_credential(record: CredentialRecord, integration: Integration, secret: str) -> Credential:
    """A record and its secret, ready to be sent."""
    origin, base_path = parse_base_url(record.base_url)
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
        asks_usage=record.stream_usage != NEVER,
        has_integration_address=record.base_url.rstrip("/") == integration.base_url.rstrip("/"),
        deadlines=make_deadlines(
            record.first_byte_seconds, record.idle_seconds, record.total_seconds
        ),
    )


def _fits(choice: _Choice, model: str | None, *, is_free: bool) -> bool:
    """Whether a call may be sent with a credential that is limited to some models, as either way of
    spelling has them. One that names none, though a model answers it, may not."""
    if model is None or choice.credential is None:
        return is_free
    spelled = f"{choice.credential.integration}/{model}"
    return is_in_scope(model, choice.models) or is_in_scope(spelled, choice.models)


def _describe_limit(choice: _Choice, model: str | None) -> str:
    named = f"`{model}`" if model is not None else "no model"
    return f"it is limited to the models {', '.join(choice.models)}; this request names {named}"


def _explain_want(shelf: _Shelf, integration: str, fault: str) -> NoCredentialError:
    """Why there is nothing to take; `fault` is what is wrong with the best one."""
    message = f"There is no usable {integration} credential for this organization"
    if fault:
        message += f": of the one that would be taken, {fault}"
    elif shelf.choices:
        message += f": {len(shelf.choices)} expired"
    message += f". Its owner can add one with: headgate credentials add {integration}"
    return NoCredentialError(message, should_retry=False)


def _places(record: CredentialRecord) -> list[_Place]:
    places: list[_Place] = [(record.organization_id, record.integration)]
    if record.organization_id is None:
        places.append((None, MANAGED_INTEGRATION))
    return places


def _arrange(opened: Mapping[_Place, Sequence[_Entry]]) -> Mapping[_Place, _Shelf]:
    ordered = {place: _order(entries) for place, entries in opened.items()}
    shelves: dict[_Place, _Shelf] = {}
    for (organization_id, integration), own in ordered.items():
        managed = [] if organization_id is None else ordered.get((None, integration), [])
        entries = own + managed
        # Own ones last, so that a managed one cannot take the name of an own one.
        named = {record.name: choice for record, choice in reversed(entries)}
        named.update((record.id, choice) for record, choice in entries)
        shelves[organization_id, integration] = _Shelf(
            [choice for _, choice in entries], named, _find_ambiguous(own, managed)
        )
    return shelves


def _find_ambiguous(own: Sequence[_Entry], managed: Sequence[_Entry]) -> frozenset[str]:
    """Names that several have: of the own ones, and of managed ones that no own one is called."""
    counts = Counter(record.name for record, _ in own)
    others = Counter(record.name for record, _ in managed if record.name not in counts)
    several = {name for name, count in (counts + others).items() if count > 1}
    return frozenset(several - {record.id for record, _ in (*own, *managed)})


def _order(entries: Sequence[_Entry]) -> list[_Entry]:
    """The default first, then the newest."""
    return sorted(
        entries,
        key=lambda entry: (entry[0].is_default, entry[0].created_at, entry[0].id),
        reverse=True,
    )
