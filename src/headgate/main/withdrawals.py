"""Cuts the calls that run on a key when the key is revoked (A7)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import structlog

from headgate.gateway.openai import OpenAiHandler
from headgate.gateway.protocol import EdgeProtocol
from headgate.keys.service import KeyIndex

PERIOD_SECONDS = 0.5

log = structlog.get_logger(__name__)


async def watch(key_index: KeyIndex, handler: OpenAiHandler, connections: Collection[Any]) -> None:
    """Until cancelled. Looks at connections only when a key was revoked, so that a call costs
    nothing for it."""
    before: frozenset[str] = frozenset()
    while True:
        await asyncio.sleep(PERIOD_SECONDS)
        deactivated = key_index.take_deactivated()
        # Twice, for those that had only begun: what is not sent yet cannot be cut.
        keys, before = deactivated | before, deactivated
        if keys:
            running = [each.answering for each in connections if isinstance(each, EdgeProtocol)]
            cut = sum(handler.cancel(each, keys) for each in running if each is not None)
            log.info("keys.deactivated", keys=len(deactivated), calls_cut=cut)
