"""A provider that only fails, behind the official SDK with its own retries.

`python -m rigs.retries [SECONDS [CALLS_PER_SECOND]]`: 60 s at 100 calls a second, once with the
breaker and once without it, so that the retry budget is seen alone. Prints how many attempts
reached the provider, and fails if they exceed the budget, if a client is not told to stop
retrying, or if a tenth of a second holds a fifth of the retries.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream

RATIO_MAX = 1.2
FLOOR_PER_SECOND = 10.0
BIN_SECONDS = 0.1
BIN_SHARE_MAX = 0.2
IN_FLIGHT_MAX = 256
"""A machine that cannot keep the pace makes fewer calls a second instead of calls that fail."""
PATIENCE_SECONDS = 120.0
RETRIES_TO_JUDGE = 100
"""Fewer retries say nothing about their spread."""


@dataclass
class RetryStorm:
    """Hold the calls, their errors, and when the provider saw each attempt."""

    calls: int = 0
    seconds: float = 0.0
    refusals: Counter[tuple[int, str]] = field(default_factory=Counter[tuple[int, str]])
    """Status and `x-should-retry` of the errors that the SDK raised."""
    seen: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """The times at which each call reached the provider."""

    @property
    def attempts(self) -> int:
        """Count the attempts that reached the provider."""
        return sum(len(times) for times in self.seen.values())

    @property
    def waits(self) -> list[float]:
        """Return the seconds between two attempts of one call."""
        return [
            later - sooner
            for times in self.seen.values()
            for sooner, later in itertools.pairwise(times)
        ]

    @property
    def fullest_bin_share(self) -> float:
        """Return the largest share of the retries that waited for the same tenth of a second."""
        bins = Counter(int(wait / BIN_SECONDS) for wait in self.waits)
        return max(bins.values(), default=0) / max(1, len(self.waits))

    def describe(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "seconds": round(self.seconds, 1),
            "attempts": self.attempts,
            "attempts_per_call": round(self.attempts / self.calls, 3),
            "retries": len(self.waits),
            "fullest_100_ms": round(self.fullest_bin_share, 3),
            "refusals": {
                f"{status}, retry: {word}": n for (status, word), n in self.refusals.items()
            },
        }


class UnavailableProvider:
    """Refuse every call, and record which and when."""

    def __init__(self, storm: RetryStorm) -> None:
        self.storm = storm

    def __call__(self, received: ReceivedRequest) -> None:
        self.storm.seen.setdefault(received.json["user"], []).append(time.monotonic())
        received.answer(b'{"error":{"message":"down"}}', status=503)


async def make_calls(
    gateway: Gateway, upstream: FakeUpstream, *, calls: int, per_second: float
) -> RetryStorm:
    """Make so many calls with the official SDK, evenly spread, while the provider is down."""
    storm = RetryStorm(calls)
    upstream.script = UnavailableProvider(storm)
    started = time.monotonic()

    in_flight = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def call(client: openai.AsyncOpenAI, number: int) -> None:
        await asyncio.sleep(started + number / per_second - time.monotonic())
        try:
            async with in_flight:
                await client.chat.completions.create(
                    model="gpt-5.4-mini", messages=[], user=f"call {number}"
                )
        except openai.APIStatusError as error:
            word = error.response.headers.get("x-should-retry", "(none)")
            storm.refusals[error.status_code, word] += 1

    async with (
        openai.AsyncOpenAI(
            api_key=gateway.key, base_url=gateway.base_url, timeout=PATIENCE_SECONDS
        ) as client,
        asyncio.TaskGroup() as group,
    ):
        for number in range(calls):
            group.create_task(call(client, number))
    storm.seconds = time.monotonic() - started
    return storm


def attempts_max(storm: RetryStorm, floor_per_second: float) -> float:
    """Return the most attempts allowed: a fifth more than the calls, or the floor if larger."""
    retries = (RATIO_MAX - 1) * storm.calls
    return storm.calls + max(retries, floor_per_second * storm.seconds) + floor_per_second


def run(folder: Path, calls: int, per_second: float, **settings: Any) -> RetryStorm:
    """Run one storm at a gateway of its own."""
    with (
        running_upstream() as upstream,
        running_gateway(
            folder / "data", provider_url=upstream.base_url, access_log="false", **settings
        ) as gateway,
    ):
        return asyncio.run(make_calls(gateway, upstream, calls=calls, per_second=per_second))


def main(seconds: float = 60.0, per_second: float = 100.0) -> int:
    """Run the rig; return 0 if all bars are met."""
    good = True
    for name, failures in (("with the breaker", 5), ("budget alone", 0)):
        with tempfile.TemporaryDirectory() as folder:
            calls = int(seconds * per_second)
            storm = run(Path(folder), calls, per_second, breaker_failures=failures)
        print(name, json.dumps(storm.describe(), indent=2))
        good &= storm.attempts <= attempts_max(storm, FLOOR_PER_SECOND)
        good &= storm.refusals == {(503, "false"): calls}
        good &= len(storm.waits) < RETRIES_TO_JUDGE or storm.fullest_bin_share <= BIN_SHARE_MAX
    print("met" if good else "MISSED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:])))
