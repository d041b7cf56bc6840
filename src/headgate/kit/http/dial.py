"""Open a connection: resolve the name, connect a socket, start TLS."""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol

from headgate.kit.errors import drop_trace
from headgate.kit.http.connection import UpstreamConnection
from headgate.kit.http.errors import ConnectError, PoolExhaustedError, TlsError
from headgate.kit.http.message import Origin

RECEIVE_BUFFER_BYTES = 1 << 20
"""Limit for what the system buffers of a response that is not read; the default is tens of
megabytes."""


OWN_SHORTAGE = frozenset(
    {
        *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
        *(errno.EADDRNOTAVAIL, errno.EADDRINUSE),
    }
)
"""Errors of a system without files, memory or ports for one more socket."""


class Resolver(Protocol):
    """Decide which addresses of an origin may be connected to; see `guard.Guard`."""

    async def resolve(self, origin: Origin, purpose: str) -> Sequence[str]:
        """Return IP literals, the preferred first. Raise `ConnectError` or OSError."""
        ...


def create_tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Verify names and chains against the system's authorities and those of `ca_file`."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context


@functools.lru_cache(maxsize=4)
def share_tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return one context for all clients of the process: to read the authorities takes 25
    milliseconds."""
    return create_tls_context(ca_file)


def _share(deadline: float, left: int) -> float | None:
    """Return the seconds for one of the remaining addresses; the last one may use them all."""
    return (deadline - asyncio.get_running_loop().time()) / left if left > 1 else None


class Dialer:
    """Open connections to origins; the caller sets the deadline."""

    def __init__(self, resolver: Resolver, tls: ssl.SSLContext) -> None:
        self._resolver = resolver
        self._tls = tls

    async def dial(
        self,
        origin: Origin,
        create: Callable[[], UpstreamConnection],
        *,
        deadline: float,
        purpose: str = "",
    ) -> UpstreamConnection:
        """Try every address; each gets a fair share of the time until `deadline` (loop time).
        `purpose` names the egress rule. Raise `ConnectError` and its subclasses."""
        try:
            addresses = await self._resolver.resolve(origin, purpose)
        except OSError as error:
            raise ConnectError(f"Cannot resolve {origin.host}: {error}") from error
        failure: Exception | None = None
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                async with asyncio.timeout(_share(deadline, left)):
                    return await self._connect(origin, address, create)
            except ssl.SSLError as error:
                raise TlsError(f"No TLS with {origin}: {error}") from error
            except OSError as error:
                failure = drop_trace(error)
        kind = (
            PoolExhaustedError if getattr(failure, "errno", None) in OWN_SHORTAGE else ConnectError
        )
        raise kind(f"Cannot connect to {origin}: {failure}") from failure

    async def _connect(
        self, origin: Origin, address: str, create: Callable[[], UpstreamConnection]
    ) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        secure = origin.scheme == "https"
        transport, connection = await loop.create_connection(
            create,
            host=address,
            port=origin.port,
            ssl=self._tls if secure else None,
            server_hostname=origin.host if secure else None,
        )
        held = transport.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        return connection
