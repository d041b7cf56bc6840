"""Adds, changes and removes credentials. Nothing here commits; changes bump the revision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import check_name
from headgate.audit.model import SYSTEM, Actor, Deed
from headgate.audit.service import AuditLog
from headgate.kit.clock import Clock
from headgate.kit.crypto import SealBroken
from headgate.kit.http.errors import AddressRefused
from headgate.kit.http.guard import EgressRule
from headgate.kit.http.message import Origin
from headgate.kit.ids import Ids
from headgate.vault import store
from headgate.vault.model import (
    CredentialNotFound,
    CredentialRecord,
    CredentialRefused,
    CredentialRequest,
    Integration,
    check_secret,
    mask_secret,
    parse_base_url,
)
from headgate.vault.service.sealing import Sealer, open_secret, seal_secret

ENVIRONMENT_NAME = "environment"
PROVIDER_ORGANIZATION_CHARACTERS_MAX = 200


class CredentialBook:
    """The stored credentials of one installation."""

    def __init__(
        self,
        sealer: Sealer,
        integrations: Mapping[str, Integration],
        *,
        egress_rule: EgressRule,
        clock: Clock,
        ids: Ids,
        audit: AuditLog,
    ) -> None:
        self._sealer = sealer
        self._integrations = integrations
        self._egress_rule = egress_rule
        self._clock = clock
        self._ids = ids
        self._audit = audit

    def list(self, connection: sa.Connection) -> list[CredentialRecord]:
        """Every credential that was not removed, the oldest first."""
        return [record for record, _ in store.select_credentials(connection)]

    def find(self, connection: sa.Connection, credential: str) -> CredentialRecord:
        """The credential of that id or unambiguous name. Raises `CredentialNotFound`."""
        records = self.list(connection)
        found = [record for record in records if credential in (record.id, record.name)]
        if len(found) == 1:
            return found[0]
        many = f"{len(found)} credentials are named {credential!r}; give the id instead."
        raise CredentialNotFound(
            many if found else f"There is no credential {credential!r}.", param="credential"
        )

    def add(
        self, connection: sa.Connection, request: CredentialRequest, *, by: Actor
    ) -> CredentialRecord:
        """A new credential. Raises `CredentialRefused` and `NameRefused`."""
        record, sealed = self._seal(connection, request, self._ids.make("cred"))
        self._refuse_taken_name(connection, record)
        if record.is_default:
            store.clear_default(connection, record.organization_id, integration=record.integration)
        store.insert_credential(connection, record, sealed=sealed)
        store.note_change(connection)
        fields = {
            "integration": record.integration,
            "name": record.name,
            "base_url": record.base_url,
            "is_default": record.is_default,
        }
        self._record(connection, by, "credential.created", record, fields)
        return record

    def make_default(
        self, connection: sa.Connection, record: CredentialRecord, *, by: Actor
    ) -> None:
        """This one is taken where a call names none; the default before it is one no more."""
        store.clear_default(connection, record.organization_id, integration=record.integration)
        values = {"is_default": True, "updated_at": self._clock.now()}
        store.update_credential(connection, record.id, values)
        store.note_change(connection)
        self._record(connection, by, "credential.made_default", record)

    def remove(self, connection: sa.Connection, record: CredentialRecord, *, by: Actor) -> None:
        """Forget the secret for good; the record stays for the receipts that name it."""
        now = self._clock.now()
        values = {"deleted_at": now, "updated_at": now, "sealed": None, "is_default": False}
        store.update_credential(connection, record.id, values)
        store.note_change(connection)
        self._record(connection, by, "credential.removed", record)

    def open(self, connection: sa.Connection, record: CredentialRecord) -> str:
        """The secret itself. Raises `SealBroken`; to be handed to the provider only."""
        key = self._sealer.organization_keys(connection).get(record.key_id)
        if key is None:
            raise SealBroken
        sealed = {known.id: box for known, box in store.select_credentials(connection)}
        return open_secret(key, sealed[record.id], record)

    def upsert_environment(
        self, connection: sa.Connection, request: CredentialRequest
    ) -> CredentialRecord:
        """The credential named `environment`, with the secret and address of this start.

        It is written only when these changed, and is the default if nothing else is.
        """
        own = [
            record
            for record in self.list(connection)
            if record.organization_id == request.organization_id
            and record.integration == request.integration
        ]
        before = next((record for record in own if record.name == ENVIRONMENT_NAME), None)
        others = any(record.is_default for record in own if record is not before)
        wanted = msgspec.structs.replace(request, name=ENVIRONMENT_NAME, is_default=not others)
        if before is None:
            return self.add(connection, wanted, by=SYSTEM)
        if self._is_same(connection, before, request):
            return before
        record, sealed = self._seal(connection, wanted, before.id, seals=before.seal_number)
        changes = {
            name: getattr(record, name)
            for name in ("base_url", "hint", "is_default", "key_id", "updated_at", "seal_number")
        }
        store.update_credential(connection, record.id, {**changes, "sealed": sealed})
        store.note_change(connection)
        self._record(
            connection, SYSTEM, "credential.replaced", record, {"base_url": record.base_url}
        )
        return msgspec.structs.replace(record, created_at=before.created_at)

    def _record(
        self,
        connection: sa.Connection,
        by: Actor,
        action: str,
        record: CredentialRecord,
        changes: dict[str, Any] | None = None,
    ) -> None:
        deed = Deed(action, record.organization_id, record.id, changes or {})
        self._audit.record(connection, by, deed)

    def _seal(
        self,
        connection: sa.Connection,
        request: CredentialRequest,
        credential_id: str,
        *,
        seals: int = 0,
    ) -> tuple[CredentialRecord, bytes]:
        integration = self._find_integration(request.integration)
        now = self._clock.now()
        if request.expires_at is not None and request.expires_at <= now:
            raise CredentialRefused("The time of expiry is in the past.", param="expires_at")
        base_url = (request.base_url or integration.base_url).rstrip("/")
        origin, _ = parse_base_url(base_url)
        check_secret(integration, request.secret, origin)
        self._check_origin(origin)
        provider_organization = _check_provider_organization(request.provider_organization)
        name = check_name(request.name or integration.display_name)
        key_id, key = self._sealer.current_key(connection, request.organization_id)
        record = CredentialRecord(
            id=credential_id,
            organization_id=request.organization_id,
            integration=integration.name,
            name=name,
            auth_type="api_key",
            base_url=base_url,
            provider_organization=provider_organization,
            metadata=dict(request.metadata),
            hint=mask_secret(request.secret, integration.secret_prefixes),
            is_default=request.is_default,
            created_at=now,
            updated_at=now,
            key_id=key_id,
            expires_at=request.expires_at,
            seal_number=seals + 1,
        )
        return record, seal_secret(key, request.secret, record)

    def _check_origin(self, origin: Origin) -> None:
        """Say at once what would be refused at every call; a name is resolved only then."""
        try:
            self._egress_rule.check(origin)
        except AddressRefused as error:
            raise CredentialRefused(f"{error}.", param="base_url") from error

    def _find_integration(self, name: str) -> Integration:
        integration = self._integrations.get(name)
        if integration is None:
            known = ", ".join(sorted(self._integrations))
            message = f"There is no integration {name!r}; there is: {known}."
            raise CredentialRefused(message, param="integration")
        return integration

    def _is_same(
        self, connection: sa.Connection, before: CredentialRecord, request: CredentialRequest
    ) -> bool:
        integration = self._integrations[before.integration]
        if before.base_url != (request.base_url or integration.base_url).rstrip("/"):
            return False
        try:
            return self.open(connection, before) == request.secret
        except SealBroken:
            return False

    def _refuse_taken_name(self, connection: sa.Connection, wanted: CredentialRecord) -> None:
        place = (wanted.organization_id, wanted.integration, wanted.name)
        for record in self.list(connection):
            if (record.organization_id, record.integration, record.name) == place:
                message = f"A credential named {wanted.name!r} exists; give this one another name."
                raise CredentialRefused(message, param="name")


def _check_provider_organization(text: str | None) -> str | None:
    if text is None or (
        text.isascii()
        and text.isprintable()
        and 0 < len(text.replace(" ", "")) == len(text) <= PROVIDER_ORGANIZATION_CHARACTERS_MAX
    ):
        return text
    message = "The provider's organization is an id of printable characters without blanks."
    raise CredentialRefused(message, param="provider_organization")
