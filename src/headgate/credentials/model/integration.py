"""What credentials need to know of their integration, which the catalog has as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from headgate.kit.http.message import Headers


class Integration(Protocol):
    """The facts of an integration that matter for its secrets; the catalog has them as data."""

    @property
    def name(self) -> str: ...
    @property
    def display_name(self) -> str: ...
    @property
    def base_url(self) -> str: ...
    @property
    def secret_pattern(self) -> str: ...
    @property
    def secret_prefixes(self) -> Sequence[str]: ...
    @property
    def secret_header(self) -> str: ...
    @property
    def secret_header_prefix(self) -> str: ...
    @property
    def organization_header(self) -> str: ...


class CredentialTestCall(Protocol):
    """The call by which a credential is tried; the catalog has it as data."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def status_codes(self) -> Sequence[int]: ...
    @property
    def response_fields(self) -> Sequence[str]: ...
    @property
    def body(self) -> Mapping[str, Any]: ...
    @property
    def cost_level(self) -> str: ...


def build_headers(
    integration: Integration,
    secret: str,
    provider_organization: str | None,
    *,
    secret_header: str | None = None,
) -> Headers:
    """The headers that carry the secret and, where one is configured, the organization.

    A `secret_header` of the credential's own has the secret alone.
    """
    if secret_header is None:
        carrier, value = integration.secret_header, integration.secret_header_prefix + secret
    else:
        carrier, value = secret_header, secret
    headers = [(carrier.encode(), value.encode())]
    if provider_organization is not None:
        headers.append((integration.organization_header.encode(), provider_organization.encode()))
    return headers
