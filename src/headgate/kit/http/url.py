"""Parse URLs named by an operator or an issuer for the egress client."""

from __future__ import annotations

import re
import urllib.parse

from headgate.kit.http.message import Origin

CHARACTERS_MAX = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}
_NETWORK_PART = re.compile(
    r"[a-z0-9._-]{1,253}(?::[0-9]{1,5})?|\[[0-9a-f:.]{2,45}\](?::[0-9]{1,5})?"
)
_TARGET = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*|")


def parse_url(text: str) -> tuple[Origin, bytes]:
    """Return the origin and the target (path and query, `/` for none) of an absolute http(s) URL.
    Raise ValueError for any other text, and for what two parsers could read in two ways."""
    if len(text) > CHARACTERS_MAX or not text.isascii():
        raise ValueError("it is too long, or not in ASCII")
    scheme, mark, rest = text.partition("://")
    if scheme not in DEFAULT_PORTS or not mark:
        raise ValueError("it does not begin with https:// or http://")
    end = min(index for index in (rest.find("/"), rest.find("?"), len(rest)) if index >= 0)
    network, target = rest[:end].lower(), rest[end:]
    if not _NETWORK_PART.fullmatch(network) or not _TARGET.fullmatch(target):
        raise ValueError("it is not http(s)://host[:port][/path][?query]")
    parts = urllib.parse.urlsplit(f"{scheme}://{network}")
    port = parts.port or DEFAULT_PORTS[scheme]
    return Origin(scheme, parts.hostname or "", port), (target or "/").encode()
