"""Sets up integrations and removes them: a secret in the vault, and a credential that refers to it.

What is stored is told by its names: the secret is `openai_api_key`, and the credential is the one
that refers to it. So a repeated setup changes what is there, and adds nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec
import sqlalchemy as sa

from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.catalog.model.manifest import API_KEY, IntegrationManifest
from headgate.connectors.model.errors import NotConfiguredError, ToolError
from headgate.connectors.model.setup import (
    FIELD,
    SetupValues,
    make_invalid_value_error,
    make_unknown,
    name_value,
    read_values,
)
from headgate.credentials.model.credential import (
    CredentialChange,
    CredentialRecord,
    CredentialRequest,
)
from headgate.credentials.model.integration import CredentialTestCall
from headgate.credentials.service import CredentialFilter, CredentialService, CredentialTestResult
from headgate.kit.crypto import BrokenSealError
from headgate.kit.errors import Kind
from headgate.relay.ports import Credential
from headgate.vault.model.base_url import InvalidCredentialError, parse_base_url
from headgate.vault.model.secret import (
    BrokenReferenceError,
    SecretNotFoundError,
    SecretRequest,
    write_reference,
)
from headgate.vault.service import SecretService, note_change

Result = TypeVar("Result")
CREDENTIALS_MAX = 100_000
PARAMS = {"api_key": API_KEY, "base_url": "base_url", "provider_organization": "organization"}
"""The values of a setup by the names that the credential service has for them."""


class CredentialTestFailedError(ToolError):
    """The provider does not accept the secret, or could not be asked, so nothing was stored.

    Check the secret at the provider, and set the integration up again.
    """

    kind = Kind.INVALID
    code = "credential_test_failed"


class SetupStorage(Protocol):
    """Read and write the database from the event loop (`kit.db.async_database`)."""

    async def read(self, work: Callable[[sa.Connection], Result]) -> Result: ...

    async def write(self, work: Callable[[sa.Connection], Result]) -> Result: ...


class SetupTester(Protocol):
    """Test credentials (`credentials.service.CredentialTester`)."""

    def admit(self, organization_id: str) -> None: ...

    def run(
        self, credential: Credential, call: CredentialTestCall, *, organization_id: str, key_id: str
    ) -> Awaitable[CredentialTestResult]: ...


class SetupRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a setup. `is_tested` asks the provider before anything is stored; `key_id` is the
    key that pays for it, empty for a person."""

    organization_id: str
    service: str
    secrets: Mapping[str, str]
    is_tested: bool = False
    key_id: str = ""

    def __repr__(self) -> str:
        return f"SetupRequest({self.organization_id}, {self.service})"


