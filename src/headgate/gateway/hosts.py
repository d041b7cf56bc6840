"""Check the Host header: a request must name one valid host that is served here.

A web page can make a browser send requests to this machine under a name that the page's author owns
(DNS rebinding). Nobody can own a name of one label, nor one below a domain for local use (`.local`,
`.internal`, `.svc`). So without configuration these, IP addresses and `localhost` are served, and
no other name.
"""

from __future__ import annotations

import re

from headgate.gateway.limits import HostNotAllowedError, MalformedRequestError
from headgate.kit.errors import HeadgateError
from headgate.kit.http.addresses import parse_address

PORT_MAX = 65_535
ACCEPTED_MAX = 1024
"""How many accepted Host headers are cached."""

PRIVATE_SUFFIXES = (".internal", ".local", ".svc")
"""Domains that no registry delegates: ICANN keeps `.internal` for private use, RFC 6762 `.local`
(also Kubernetes' `svc.cluster.local`); `.svc` is how pods call a service of another namespace."""

_VALUE = re.compile(
    rb"(?:\[(?P<ipv6>[0-9a-f:.]{2,45})\]|(?P<name>[a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_])?\.?))"
    rb"(?::(?P<port>[0-9]{0,5}))?"
)


class HostAllowlist:
    """Check Host headers. `accepted` caches headers that were found good."""

    def __init__(self, allowed: tuple[str, ...] = (), *, is_public: bool = False) -> None:
        """Allow the given names: `*` any, `*.example.com` all below one.

        Without names, the default of this module is allowed. `is_public` says that the server
        listens on a public address, where no name is a private one.
        """
        names = {name.lower().strip("[]").rstrip(".") for name in allowed}
        self._names = frozenset(name for name in names if not name.startswith("*"))
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*."))
        self._any = "*" in names
        self._uses_default = not names
        self._default_suffixes = (".localhost", *(() if is_public else PRIVATE_SUFFIXES))
        self.accepted: set[tuple[bytes, bytes]] = set()

    def check(self, values: list[bytes], *, is_old: bool) -> HeadgateError | None:
        """Return why a request with these Host headers is refused, None where it is not. HTTP/1.0
        (`is_old`) needs no Host header (RFC 9110 7.2)."""
        if not values and is_old and (self._uses_default or self._any):
            return None
        if len(values) != 1 and not (is_old and not values):
            return MalformedRequestError("A request must have exactly one Host header.")
        name = read_name(values[0]) if values else ""
        if name is None:
            return MalformedRequestError(
                "The Host header is not a host name with or without a port."
            )
        if not self._is_served(name):
            return HostNotAllowedError(describe_unknown_host(name, has_list=not self._uses_default))
        if values and len(self.accepted) < ACCEPTED_MAX:
            self.accepted.add((b"host", values[0]))
        return None

    def _is_served(self, name: str) -> bool:
        if self._any or name in self._names or name.endswith(self._suffixes or ("\n",)):
            return True
        return self._uses_default and (
            "." not in name
            or name.endswith(self._default_suffixes)
            or parse_address(name) is not None
        )


def read_name(value: bytes) -> str | None:
    """Return the host name in lower case, without port, brackets and final dot; None if malformed.
    Of the names of RFC 3986 3.2.2, only those are valid that DNS or a container can have."""
    found = _VALUE.fullmatch(value.lower())
    if found is None or int(found["port"] or 0) > PORT_MAX:
        return None
    if found["ipv6"] is not None:
        address = found["ipv6"].decode()
        return address if parse_address(address) is not None and ":" in address else None
    name = found["name"].decode().removesuffix(".")
    return None if ".." in name else name


def describe_unknown_host(name: str, *, has_list: bool) -> str:
    """Say what an operator has to set for a name to be served."""
    name = name or "the-name"
    if has_list:
        return (
            f"The host name {name!r} is not served here. To serve it, add it to the names of the "
            f"setting HEADGATE_ALLOWED_HOSTS: HEADGATE_ALLOWED_HOSTS=...,{name} (*.example.com "
            "for all below one, * for any)."
        )
    return (
        f"The host name {name!r} is not served here. To serve it, set "
        f"HEADGATE_ALLOWED_HOSTS={name} (a list of names; *.example.com for all below one, * for "
        "any). Then only what is listed is served: list localhost and 127.0.0.1 as well if they "
        "are used."
    )
