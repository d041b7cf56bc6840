"""Share priority pools among several processes in Valkey (or Redis).

The shares of a project's pools are one value. A process reads it, decides, and replaces it only if
nobody else did meanwhile. In one process, the calls of the same pools wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from redis.asyncio import Redis

from headgate.capacity.model.pools import MINUTE_SECONDS, PoolAllocator, PoolRefusal
from headgate.capacity.service.shared import PoolChange
from headgate.capacity.service.valkey_client import FAILURES, PREFIX

TRIES_MAX = 50
"""How often a change is repeated that other processes were faster than."""
POOLS_MAX = 10_000
KEPT_SECONDS = 5 * MINUTE_SECONDS
REPLACE = """
local found = redis.call('GET', KEYS[1])
if (found or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class Connection(Protocol):
    """Tell whether Valkey can be asked, and note that it could not be reached."""

    @property
    def is_available(self) -> bool: ...

    def note_failure(self, error: Exception) -> None: ...


class _Pools:
    """Hold the pools of one project and credential in this process. `pending` are tokens that
    Valkey does not have, by pool and second."""

    def __init__(self, allocator: PoolAllocator) -> None:
        self.allocator = allocator
        self.lock = asyncio.Lock()
        self.pending: dict[tuple[int, int], int] = {}


class ValkeyPools:
    """Keep the shares of priority pools for all processes (`service.shared.SharedPools`)."""

    def __init__(self, client: Redis, connection: Connection) -> None:
        self._client = client
        self._replace: Any = client.register_script(REPLACE)
        self._connection = connection
        self._pools: dict[str, _Pools] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def is_available(self) -> bool:
        return self._connection.is_available

    async def change_pool(
        self,
        name: str,
        allocator: PoolAllocator,
        change: Callable[[PoolAllocator], PoolRefusal | None],
    ) -> PoolChange:
        """Change pools, alone of all processes; `reached` is False where that was not possible."""
        pools = self._find(name, allocator)
        async with pools.lock:
            try:
                for _ in range(TRIES_MAX):
                    changed = await self._try(name, pools, change)
                    if changed is not None:
                        return changed
            except FAILURES as error:
                self._connection.note_failure(error)
        return PoolChange(reached=False)

    def push_pool(
        self, name: str, allocator: PoolAllocator, index: int, tokens: int, at: float
    ) -> None:
        """Add tokens that a pool used, soon. What is older than a minute is not sent."""
        pools = self._find(name, allocator)
        place = index, int(at)
        pools.pending[place] = pools.pending.get(place, 0) + tokens
        oldest = int(at) - 2 * MINUTE_SECONDS
        if min(second for _, second in pools.pending) < oldest:
            pools.pending = {k: each for k, each in pools.pending.items() if k[1] >= oldest}
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self.flush())

    async def flush(self) -> None:
        """Send what is pending; keep it where Valkey cannot be reached."""
        # Calls that end in the same turn of the event loop are sent together.
        await asyncio.sleep(0)
        for name, pools in list(self._pools.items()):
            if pools.pending and self.is_available:
                await self.change_pool(name, pools.allocator, lambda _allocator: None)

    async def close(self) -> None:
        """Send what is pending."""
        if self._task is not None:
            await self._task
        await self.flush()

    async def _try(
        self, name: str, pools: _Pools, change: Callable[[PoolAllocator], PoolRefusal | None]
    ) -> PoolChange | None:
        """Change pools once; None where another process was faster."""
        key, allocator = f"{PREFIX}pools:{name}", pools.allocator
        before: Any = await self._client.get(key) or b""
        sent = dict(pools.pending)
        # What was lost begins anew with what this process knows, which has all that is pending.
        if before:
            allocator.load(before)
            for (index, second), tokens in sent.items():
                allocator.add(index, tokens, second)
        refusal = change(allocator)
        arguments = [before, allocator.dump(), KEPT_SECONDS]
        if not await self._replace(keys=[key], args=arguments):
            return None
        for place, tokens in sent.items():
            rest = pools.pending.get(place, 0) - tokens
            if rest:
                pools.pending[place] = rest
            else:
                pools.pending.pop(place, None)
        return PoolChange(reached=True, refusal=refusal)

    def _find(self, name: str, allocator: PoolAllocator) -> _Pools:
        pools = self._pools.get(name)
        if pools is None or pools.allocator is not allocator:
            if len(self._pools) >= POOLS_MAX:
                self._pools = {k: each for k, each in self._pools.items() if each.lock.locked()}
            pools = self._pools[name] = _Pools(allocator)
        return pools
