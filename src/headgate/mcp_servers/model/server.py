"""A registered MCP server: its address, its name, and how it is called."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping

import msgspec

from headgate.kit.http.message import Origin
from headgate.kit.http.url import parse_url
from headgate.mcp_servers.model.errors import InvalidMcpServerError, LocalMcpServerError
from headgate.vault.model.secret import NAME as SECRET_NAME

NAME_PATTERN = r"[a-z][a-z0-9-]{0,19}"
"""No underscore: the first one in a tool's name ends the name of its server."""
HEADERS_MAX = 16
HEADER_CHARACTERS_MAX = 4096
DESCRIPTION_CHARACTERS_MAX = 1000
TIMEOUT_SECONDS = 60.0
TIMEOUT_SECONDS_MAX = 600.0

_NAME = re.compile(NAME_PATTERN)
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")
_REFERENCE = re.compile(rf"\{{\{{\s*vault:\s*({SECRET_NAME.pattern})\s*\}}\}}")
_OWN_HEADERS = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-encoding", "content-length"),
        *("content-type", "expect", "host", "keep-alive", "last-event-id", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
_REMOTE_TYPES = frozenset({"", "http", "https", "streamable-http", "streamable_http", "url"})


class McpAuthentication(enum.Enum):
    """Say with what the server is called."""

    SHARED = "shared"
    """The headers of the organization, which may be none."""
    PERSON = "person"
    """A token of the person who calls, beside these headers."""


class McpServerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a server to register. `headers` may contain `{{vault:name}}`."""

    organization_id: str
    name: str
    url: str
    description: str = ""
    headers: Mapping[str, str] = {}
    authentication: McpAuthentication = McpAuthentication.SHARED
    approve_first: bool = False
    timeout_seconds: float = TIMEOUT_SECONDS
    requests_per_minute: int | None = None

    def __repr__(self) -> str:
        return f"McpServerRequest({self.name})"


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a registered server, without its secrets. Times are in unix seconds.

    `approve_first` approves the tools of the first discovery. `requests_per_minute` is 0 for no
    limit, None for that of the settings. `protocol_version` is the newest that both sides speak,
    and empty until the first discovery; that also fills the names. `skipped` tells which tools were
    refused, and why. `refresh_at` is when it is discovered next.
    """

    id: str
    organization_id: str
    name: str
    url: str
    description: str
    authentication: McpAuthentication
    header_names: tuple[str, ...]
    approve_first: bool
    timeout_seconds: float
    requests_per_minute: int | None
    disabled_at: float | None = None
    protocol_version: str = ""
    server_title: str = ""
    server_version: str = ""
    discovered_at: float | None = None
    discovery_error: str = ""
    skipped: tuple[tuple[str, str], ...] = ()
    refresh_at: float
    created_at: float
    updated_at: float
    version: int = 1

    @property
    def origin(self) -> Origin:
        return parse_address(self.url)[0]


def parse_address(url: str) -> tuple[Origin, bytes]:
    """Return the origin and the target of a server's address. Raise `InvalidMcpServerError`.

    Whether it may be reached is for the egress rules to say.
    """
    try:
        return parse_url(url)
    except ValueError as error:
        raise InvalidMcpServerError(f"The address cannot be used: {error}.", param="url") from error


def check_name(name: str, reserved: frozenset[str]) -> str:
    """Return the name. Raise `InvalidMcpServerError` for one that cannot begin names of tools."""
    if not _NAME.fullmatch(name):
        raise InvalidMcpServerError(
            "A name is 1 to 20 lower-case letters, digits and dashes, and begins with a letter.",
            param="name",
        )
    if name in reserved:
        raise InvalidMcpServerError(
            f"The name {name!r} begins the names of other tools. Choose another one.", param="name"
        )
    return name


def suggest_name(origin: Origin) -> str:
    """Return a name for a server whose registration gives none, from its host."""
    labels = [each for each in origin.host.split(".") if each not in ("mcp", "www", "api", "com")]
    return make_name(labels[0] if labels else origin.host)


def make_name(text: str) -> str:
    """Return a name from a text for people."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return (name if name[:1].isalpha() else f"mcp-{name}")[:20].rstrip("-")


def check_description(text: str) -> str:
    if len(text) > DESCRIPTION_CHARACTERS_MAX or "\0" in text:
        raise InvalidMcpServerError(
            f"A description has at most {DESCRIPTION_CHARACTERS_MAX} characters of text.",
            param="description",
        )
    return text


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with names in lower case. Raise `InvalidMcpServerError`."""
    if len(headers) > HEADERS_MAX:
        raise InvalidMcpServerError(
            f"A server is called with at most {HEADERS_MAX} headers.", param="headers"
        )
    checked: dict[str, str] = {}
    for given, value in headers.items():
        name = given.lower()
        if not _HEADER_NAME.fullmatch(name) or name in checked:
            message = f"{given[:64]!r} is no name of a header, or stands there twice."
            raise InvalidMcpServerError(message, param="headers")
        if name in _OWN_HEADERS or name.startswith("mcp-"):
            message = f"The header {name!r} is set by the protocol."
            raise InvalidMcpServerError(message, param="headers")
        if len(value) > HEADER_CHARACTERS_MAX or not _HEADER_VALUE.fullmatch(value):
            message = (
                f"The value of {name!r} must be 1 to {HEADER_CHARACTERS_MAX} printable characters."
            )
            raise InvalidMcpServerError(message, param="headers")
        checked[name] = value.strip()
    return checked


def check_token(token: str) -> str:
    """Return a person's token. Raise `InvalidMcpServerError` for one that no header can carry."""
    check_headers({"authorization": token})
    return token


def check_limits(timeout_seconds: float, requests_per_minute: int | None) -> None:
    if not 1 <= timeout_seconds <= TIMEOUT_SECONDS_MAX:
        raise InvalidMcpServerError(
            f"A time-out is 1 to {TIMEOUT_SECONDS_MAX:.0f} seconds.", param="timeout_seconds"
        )
    if requests_per_minute is not None and not 0 <= requests_per_minute <= 1_000_000:
        raise InvalidMcpServerError(
            "A limit is 0 to 1000000 requests per minute; 0 means no limit.",
            param="requests_per_minute",
        )


def check_transport(kind: str, *, has_command: bool) -> None:
    """Refuse what is no server at an address. Raise `LocalMcpServerError` for a program to start,
    and `InvalidMcpServerError` for a transport that is not spoken here."""
    if has_command or kind == "stdio":
        raise LocalMcpServerError(
            "Headgate starts no programs. Register the address of a server that speaks MCP over "
            "HTTP."
        )
    if kind not in _REMOTE_TYPES:
        raise InvalidMcpServerError(
            f"The transport {kind[:32]!r} is not supported; the server must speak streamable HTTP.",
            param="type",
        )


def list_references(headers: Mapping[str, str]) -> list[str]:
    """Return the names of the stored secrets that the headers refer to."""
    return [name for value in headers.values() for name in _REFERENCE.findall(value)]


def fill_references(headers: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with the values of stored secrets. Raise KeyError for one not given."""
    return {
        name: _REFERENCE.sub(lambda found: secrets[found[1]], value)
        for name, value in headers.items()
    }
