"""Has the system ask whether the peer of a connection is still there."""

from __future__ import annotations

import asyncio
import socket

IDLE_SECONDS = 15
OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), IDLE_SECONDS)
        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL")
        if hasattr(socket, name)
    ),
)


def probe_peer(transport: asyncio.BaseTransport) -> None:
    """Turn the probes of TCP on; a peer that refuses them ends the connection."""
    connected = transport.get_extra_info("socket")
    if connected is not None:
        for level, option, value in OPTIONS:
            connected.setsockopt(level, option, value)
