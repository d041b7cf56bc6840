"""What a credential is, what may be one, and why one is refused."""

from __future__ import annotations

import functools
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Headers, Origin
from headgate.relay.ports import OPERATOR, Deadlines

MetadataValue = str | int | float | bool | None
MANAGED_INTEGRATION = "headgate"
"""The integration whose credentials are all platform-managed ones (decision 18)."""
API_KEY = "api_key"
ASK = "ask"
NEVER = "never"
DEADLINES = Deadlines.__struct_fields__
STREAM_USAGE = (ASK, NEVER)
"""Whether the provider is asked for the usage of a stream whose client did not ask for it."""
SECRET_CHARACTERS_MAX = 4096
HINT_CHARACTERS_MIN = 20
BASE_URL_CHARACTERS_MAX = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = r"[a-z0-9_-]{1,63}"
_HOST = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}(?:\.{_LABEL})*|[0-9a-f:.]*:[0-9a-f:.]*)")
"""Names that DNS can hold, and IPv6 addresses."""
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")
_SECRET = re.compile(r"[\x21-\x7e]+")


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


class TestCall(Protocol):
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


class CredentialRecord(msgspec.Struct, frozen=True):
    """A credential without its secret. No organization: the platform's own, a managed one.

    `hint` is the secret's mask, or the reference that stands in its place; `key_id` the
    organization key under which it is sealed. `secret_header` is the header that carries it, where
    that is not the integration's own. `allowed_models` are patterns; none at all allows every
    model. `stream_usage` is one of `STREAM_USAGE`. `first_byte_seconds`, `idle_seconds` and
    `total_seconds` are deadlines of its calls, None where it sets none. `source` says which start
    of Headgate made it, empty for what people add. `version` counts the changes from 1,
    `seal_number` how often it was sealed (0: by a release that did not count). Times in unix
    seconds.
    """

    id: str
    organization_id: str | None
    integration: str
    name: str
    auth_type: str
    base_url: str
    provider_organization: str | None
    metadata: dict[str, MetadataValue]
    hint: str
    is_default: bool
    created_at: float
    updated_at: float
    key_id: str
    expires_at: float | None = None
    last_used_at: float | None = None
    description: str | None = None
    allowed_models: list[str] = []
    capacity: list[dict[str, Any]] = []
    secret_header: str | None = None
    source: str = ""
    created_by: str | None = None
    created_by_email: str | None = None
    version: int = 1
    seal_number: int = 0
    stream_usage: str = ASK
    first_byte_seconds: float | None = None
    idle_seconds: float | None = None
    total_seconds: float | None = None


class CredentialRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a new credential shall be. What is left out comes from the integration.

    `secret` is the secret itself, or a reference to a stored one (`model.reference`).
    """

    organization_id: str | None
    integration: str
    secret: str
    auth_type: str = "api_key"
    secret_header: str | None = None
    name: str | None = None
    base_url: str | None = None
    provider_organization: str | None = None
    metadata: Mapping[str, MetadataValue] = {}
    is_default: bool = False
    expires_at: float | None = None
    description: str | None = None
    allowed_models: Sequence[str] = ()
    capacity: Sequence[Mapping[str, Any]] = ()
    stream_usage: str = ASK
    first_byte_seconds: float | None = None
    idle_seconds: float | None = None
    total_seconds: float | None = None
    source: str = ""

    def __repr__(self) -> str:
        return f"CredentialRequest({self.integration}, {self.name})"


class CredentialChange(msgspec.Struct, frozen=True, kw_only=True):
    """What of a credential shall be otherwise; what is left out stays."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    metadata: dict[str, MetadataValue] | msgspec.UnsetType = msgspec.UNSET
    allowed_models: list[str] | msgspec.UnsetType = msgspec.UNSET
    capacity: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    stream_usage: str | msgspec.UnsetType = msgspec.UNSET
    first_byte_seconds: float | msgspec.UnsetType | None = msgspec.UNSET
    idle_seconds: float | msgspec.UnsetType | None = msgspec.UNSET
    total_seconds: float | msgspec.UnsetType | None = msgspec.UNSET
    provider_organization: str | msgspec.UnsetType | None = msgspec.UNSET