class SetupResult(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a setup left. `is_default` says whether calls that name no credential use it."""

    service: str
    credential_id: str
    secret_names: tuple[str, ...]
    is_new: bool
    is_default: bool
    is_tested: bool


class RemovalResult(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what was removed. `kept_secrets` are those that other credentials refer to, and
    `other_credentials` those by which the integration is still configured."""

    service: str
    removed_credentials: tuple[str, ...]
    removed_secrets: tuple[str, ...]
    kept_secrets: tuple[str, ...]
    other_credentials: tuple[str, ...]


class SetupService:
    """Set up integrations of the catalog for organizations."""

    def __init__(
        self,
        integrations: Mapping[str, IntegrationManifest],
        storage: SetupStorage,
        *,
        credentials: CredentialService,
        secrets: SecretService,
        tester: SetupTester,
        audit: AuditLog,
        aliases: Mapping[str, str] = {},
    ) -> None:
        """Take the integrations of the catalog. `aliases` are the connectors by their names, whose
        integration has another one."""
        self._integrations = integrations
        self._aliases = aliases
        self._storage = storage
        self._credentials = credentials
        self._secrets = secrets
        self._tester = tester
        self._audit = audit

    def find(self, service: str) -> IntegrationManifest:
        """Return an integration. Raise `UnknownIntegrationError`."""
        manifest = self._integrations.get(self._aliases.get(service, service))
        if manifest is None:
            raise make_unknown(sorted(self._integrations))
        return manifest

    async def set_up(self, request: SetupRequest, *, by: Actor) -> SetupResult:
        """Store the secret of an integration and its credential in one transaction.

        Raise `UnknownIntegrationError`, `InvalidInputError`, and for a tested secret
        `CredentialTestFailedError` and `TooManyCredentialTestsError`. Nothing is stored then.
        """
        manifest = self.find(request.service)
        values = read_values(manifest, request.secrets)
        described = describe_credential(request.organization_id, manifest, values)
        prepared = await self._storage.read(
            lambda connection: self._prepare(connection, described, by=by)
        )
        if request.is_tested:
            await self._test(request, manifest, prepared)
        return await self._storage.write(
            lambda connection: self._store(connection, manifest, described, request, by=by)
        )

    async def remove(self, organization_id: str, service: str, *, by: Actor) -> RemovalResult:
        """Delete the credential that a setup made, and its secret. Raise `UnknownIntegrationError`,
        and `NotConfiguredError` where nothing was set up."""
        manifest = self.find(service)
        return await self._storage.write(
            lambda connection: self._remove(connection, organization_id, manifest, by=by)
        )

    def _prepare(
        self, connection: sa.Connection, request: CredentialRequest, *, by: Actor
    ) -> Credential:
        """Check the values together. Raise `InvalidInputError`."""
        request, _, _ = self._complete(connection, request)
        try:
            return self._credentials.prepare(connection, request, by=by)
        except InvalidCredentialError as error:
            variable = PARAMS.get(error.param or "", API_KEY)
            raise make_invalid_value_error(
                error.message, name_value(request.integration, variable)
            ) from error

    async def _test(
        self, request: SetupRequest, manifest: IntegrationManifest, credential: Credential
    ) -> None:
        self._tester.admit(request.organization_id)
        result = await self._tester.run(
            credential,
            manifest.test_call,
            organization_id=request.organization_id,
            key_id=request.key_id,
        )
        if not result.is_valid:
            raise make_test_failed_error(manifest, result.message)

    def _store(
        self,
        connection: sa.Connection,
        manifest: IntegrationManifest,
        described: CredentialRequest,
        request: SetupRequest,
        *,
        by: Actor,
    ) -> SetupResult:
        note_change(connection)  # first: concurrent writers wait here, and then read this change
        name = name_value(manifest.name, API_KEY)
        described, own, others = self._complete(connection, described)
        self._put_secret(connection, manifest, described, name, by=by)
        reference = msgspec.structs.replace(described, secret=write_reference(name))
        if own:
            record = self._update(connection, own[0], reference, by=by)
        else:
            is_first = not any(each.is_default for each in others)
            record = self._credentials.add(
                connection, msgspec.structs.replace(reference, is_default=is_first), by=by
            )
        changes = {"integration": manifest.name, "credential_id": record.id, "key_name": name}
        event = AuditEvent("integration.set_up", request.organization_id, record.id, changes)
        self._audit.record(connection, by, event)
        return SetupResult(
            service=manifest.name,
            credential_id=record.id,
            secret_names=(name,),
            is_new=not own,
            is_default=record.is_default,
            is_tested=request.is_tested,
        )

    def _complete(
        self, connection: sa.Connection, described: CredentialRequest
    ) -> tuple[CredentialRequest, Sequence[CredentialRecord], Sequence[CredentialRecord]]:
        """Return the credential with what an earlier setup said and this one does not: a new secret
        must not go to another address than the old one by omission. Return also the credentials
        that setups made, and the others."""
        assert described.organization_id is not None, "setups belong to organizations"
        own, others = self._find_credentials(
            connection, described.organization_id, described.integration
        )
        if own:
            described = msgspec.structs.replace(
                described,
                base_url=described.base_url or own[0].base_url,
                provider_organization=(
                    described.provider_organization or own[0].provider_organization
                ),
            )
        return described, own, others

    def _put_secret(
        self,
        connection: sa.Connection,
        manifest: IntegrationManifest,
        described: CredentialRequest,
        name: str,
        *,
        by: Actor,
    ) -> None:
        """Store the secret, unless it is there already for the same address."""
        base_url = described.base_url or manifest.base_url
        assert described.organization_id is not None, "setups belong to organizations"
        try:
            known = self._secrets.find_value(
                connection,
                described.organization_id,
                name=name,
                integration_base_url=manifest.base_url,
                origin=parse_base_url(base_url)[0],
            )
        except (BrokenReferenceError, BrokenSealError):
            known = None
        if known == described.secret:
            return
        self._secrets.put(
            connection,
            SecretRequest(
                organization_id=described.organization_id,
                project_id=None,
                name=name,
                value=described.secret,
                base_url=base_url,
                service_type=manifest.name,
                description=f"{manifest.display_name}, set up as an integration",
            ),
            by=by,
        )

    def _update(
        self,
        connection: sa.Connection,
        record: CredentialRecord,
        request: CredentialRequest,
        *,
        by: Actor,
    ) -> CredentialRecord:
        """Change what a repeated setup says otherwise than the one before."""
        manifest = self._integrations[record.integration]
        if record.base_url != (request.base_url or manifest.base_url).rstrip("/"):
            record = self._credentials.replace_secret(connection, record, request, by=by)
        change = CredentialChange(provider_organization=request.provider_organization)
        return self._credentials.update(connection, record, change, by=by)

    def _remove(
        self,
        connection: sa.Connection,
        organization_id: str,
        manifest: IntegrationManifest,
        *,
        by: Actor,
    ) -> RemovalResult:
        note_change(connection)
        name = name_value(manifest.name, API_KEY)
        own, others = self._find_credentials(connection, organization_id, manifest.name)
        for record in own:
            self._credentials.remove(connection, record, by=by)
        left = self._list_credentials(connection, organization_id, None)
        is_shared = any(each.hint == write_reference(name) for each in left)
        is_removed = not is_shared and self._forget(connection, organization_id, name, by=by)
        if not own and not is_removed:
            raise make_not_set_up_error(manifest, others)
        removed = tuple(each.id for each in own)
        names = (name,) if is_removed else ()
        changes = {"integration": manifest.name, "credential_ids": removed, "key_names": names}
        event = AuditEvent("integration.removed", organization_id, organization_id, changes)
        self._audit.record(connection, by, event)
        return RemovalResult(
            service=manifest.name,
            removed_credentials=removed,
            removed_secrets=names,
            kept_secrets=(name,) if is_shared else (),
            other_credentials=tuple(each.id for each in others),
        )

    def _forget(
        self, connection: sa.Connection, organization_id: str, name: str, *, by: Actor
    ) -> bool:
        try:
            self._secrets.remove(connection, organization_id, None, name=name, by=by)
        except SecretNotFoundError:
            return False
        return True

    def _find_credentials(
        self, connection: sa.Connection, organization_id: str, integration: str
    ) -> tuple[Sequence[CredentialRecord], Sequence[CredentialRecord]]:
        """Return the credentials of an integration that a setup made, and the others."""
        known = self._list_credentials(connection, organization_id, integration)
        reference = write_reference(name_value(integration, API_KEY))
        own = [each for each in known if each.hint == reference]
        return own, [each for each in known if each.hint != reference]

    def _list_credentials(
        self, connection: sa.Connection, organization_id: str, integration: str | None
    ) -> Sequence[CredentialRecord]:
        filters = CredentialFilter(organization_id, integration)
        return self._credentials.list_page(connection, filters, limit=CREDENTIALS_MAX, offset=0)[0]


def describe_credential(
    organization_id: str, manifest: IntegrationManifest, values: SetupValues
) -> CredentialRequest:
    return CredentialRequest(
        organization_id=organization_id,
        integration=manifest.name,
        secret=values.secret,
        auth_type=manifest.auth_types[0],
        base_url=values.base_url,
        provider_organization=values.organization,
    )


def make_test_failed_error(
    manifest: IntegrationManifest, message: str
) -> CredentialTestFailedError:
    """Build the error for a secret that the provider did not accept."""
    name = FIELD.format(name=name_value(manifest.name, API_KEY))
    error = CredentialTestFailedError(f"Nothing was stored: {message}", param=name)
    error.recovery = "Ask the user to check the value; set up without `test` to store it anyway."
    return error


def make_not_set_up_error(
    manifest: IntegrationManifest, others: Sequence[CredentialRecord]
) -> NotConfiguredError:
    """Build the error for a removal of what no setup made."""
    error = NotConfiguredError(
        f"{manifest.display_name} was not set up here, so there is nothing to remove."
    )
    error.recovery = "Nothing is left to do."
    if others:
        ids = ", ".join(each.id for each in others)
        error.recovery = (
            f"It is configured by credentials that were added otherwise ({ids}); a person who "
            "manages the organization deletes those with DELETE /api/credentials/{id}."
        )
    return error
