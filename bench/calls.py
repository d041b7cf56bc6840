"""`python -m bench.calls`: how many Python and C calls one model call takes, held to a budget.

Calls are counted, not timed: the figures are the same on a busy machine, with every hash seed, and
in every run. Counted is what the loop's thread does between the client's first byte and the end of
the answer, one call after the other. The writer's thread commits to a database of its own
meanwhile, and is not counted; nor is what timers do.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import BuiltinMethodType, CodeType, FrameType
from typing import Any

from bench import in_process, traffic
from bench.in_process import Gateway, Turn

Profile = Counter[str]
"""The calls of each function, by its file and name."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
RECORDS = Path(__file__).parent.parent / "tests" / "golden" / "calls" / PYTHON
"""One file per scenario, one line per function. Other Python versions make other calls."""
MARGIN = 0.05
"""The growth that a scenario may have before it must be recorded again."""
WARMUP = 4
SAMPLES = 5
"""If they differ, the median counts."""
SMALL_BYTES = 1_023
"""The size of a usual answer."""
EVENTS = 12
BURST = 7
RECEIPTS = 32
"""Receipts that are observed at once."""
NOT_COUNTED = frozenset({__file__, in_process.__file__})


class Counting:
    """Count the calls of this thread while it is entered."""

    def __init__(self) -> None:
        self.profile: Profile = Counter()

    def __enter__(self) -> Profile:
        sys.setprofile(self._note)
        return self.profile

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, called: Any) -> None:
        code = frame.f_code
        if event == "call":
            if code.co_filename not in NOT_COUNTED:
                self.profile[_name_function(code)] += 1
            elif code in in_process.TRANSPORT_CALLS:
                self.profile[in_process.TRANSPORT_CALLS[code]] += 1
        elif event == "c_call" and code.co_filename not in NOT_COUNTED:
            self.profile[_name_builtin(called)] += 1


def _name_function(code: CodeType) -> str:
    path = Path(code.co_filename)
    for root in ("src", "site-packages"):
        if root in path.parts:
            path = Path(*path.parts[path.parts.index(root) + 1 :])
    return f"{path if not path.is_absolute() else path.name}:{code.co_qualname}"


def _name_builtin(called: BuiltinMethodType) -> str:
    module = getattr(called, "__module__", None)
    return f"{module}.{called.__qualname__}" if module else called.__qualname__


def make_answer(size: int) -> bytes:
    """Return a whole answer to a chat completion, as a provider sends it."""
    text = "x" * max(1, size - 330)
    body = (
        b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,'
        b'"model":"gpt-5.4-mini-2026-03-17","choices":[{"index":0,"message":{"role":"assistant",'
        b'"content":"%b","refusal":null},"logprobs":null,"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":90,"completion_tokens":40,"total_tokens":130},'
        b'"service_tier":"default"}' % text.encode()
    )
    return b"%bcontent-length: %d\r\n\r\n%b" % (ANSWER_HEAD, len(body), body)


ANSWER_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"date: Thu, 26 Nov 2026 12:00:00 GMT\r\n"
    b"content-type: application/json\r\n"
    b"access-control-expose-headers: X-Request-ID\r\n"
    b"openai-organization: bench\r\n"
    b"openai-processing-ms: 7\r\n"
    b"openai-version: 2020-10-01\r\n"
    b"x-request-id: req_bench\r\n"
    b"x-ratelimit-limit-requests: 10000\r\n"
    b"x-ratelimit-limit-tokens: 2000000\r\n"
    b"x-ratelimit-remaining-requests: 9999\r\n"
    b"x-ratelimit-remaining-tokens: 1999000\r\n"
)
STREAM_HEAD = b"%btransfer-encoding: chunked\r\n\r\n" % ANSWER_HEAD.replace(
    b"application/json", b"text/event-stream; charset=utf-8"
)


def make_event(number: int) -> bytes:
    """Return a chunk of the transfer coding with one event in it."""
    event = (
        b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
        b'"model":"gpt-5.4-mini-2026-03-17","service_tier":"default","system_fingerprint":"fp_1",'
        b'"choices":[{"index":0,"delta":{"content":" word%d"},"logprobs":null,'
        b'"finish_reason":null}],"usage":null,"obfuscation":"abcdefghij"}\n\n' % number
    )
    return encode_chunk(event)


def encode_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_END = encode_chunk(
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"gpt-5.4-mini-2026-03-17","service_tier":"default","choices":[],'
    b'"usage":{"prompt_tokens":90,"completion_tokens":40,"total_tokens":130}}\n\n'
) + encode_chunk(b"data: [DONE]\n\n")


