"""The edge as a whole: one connection, any bytes, cut anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from headgate.gateway.limits import EdgeLimits
from rigs.fuzz.checks.chunks import cut_in_many_ways, split_first_byte
from tests.fakes.edge_connection import EchoHandler, EdgeConnection, Seen

LIMITS = EdgeLimits(header_bytes_max=1024, header_count_max=10, target_bytes_max=256)


def check_edge(data: bytes) -> None:
    """Check that no exception escapes, and no cut makes other requests of the same bytes.

    Input that follows a request in progress may be cut off earlier or later. So the requests of one
    cut must be a prefix of the requests of the other.
    """
    order, stream = split_first_byte(data)
    whole = converse([stream])
    for chunks in cut_in_many_ways(order, stream):
        seen = converse(chunks)
        shared = min(len(seen), len(whole))
        assert seen[:shared] == whole[:shared]


def converse(chunks: Iterable[bytes]) -> list[Seen]:
    """Return the requests that the handler saw."""
    return _RUNNER.run(_converse(chunks))


async def _converse(chunks: Iterable[bytes]) -> list[Seen]:
    handler = EchoHandler()
    connection = EdgeConnection(handler, LIMITS)
    for chunk in chunks:
        await connection.send(chunk)
    await connection.close()
    return handler.seen


_RUNNER = asyncio.Runner()