class Fault(msgspec.Struct, frozen=True):
    """A stored credential, or a row of another sealed `table`, that cannot be used, and why."""

    credential_id: str
    name: str
    reason: str
    table: str = "credentials"


class InvalidCredentialError(HeadgateError):
    """A new credential has something that it cannot have; `param` names it."""

    kind = Kind.INVALID
    code = "invalid_credential"


class CredentialNotFoundError(HeadgateError):
    """No credential of that id or name."""

    kind = Kind.MISSING
    code = "not_found"


class NoCredentialError(HeadgateError):
    """A call has no credential to be sent with."""

    kind = Kind.INVALID
    code = "credential_missing"


class UnusableCredentialError(HeadgateError):
    """The credential that a call names cannot be used; no other one is taken instead."""

    kind = Kind.INVALID
    code = "credential_unusable"


class InvalidMasterKeyError(HeadgateError):
    """The master key is missing, weak, exposed or another one: nothing was written."""

    code = "master_key_refused"


def find_purpose(credential: CredentialRecord | CredentialRequest) -> str:
    """The egress rule under which a credential is sent: what the platform owns, and what a start of
    Headgate made, may go where the operator has configured it; what people add may not."""
    is_operators = credential.organization_id is None or credential.source
    return OPERATOR if is_operators else ""


@functools.lru_cache(maxsize=4096)
def parse_base_url(text: str) -> tuple[Origin, bytes]:
    """Origin and path (no trailing slash) of an address. Raises `InvalidCredentialError`."""
    message = (
        "A base URL is http(s)://host[:port][/path], without user, query or fragment, "
        f"of at most {BASE_URL_CHARACTERS_MAX} characters."
    )
    if len(text) > BASE_URL_CHARACTERS_MAX:
        raise InvalidCredentialError(message, param="base_url")
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidCredentialError(message, param="base_url") from error
    host, path = parts.hostname or "", parts.path.rstrip("/")
    plain = text.isascii() and text.isprintable() and not set("?#@\\ ") & set(text)
    dotted = {".", ".."} & set(urllib.parse.unquote(path).split("/"))
    if not (plain and parts.scheme in _DEFAULT_PORTS and port != 0 and not dotted):
        raise InvalidCredentialError(message, param="base_url")
    written = f"[{host}]" if ":" in host else host
    if parts.netloc.lower() not in (written, f"{written}:{port}"):  # read alike by every parser
        raise InvalidCredentialError(message, param="base_url")
    if not (_HOST.fullmatch(host) and _PATH.fullmatch(path)):
        raise InvalidCredentialError(message, param="base_url")
    return Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme]), path.encode()


def check_secret(
    integration: Integration, secret: str, origin: Origin, *, auth_type: str = API_KEY
) -> None:
    """Raises `InvalidCredentialError` for what cannot be a secret of that origin.

    The integration's own pattern holds for its keys at its own address; elsewhere the secret is
    somebody else's, and need only be fit for a header. So it is with tokens.
    """
    if len(secret) > SECRET_CHARACTERS_MAX or not _SECRET.fullmatch(secret):
        message = f"A key is 1 to {SECRET_CHARACTERS_MAX} printable characters without blanks."
        raise InvalidCredentialError(message, param="api_key")
    own_origin, _ = parse_base_url(integration.base_url)
    if auth_type != API_KEY:
        return
    if origin == own_origin and not re.fullmatch(integration.secret_pattern, secret):
        message = (
            f"This is not a key of {integration.display_name}: "
            f"it should match {integration.secret_pattern}. Copy it again, whole."
        )
        raise InvalidCredentialError(message, param="api_key")


def mask_secret(secret: str, prefixes: Sequence[str]) -> str:
    """What may be shown: public prefix, ellipsis, last 4 characters; of a short one nothing."""
    if len(secret) < HINT_CHARACTERS_MIN:
        return "…"
    prefix = max((p for p in prefixes if secret.startswith(p)), key=len, default="")
    return f"{prefix}…{secret[-4:]}"


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
