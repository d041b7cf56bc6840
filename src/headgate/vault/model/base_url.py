"""Base URLs: addresses that secrets are bound and sent to."""

from __future__ import annotations

import functools
import re
import urllib.parse

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Origin

BASE_URL_CHARACTERS_MAX = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = r"[a-z0-9_-]{1,63}"
_HOST = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}(?:\.{_LABEL})*|[0-9a-f:.]*:[0-9a-f:.]*)")
"""Names that fit into DNS, and IPv6 addresses."""
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")


class InvalidCredentialError(HeadgateError):
    """A field of the credential is invalid.

    Correct the field that the message names.
    """

    kind = Kind.INVALID
    code = "invalid_credential"


@functools.lru_cache(maxsize=4096)
def parse_base_url(text: str) -> tuple[Origin, bytes]:
    """Return origin and path, without a trailing slash. Raise `InvalidCredentialError`.

    URLs that two parsers could read differently are rejected, so that the checked address is the
    one that is called.
    """
    message = (
        "A base URL must be http(s)://host[:port][/path], without user, query or fragment, "
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
    # Only spellings that all parsers read alike.
    if parts.netloc.lower() not in (written, f"{written}:{port}"):
        raise InvalidCredentialError(message, param="base_url")
    if not (_HOST.fullmatch(host) and _PATH.fullmatch(path)):
        raise InvalidCredentialError(message, param="base_url")
    return Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme]), path.encode()
