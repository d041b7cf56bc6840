"""Anthropic's Messages, converted, against the native Responses that they become.

Both are calls to the same Headgate with the same upstream, in interleaved rounds.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench import figures, machine, measure, subjects, traffic

RATIO_MIN = 0.5
"""The least share of the rate of native calls that converted ones keep."""
CONNECTIONS = 32
WARMUP_SECONDS = 0.3
MARKER = "bench-responses "


@dataclass(frozen=True)
class Api:
    """Describe how one of the two APIs is asked, and what its answer has in it."""

    name: str
    path: str
    limit: str
    answer: str
    stream_end: str


RESPONSES = Api("responses", "/v1/responses", "max_output_tokens", "output_tokens", ".completed")
MESSAGES = Api("messages", "/v1/messages", "max_tokens", "output_tokens", "message_stop")


@dataclass(frozen=True)
class Comparison:
    """Hold the rates of both APIs in calls per second, and the median of their ratios."""

    kind: str
    native: float
    converted: float
    ratio: float
    errors: int


def render_request(api: Api, address: traffic.Address, *, streams: bool) -> bytes:
    """Return the whole HTTP request; its body has 592 bytes or a few more."""
    text = MARKER + traffic.PROMPT * 6
    fields: dict[str, Any] = {"model": address.model, api.limit: 256}
    message = {"role": "user", "content": text}
    if api is MESSAGES:
        fields |= {"system": "Answer in one sentence.", "messages": [message]}
    else:
        fields |= {"instructions": "Answer in one sentence.", "input": [message], "store": False}
    if streams:
        fields["stream"] = True
    body = json.dumps(fields, separators=(",", ":")).encode()
    head = (
        f"POST {api.path} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{address.port}\r\n"
        "Accept: application/json\r\n"
        "User-Agent: headgate-bench/1\r\n"
        f"Authorization: Bearer {address.key}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def compare(
    harness: measure.BenchHarness,
    site: subjects.Site,
    plan: measure.Plan,
    say: Callable[[str], None],
) -> list[Comparison]:
    """Measure whole answers and streams."""
    subject = subjects.START[figures.HEADGATE](site)
    assert subject.process
    try:
        return [_compare(harness, subject, plan, say, streams=streams) for streams in (False, True)]
    finally:
        subject.process.stop()


def _compare(
    harness: measure.BenchHarness,
    subject: subjects.Subject,
    plan: measure.Plan,
    say: Callable[[str], None],
    *,
    streams: bool,
) -> Comparison:
    kind = "streams of 66 events" if streams else "whole answers"
    windows: dict[str, list[figures.Window]] = {RESPONSES.name: [], MESSAGES.name: []}
    for number in range(1, plan.rounds + 1):
        for api in (RESPONSES, MESSAGES):
            say(f"{kind}, round {number} of {plan.rounds}: {api.name}")
            window = _run(harness, subject, api, plan.scale, streams=streams)
            windows[api.name].append(window)
    rates = {name: statistics.median([w.rate for w in each]) for name, each in windows.items()}
    ratio = figures.ratio(windows, MESSAGES.name, RESPONSES.name, lambda window: window.rate)
    errors = sum(window.errors for each in windows.values() for window in each)
    return Comparison(kind, rates[RESPONSES.name], rates[MESSAGES.name], ratio or 0.0, errors)


def _run(
    harness: measure.BenchHarness,
    subject: subjects.Subject,
    api: Api,
    scale: float,
    *,
    streams: bool,
) -> figures.Window:
    request = harness.folder / f"request-{api.name}"
    request.write_bytes(render_request(api, subject.address, streams=streams))
    contains = api.stream_end if streams else api.answer
    command = harness.load_command(subject, request, CONNECTIONS)
    command += ["--contains", contains, "--seconds", str(scale), "--warmup", str(WARMUP_SECONDS)]
    return harness.run(subject, command)


def present(comparisons: list[Comparison]) -> int:
    """Print the figures; return 0 if the bar is met, 1 if it is missed or a call failed."""
    for each in comparisons:
        verdict = "ok" if each.ratio >= RATIO_MIN and not each.errors else "MISS"
        print(
            f"{each.kind}: native {each.native:.0f}/s, converted {each.converted:.0f}/s, "
            f"ratio {each.ratio:.2f} (at least {RATIO_MIN}), errors {each.errors}: {verdict}"
        )
    missed = any(each.ratio < RATIO_MIN or each.errors for each in comparisons)
    print(" ".join(f"{key}={value!r}" for key, value in machine.describe().items()))
    return int(missed)