class Scenarios:
    """Run the scenarios that are counted, each on a gateway that is warm."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._address = traffic.Address(80, key=gateway.key)
        self._stream = traffic.render_request(traffic.STREAM, self._address)
        self._small = traffic.render_request(traffic.SMALL, self._address)
        managed = replace(self._address, credential=in_process.MANAGED)
        self._managed = traffic.render_request(traffic.SMALL, managed)

    async def count_all(self) -> dict[str, Profile]:
        large = traffic.render_request(traffic.LARGE, self._address)
        counted: dict[str, Profile] = {
            "small": await self._repeat(lambda: self._count_call(self._small)),
            "large": await self._repeat(lambda: self._count_call(large, traffic.LARGE_BYTES)),
            "managed": await self._repeat(lambda: self._count_call(self._managed)),
            "stream": await self._repeat(self._count_stream),
            "event": await self._repeat(lambda: self._count_events(1)),
            "burst": await self._repeat(lambda: self._count_events(BURST)),
            "observers": self._count_observers(),
        }
        return counted

    async def _repeat(self, count: Callable[[], Awaitable[Profile]]) -> Profile:
        profiles = [await count() for _ in range(WARMUP + SAMPLES)][WARMUP:]
        middle = statistics.median_low([profile.total() for profile in profiles])
        return next(profile for profile in profiles if profile.total() == middle)

    async def _count_call(self, request: bytes, answer_bytes: int = SMALL_BYTES) -> Profile:
        gateway, answer = self._gateway, make_answer(answer_bytes)
        with Counting() as profile:
            gateway.send(request)
            await gateway.provider.transport.take()
            gateway.provider.send(answer)
            answered = await gateway.client.take()
            await gateway.settle()
        check(answered.endswith(answer.partition(b"\r\n\r\n")[2]), answered)
        return profile

    async def _count_stream(self) -> Profile:
        """Count all of a stream except its content events."""
        gateway = self._gateway
        with Counting() as profile:
            await self._open_stream()
            answered = await self._end_stream()
        check(answered.endswith(b"0\r\n\r\n"), answered)
        await gateway.settle()
        return profile

    async def _count_events(self, together: int) -> Profile:
        """Count one read of the provider's socket that brings so many events."""
        gateway, profiles = self._gateway, list[Profile]()
        await self._open_stream()
        for number in range(EVENTS):
            read = make_event(number) * together
            with Counting() as profile:
                gateway.provider.send(read)
                await Turn()
                await Turn()
            check((await gateway.client.take()).count(b"data: ") == together, read)
            profiles.append(profile)
        await self._end_stream()
        await gateway.settle()
        middle = statistics.median_low([profile.total() for profile in profiles])
        return next(profile for profile in profiles if profile.total() == middle)

    def _count_observers(self) -> Profile:
        """Count the observation of several receipts together."""
        receipts = self._gateway.read_receipts(RECEIPTS)
        settlements = [700] * len(receipts)
        with Counting() as profile:
            self._gateway.metrics.observe(receipts, settlements)
        return profile

    async def _open_stream(self) -> None:
        gateway = self._gateway
        gateway.send(self._stream)
        await gateway.provider.transport.take()
        gateway.provider.send(STREAM_HEAD)
        await gateway.client.take()

    async def _end_stream(self) -> bytes:
        gateway = self._gateway
        gateway.provider.send(STREAM_END)
        gateway.provider.send(b"0\r\n\r\n")
        return await gateway.client.take(lambda written: written.endswith(b"\r\n0\r\n\r\n"))


def check(is_right: bool, seen: bytes) -> None:
    """Raise unless the gateway answers as expected: anything else is not worth measuring."""
    if not is_right:
        raise AssertionError(f"the gateway answered {seen[-600:]!r}")


def count() -> dict[str, Profile]:
    """Return the profile of every scenario."""

    async def run(data: Path) -> dict[str, Profile]:
        async with in_process.running_gateway(data) as gateway:
            return await Scenarios(gateway).count_all()

    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=in_process.TimelessLoop) as runner,
    ):
        return runner.run(run(Path(folder)))


def read_record(scenario: str) -> Profile:
    """Return what was recorded of a scenario; empty for a new one."""
    path = RECORDS / f"{scenario}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = [line.split(maxsplit=1) for line in lines]
    return Counter({name: int(number) for number, name in pairs})


def write_record(scenario: str, profile: Profile) -> None:
    RECORDS.mkdir(parents=True, exist_ok=True)
    lines = [f"{number} {name}\n" for name, number in sorted(profile.items())]
    (RECORDS / f"{scenario}.txt").write_text("".join(lines))


def describe_growth(scenario: str, recorded: Profile, counted: Profile) -> str:
    """Return one line of sums, then each function called more or less often than recorded."""
    changes = {
        name: counted[name] - recorded[name]
        for name in sorted(recorded | counted)
        if counted[name] != recorded[name]
    }
    lines = [f"{scenario}: {counted.total()} calls, {recorded.total()} are recorded"]
    lines += [f"  {change:+} {name}" for name, change in sorted(changes.items(), key=_by_change)]
    return "\n".join(lines)


def _by_change(change: tuple[str, int]) -> tuple[int, str]:
    return -change[1], change[0]


def is_within_budget(recorded: Profile, counted: Profile) -> bool:
    return counted.total() <= recorded.total() * (1 + MARGIN)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 within the budget, 1 beyond it."""
    parser = argparse.ArgumentParser(prog="bench.calls", description=__doc__)
    parser.add_argument(
        "--record", action="store_true", help="record the current figures as the budget"
    )
    options = parser.parse_args(arguments)
    counted = count()
    fits = True
    for scenario, profile in counted.items():
        recorded = read_record(scenario)
        fits = fits and is_within_budget(recorded, profile)
        print(describe_growth(scenario, recorded, profile))
        if options.record:
            write_record(scenario, profile)
    return 0 if fits or options.record else 1


if __name__ == "__main__":
    sys.exit(main())
