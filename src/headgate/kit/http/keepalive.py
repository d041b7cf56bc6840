"""Turn on TCP keep-alive, by which the system finds out whether the peer is still there."""

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


def enable_keepalive(transport: asyncio.BaseTransport) -> None:
    """Turn TCP keep-alive probes on; `is_peer_gone` tells when they failed."""
    connected = transport.get_extra_info("socket")
    if connected is not None:
        for level, option, value in OPTIONS:
            connected.setsockopt(level, option, value)


def is_peer_gone(transport: asyncio.BaseTransport) -> bool:
    """Return whether the system has given the connection up. A loop that has stopped reading does
    not notice by itself."""
    connected = transport.get_extra_info("socket")
    return connected is not None and bool(connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
