"""Which host names a request may be for: one valid name (RFC 9110 7.2), and one that is served.

A web page can make a browser send requests to an address of this machine under a name that its
author owns (DNS rebinding). Nobody can own a name of one label, nor one below a domain that is
kept for local use (`.local`, `.internal`, `.svc`): so without configuration these, addresses and
`localhost` are served, and no other name.
"""

from __future__ import annotations

import re

from headgate.gateway.limits import HostNotAllowedError, MalformedRequestError
from headgate.kit.errors import HeadgateError
from headgate.kit.http.addresses import parse_address

PORT_MAX = 65_535
ACCEPTED_MAX = 1024
"""Values whose verdict is remembered."""

PRIVATE_SUFFIXES = (".internal", ".local", ".svc")
"""Domains that no registry delegates: ICANN keeps `.internal` for private use, RFC 6762 `.local`
(also Kubernetes' `svc.cluster.local`); `.svc` is how pods call a service of another namespace."""

_VALUE = re.compile(
    rb"(?:\[(?P<ipv6>[0-9a-f:.]{2,45})\]|(?P<name>[a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_])?\.?))"
    rb"(?::(?P<port>[0-9]{0,5}))?"
)


class HostAllowlist:
    """The allow-list. `accepted` are the Host headers that were found good, for a quick look."""

    def __init__(self, allowed: tuple[str, ...] = (), *, is_public: bool = False) -> None:
        """`*` allows any name, `*.example.com` all below one; empty is explained above.

        `is_public`: this listens on an address of the internet, where no name is a private one.
        """
        names = {name.lower().strip("[]").rstrip(".") for name in allowed}
        self._names = frozenset(name for name in names if not name.startswith("*"))
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*."))
        self._any = "*" in names
        self._uses_default = not names
        self._default_suffixes = (".localhost", *(() if is_public else PRIVATE_SUFFIXES))
        self.accepted: set[tuple[bytes, bytes]] = set()

    def check(self, values: list[bytes], *, is_old: bool) -> HeadgateError | None:
        """Why a request with these Host headers is refused; HTTP/1.0 (`is_old`) may have none."""
        if not values and is_old and (self._uses_default or self._any):
            return None
        if len(values) != 1 and not (is_old and not values):
            return MalformedRequestError("A request has exactly one Host header.")
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
    """The name in a Host header, in lower case, without port, brackets and last dot; None when
    it is malformed (RFC 3986 3.2.2, and of its names those that DNS or a container can have)."""
    found = _VALUE.fullmatch(value.lower())
    if found is None or int(found["port"] or 0) > PORT_MAX:
        return None
    if found["ipv6"] is not None:
        address = found["ipv6"].decode()
        return address if parse_address(address) is not None and ":" in address else None
    name = found["name"].decode().removesuffix(".")
    return None if ".." in name else name


def describe_unknown_host(name: str, *, has_list: bool) -> str:
    """What an operator has to do for a name to be served."""
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
