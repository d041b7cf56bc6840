"""Addresses to which a browser is sent back: which ones may be registered, and how they match.

An https address matches exactly. One of this machine (`localhost`, `127.0.0.1`, `[::1]`) matches
with any port, since a program takes whichever is free (RFC 8252 7.3). The scheme of an application
on this machine (`cursor://...`, `com.example.app:/...`) matches exactly.
"""

from __future__ import annotations

import re
import urllib.parse

from headgate.oauth.model.errors import InvalidRedirectUriError

CHARACTERS_MAX = 512
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
# What browsers and systems run, open or send by themselves.
FORBIDDEN_SCHEMES = frozenset(
    {
        *("about", "blob", "chrome", "data", "file", "filesystem", "ftp", "ftps", "intent"),
        *("jar", "javascript", "ldap", "mailto", "sms", "ssh", "tel", "vbscript", "view-source"),
        *("ws", "wss", "http", "ms-msdt", "search-ms", "smb"),
    }
)
_URI = re.compile(r"([a-z][a-z0-9+.-]{0,62}):[A-Za-z0-9._~!$&'()*+,;=:@%/?\[\]-]+")
# One spelling of an authority, so that no two parsers read two hosts.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*|\[::1\])(?::[0-9]{1,5})?")


def check_redirect_uri(uri: str) -> str:
    """Return an address that may be registered. Raise `InvalidRedirectUriError`."""
    found = _URI.fullmatch(uri) if len(uri) <= CHARACTERS_MAX else None
    if found is None:
        raise _refuse(uri, "it is no absolute address without a fragment, or too long")
    scheme, rest = found[1], uri[len(found[1]) + 1 :]
    if scheme not in ("https", "http"):
        if scheme in FORBIDDEN_SCHEMES:
            raise _refuse(uri, "its scheme is not one of an application")
        # Some programs open the address that follows their scheme (`feed:javascript:...`).
        if not rest.startswith("/") or "[" in rest or "]" in rest:
            raise _refuse(uri, "a slash follows its scheme, and no brackets")
        return uri
    authority = rest.removeprefix("//").partition("/")[0].partition("?")[0]
    if not rest.startswith("//") or not _AUTHORITY.fullmatch(authority):
        raise _refuse(uri, "its host is not a name, or it has a user in front of it")
    if scheme == "http" and find_host(uri) not in LOOPBACK_HOSTS:
        raise _refuse(uri, "http is for this machine only; use https")
    return uri


def matches_redirect_uri(registered: str, uri: str) -> bool:
    return registered == uri or (is_loopback(uri) and drop_port(registered) == drop_port(uri))


def is_loopback(uri: str) -> bool:
    return uri.startswith("http://") and find_host(uri) in LOOPBACK_HOSTS


def drop_port(uri: str) -> str:
    """Return a loopback address without its port and in one spelling, any other one as it is."""
    if not is_loopback(uri):
        return uri
    parts = urllib.parse.urlsplit(uri)
    host = "[::1]" if parts.hostname == "::1" else parts.hostname
    query = f"?{parts.query}" if parts.query else ""
    return f"http://{host}{parts.path or '/'}{query}"


def find_host(uri: str) -> str:
    """Return the host of an http(s) address, the scheme of any other: what people are shown."""
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return f"{parts.scheme}:"
    return parts.hostname or ""


def find_form_source(uri: str) -> str:
    """Return the source of a Content-Security-Policy that lets a form lead there."""
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return f"{parts.scheme}:"
    # No policy can name an IPv6 address.
    return "http:" if parts.hostname == "::1" else f"{parts.scheme}://{parts.netloc}"


def add_query(uri: str, fields: dict[str, str]) -> str:
    """Return the address with more fields in its query."""
    mark = "&" if "?" in uri else "?"
    return uri + mark + urllib.parse.urlencode(fields)


def _refuse(uri: str, reason: str) -> InvalidRedirectUriError:
    return InvalidRedirectUriError(
        f"The redirect URI {uri[:CHARACTERS_MAX]!r} cannot be used: {reason}.",
        param="redirect_uris",
    )
