"""Cancel the calls that run on a key which was revoked, disabled or has expired."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

import structlog

from headgate.gateway.exchange import InboundExchange
from headgate.gateway.openai import OpenAiHandler
from headgate.gateway.protocol import EdgeProtocol

PERIOD_SECONDS = 0.5

log = structlog.get_logger(__name__)


async def watch_keys(
    take_deactivated: Callable[[], frozenset[str]],
    handler: OpenAiHandler,
    connections: Collection[Any],
    exchanges: Collection[InboundExchange] = (),
) -> None:
    """Cancel the calls of the keys that `take_deactivated` returns, until cancelled itself.
    Connections are looked at only when a key was revoked, so a call costs nothing for it.
    `exchanges` are the calls without a connection that run now."""
    before: frozenset[str] = frozenset()
    while True:
        await asyncio.sleep(PERIOD_SECONDS)
        revoked = take_deactivated()
        # Each key is looked for twice: a call that was only beginning at the first look has
        # nothing to cancel yet.
        keys, before = revoked | before, revoked
        if keys:
            running = [each.answering for each in connections if isinstance(each, EdgeProtocol)]
            running += exchanges
            cancelled = sum(handler.cancel(each, keys) for each in running if each is not None)
            log.info("keys.revoked", keys=len(revoked), calls_cancelled=cancelled)
