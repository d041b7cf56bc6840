"""Validates new credentials before anything is sealed or sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import check_name
from headgate.audit.model import Actor
from headgate.credentials.model.credential import (
    API_KEY,
    STREAM_USAGE,
    CredentialRecord,
    CredentialRequest,
    find_purpose,
)
from headgate.credentials.model.integration import Integration
from headgate.credentials.model.secret import check_secret, mask_secret
from headgate.kit.clock import Clock
from headgate.kit.crypto import BrokenSealError
from headgate.kit.http.errors import ForbiddenAddressError
from headgate.kit.http.guard import EgressRules
from headgate.kit.http.message import Origin
from headgate.relay.capacity_limits import CapacityEntry, find_invalid_limit
from headgate.relay.ports import DEADLINE_SECONDS_MAX, DEADLINE_SECONDS_MIN
from headgate.vault.model.base_url import InvalidCredentialError, parse_base_url
from headgate.vault.model.secret import BrokenReferenceError, parse_reference, write_reference
from headgate.vault.service.secrets import SecretService

PROVIDER_ORGANIZATION_CHARACTERS_MAX = 200


class CredentialValidator:
    def __init__(
        self,
        secrets: SecretService,
        integrations: Mapping[str, Integration],
        *,
        egress_rules: EgressRules,
        clock: Clock,
    ) -> None:
        self._secrets = secrets
        self._integrations = integrations
        self._egress_rules = egress_rules
        self._clock = clock

    def validate(
        self,
        connection: sa.Connection,
        request: CredentialRequest,
        credential_id: str,
        *,
        by: Actor,
    ) -> tuple[CredentialRecord, str]:
        """Return the record of a valid request, still without a key, and the text to seal. Raise
        `InvalidCredentialError` and `InvalidNameError`."""
        integration = self._find_integration(request.integration)
        now = self._clock.now()
        if request.expires_at is not None and request.expires_at <= now:
            raise InvalidCredentialError("expires_at is in the past.", param="expires_at")
        base_url = (request.base_url or integration.base_url).rstrip("/")
        if not base_url:
            message = (
                f"{integration.display_name} has no address of its own: give the base_url of your "
                "resource."
            )
            raise InvalidCredentialError(message, param="base_url")
        origin, _ = parse_base_url(base_url)
        secret, hint = self._check_secret(connection, request, integration, origin)
        self._check_origin(origin, find_purpose(request))
        record = CredentialRecord(
            id=credential_id,
            organization_id=request.organization_id,
            integration=integration.name,
            name=check_name(request.name or integration.display_name),
            auth_type=request.auth_type,
            base_url=base_url,
            provider_organization=check_provider_organization(request.provider_organization),
            metadata=dict(request.metadata),
            hint=hint,
            is_default=request.is_default,
            created_at=now,
            updated_at=now,
            key_id="",
            expires_at=request.expires_at,
            description=request.description,
            allowed_models=list(request.allowed_models),
            capacity=check_capacity(request.capacity),
            secret_header=request.secret_header,
            stream_usage=check_stream_usage(request.stream_usage),
            first_byte_seconds=check_deadline("first_byte_seconds", request.first_byte_seconds),
            idle_seconds=check_deadline("idle_seconds", request.idle_seconds),
            total_seconds=check_deadline("total_seconds", request.total_seconds),
            source=request.source,
            created_by=by.id,
            created_by_email=by.name if "@" in by.name else None,
        )
        return record, secret

    def resolve(self, connection: sa.Connection, request: CredentialRequest, secret: str) -> str:
        """Return the secret, or the value that it refers to. Raise `InvalidCredentialError`."""
        name = parse_reference(secret)
        return secret if name is None else self._follow(connection, request, name, param=API_KEY)

    def _check_secret(
        self,
        connection: sa.Connection,
        request: CredentialRequest,
        integration: Integration,
        origin: Origin,
    ) -> tuple[str, str]:
        try:
            name = parse_reference(request.secret)
        except BrokenReferenceError as error:
            raise InvalidCredentialError(error.message, param=API_KEY) from error
        if name is None:
            check_secret(integration, request.secret, origin, auth_type=request.auth_type)
            return request.secret, mask_secret(request.secret, integration.secret_prefixes)
        value = self._follow(connection, request, name, param=API_KEY)
        check_secret(integration, value, origin, auth_type=request.auth_type)
        reference = write_reference(name)
        return reference, reference

    def _follow(
        self, connection: sa.Connection, request: CredentialRequest, name: str, *, param: str
    ) -> str:
        integration = self._find_integration(request.integration)
        base_url = (request.base_url or integration.base_url).rstrip("/")
        if request.organization_id is None:
            message = "Credentials of the platform cannot refer to stored secrets."
            raise InvalidCredentialError(message, param=param)
        try:
            return self._secrets.find_value(
                connection,
                request.organization_id,
                name=name,
                integration_base_url=integration.base_url,
                origin=parse_base_url(base_url)[0],
            )
        except (BrokenReferenceError, BrokenSealError) as error:
            reason = (
                error.message if isinstance(error, BrokenReferenceError) else "it cannot be opened"
            )
            message = f"This reference cannot be resolved: {reason}."
            raise InvalidCredentialError(message, param=param) from error

    def _check_origin(self, origin: Origin, purpose: str) -> None:
        """Reject at once an origin that every call would be refused; names are resolved only
        then."""
        try:
            self._egress_rules.find(purpose).check(origin)
        except ForbiddenAddressError as error:
            raise InvalidCredentialError(f"{error}.", param="base_url") from error

    def _find_integration(self, name: str) -> Integration:
        integration = self._integrations.get(name)
        if integration is None:
            known = ", ".join(sorted(self._integrations))
            message = f"There is no integration {name!r}; there is: {known}."
            raise InvalidCredentialError(message, param="integration")
        return integration


def check_stream_usage(text: str) -> str:
    """Raise `InvalidCredentialError` unless the text is in `STREAM_USAGE`."""
    if text in STREAM_USAGE:
        return text
    message = f"`stream_usage` must be one of {', '.join(STREAM_USAGE)}."
    raise InvalidCredentialError(message, param="stream_usage")


def check_deadline(name: str, seconds: float | None) -> float | None:
    """Return the seconds. Raise `InvalidCredentialError` if they are out of bounds."""
    if seconds is None or DEADLINE_SECONDS_MIN <= seconds <= DEADLINE_SECONDS_MAX:
        return seconds
    message = f"`{name}` must be from {DEADLINE_SECONDS_MIN} to {DEADLINE_SECONDS_MAX} seconds."
    raise InvalidCredentialError(message, param=name)


def check_provider_organization(text: str | None) -> str | None:
    """Raise `InvalidCredentialError` for text that cannot be the id of an organization."""
    if text is None or (
        text.isascii()
        and text.isprintable()
        and 0 < len(text.replace(" ", "")) == len(text) <= PROVIDER_ORGANIZATION_CHARACTERS_MAX
    ):
        return text
    message = "The provider's organization must be an id of printable characters without spaces."
    raise InvalidCredentialError(message, param="provider_organization")


def check_capacity(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the limits of a credential as they are stored. Raise `InvalidCredentialError` for one
    that contradicts itself."""
    limits = msgspec.convert(entries, list[CapacityEntry])
    found = find_invalid_limit(limits, of_credential=True)
    if found is not None:
        index, problem = found
        raise InvalidCredentialError(problem, param=f"capacity.{index}")
    return [dict(each) for each in entries]
