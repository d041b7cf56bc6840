"""Open the sockets that a server listens on."""

from __future__ import annotations

import contextlib
import errno
import socket

from headgate.kit.errors import HeadgateError, Kind

BACKLOG = 2048
SEND_BUFFER_BYTES = 256 * 1024
"""Limit for what the system buffers for a client that does not read; the default is megabytes."""
_SKIPPED = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class AddressInUseError(HeadgateError):
    """The server cannot listen on its address: it is taken, not of this machine, or not allowed.

    Stop the other process, or choose another host or port.
    """

    kind = Kind.CONFLICT
    code = "address_unavailable"


def open_listeners(host: str, port: int, *, hint: str) -> list[socket.socket]:
    """Open sockets on all addresses of a host name, all on one port; port 0 picks a free one.
    `hint` says how to choose another port. Raise `AddressInUseError`."""
    with contextlib.ExitStack() as opened:
        listeners: list[socket.socket] = []
        try:
            for family, address in _find_addresses(host):
                number = port or (listeners[0].getsockname()[1] if listeners else 0)
                try:
                    listener = socket.create_server(
                        (address, number), family=family, backlog=BACKLOG
                    )
                except OSError as error:
                    # A name may stand for addresses that this machine has not (IPv6).
                    if error.errno in _SKIPPED and listeners:
                        continue
                    raise
                # What is accepted inherits it.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
                listeners.append(opened.enter_context(listener))
        except OSError as error:
            reason = str(error.strerror or error).partition(" (")[0]
            message = f"Cannot listen on {host}, port {port}: {reason}. Choose another with {hint}."
            raise AddressInUseError(message) from error
        opened.pop_all()
        return listeners


def _find_addresses(host: str) -> list[tuple[int, str]]:
    """Return families and addresses, IPv4 first: it exists where IPv6 may not."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    pairs = {(int(family), str(address[0])) for family, _, _, _, address in found}
    return sorted(pairs, key=lambda pair: (pair[0] != socket.AF_INET, pair[1]))
