"""What credentials need to know about their integration; the catalog has it as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from headgate.kit.http.message import Headers


class Integration(Protocol):
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
    @property
    def surfaces(self) -> Sequence[str]: ...
    @property
    def stream_usage(self) -> str: ...


class CredentialTestCall(Protocol):
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
    """Return the headers that carry the secret and, if configured, the provider's organization. A
    `secret_header` gets the bare secret, without the integration's prefix."""
    if secret_header is None:
        carrier, value = integration.secret_header, integration.secret_header_prefix + secret
    else:
        carrier, value = secret_header, secret
    headers = [(carrier.encode(), value.encode())]
    if provider_organization is not None:
        headers.append((integration.organization_header.encode(), provider_organization.encode()))
    return headers
