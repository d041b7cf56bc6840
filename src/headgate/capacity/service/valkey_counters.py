"""Count windows for several processes in Valkey (or Redis), each call in one atomic step.

The script looks at all windows of a call before it counts in any. Where Valkey cannot be reached,
the process counts by itself and hands over what it counted as soon as that is possible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec

from headgate.capacity.model.windows import CapacityWindow, WindowKey
from headgate.capacity.service.shared import LimitCheck, SharedTake
from headgate.capacity.service.valkey_client import FAILURES, PREFIX, ValkeyConnection
from headgate.kit.clock import Clock

GRACE_SECONDS = 120.0
"""How long a window is kept beyond its end, for calls that end later."""
PUSHED_AT_ONCE = 500
NO_LIMIT = -1

TAKE = """
local totals, refused, needed = {}, 0, math.max(1, tonumber(ARGV[1]))
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 5 + 1
  local found = redis.call('HMGET', key, 'r', 't')
  if not found[1] then
    found = {ARGV[at + 3], ARGV[at + 4]}
    redis.call('HSET', key, 'r', found[1], 't', found[2])
    if ARGV[at + 5] ~= '0' then redis.call('PEXPIREAT', key, ARGV[at + 5]) end
  end
  local r, t = tonumber(found[1]), tonumber(found[2] or '0')
  local requests_max, tokens_max = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  if refused == 0 and ((requests_max >= 0 and r + 1 > requests_max)
      or (tokens_max >= 0 and t + needed > tokens_max)) then
    refused = i
  end
  totals[i] = {r, t}
end
local answer = {refused}
for i, key in ipairs(KEYS) do
  if refused == 0 then
    totals[i][1] = redis.call('HINCRBY', key, 'r', 1)
    totals[i][2] = redis.call('HINCRBY', key, 't', ARGV[1])
  end
  answer[#answer + 1] = totals[i][1]
  answer[#answer + 1] = totals[i][2]
end
return answer
"""
"""Count one request with ARGV[1] tokens in every window, or in none. For each window: its limits of
requests and tokens (-1: none), the counts to begin with, and when it is forgotten (in milliseconds,
0: never). Return the position of the window that refused, or 0, and all counts."""

PUSH = """
local answer = {}
for i, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then
    answer[#answer + 1] = redis.call('HINCRBY', key, 'r', ARGV[2 * i - 1])
    answer[#answer + 1] = redis.call('HINCRBY', key, 't', ARGV[2 * i])
  else
    answer[#answer + 1] = false
    answer[#answer + 1] = false
  end
end
return answer
"""
"""Add to windows that exist. One that was lost begins anew with all that a process knows of it."""


class ValkeyCounters:
    """Count for all processes (`service.shared.SharedCounters`)."""

    def __init__(self, connection: ValkeyConnection, clock: Clock) -> None:
        self._connection = connection
        self._take: Any = connection.client.register_script(TAKE)
        self._push: Any = connection.client.register_script(PUSH)
        self._clock = clock
        self._pending: dict[WindowKey, tuple[CapacityWindow, int, int]] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def is_available(self) -> bool:
        return self._connection.is_available

    async def take(self, checks: Sequence[LimitCheck], tokens: int) -> SharedTake | None:
        """Count one request in all windows or in none; None where Valkey could not be reached."""
        keys = [name_key(check.window.key) for check in checks]
        arguments: list[int] = [tokens]
        for check in checks:
            arguments += _list_arguments(check)
        try:
            answer = cast("list[int]", await self._take(keys=keys, args=arguments))
        except FAILURES as error:
            self._connection.note_failure(error)
            return None
        totals = [
            (check.window.key, (answer[1 + 2 * at], answer[2 + 2 * at]))
            for at, check in enumerate(checks)
        ]
        return SharedTake(totals, answer[0] - 1 if answer[0] else None)

    def push(self, windows: Iterable[CapacityWindow], requests: int, tokens: int) -> None:
        """Add to windows, soon. What cannot be sent is kept while the windows are open."""
        for window in windows:
            _, before_requests, before_tokens = self._pending.get(window.key, (window, 0, 0))
            self._pending[window.key] = window, before_requests + requests, before_tokens + tokens
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self.flush())

    async def flush(self) -> None:
        """Send what is pending; keep it where Valkey cannot be reached."""
        # Calls that end in the same turn of the event loop are sent together.
        await asyncio.sleep(0)
        while self._pending and self.is_available:
            batch = [self._pending.pop(key) for key in list(self._pending)[:PUSHED_AT_ONCE]]
            keys = [name_key(window.key) for window, _, _ in batch]
            arguments = [count for _, requests, tokens in batch for count in (requests, tokens)]
            try:
                await self._push(keys=keys, args=arguments)
            except FAILURES as error:
                self._connection.note_failure(error)
                self._keep(batch)
                return

    async def close(self) -> None:
        """Send what is pending."""
        if self._task is not None:
            await self._task
        await self.flush()

    def _keep(self, batch: Iterable[tuple[CapacityWindow, int, int]]) -> None:
        now = self._clock.now()
        for window, requests, tokens in batch:
            if window.has_ended(now):
                continue
            _, later_requests, later_tokens = self._pending.get(window.key, (window, 0, 0))
            self._pending[window.key] = window, requests + later_requests, tokens + later_tokens


def name_key(key: WindowKey) -> str:
    """Return the name of a window in Valkey. As JSON, since callers choose some of its parts."""
    return PREFIX + msgspec.json.encode(msgspec.structs.astuple(key)).decode()


def _list_arguments(check: LimitCheck) -> list[int]:
    window, counted = check.window, check.counted
    expires_at = 0 if window.ends_at is None else int((window.ends_at + GRACE_SECONDS) * 1000)
    return [
        NO_LIMIT if counted.requests is None else counted.requests,
        NO_LIMIT if counted.tokens is None else counted.tokens,
        max(0, window.requests),
        max(0, window.tokens),
        expires_at,
    ]
