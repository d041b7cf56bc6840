"""K3: clients that repeat each call with one idempotency key, across kills of the gateway."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping

from rigs.torture.attempts import Attempt, Outcome, send
from rigs.torture.harness import Result, TortureHarness, running_harness
from rigs.torture.oracle import Answer, Finding, Read, check_after_crash, opened
from rigs.torture.spending import Report

AGAIN = (0, 408, 409, 429, 500, 502, 503, 504)
"""What a client repeats a call for, as the SDKs do; 0 is a connection that died."""
ANSWERED_SECONDS = 60.0
"""How long a key may wait for its answer while the gateway can be connected to."""
UNKNOWN = "idempotency_outcome_unknown"
CALLS_MAX = 2


class Repetitions:
    """Hold what each key was answered: the same thing each time, or that nobody knows."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.bodies: dict[str, bytes] = {}
        self.unknown: set[str] = set()
        self.in_flight: set[str] = set()
        self.findings: list[Finding] = []
        self.tries = 0

    def add(self, outcome: Outcome) -> bool:
        """Note an outcome; return whether the client is done with its key."""
        tag = outcome.attempt.tag
        if outcome.answer is not None:
            if self.bodies.setdefault(tag, outcome.body) != outcome.body:
                self.findings.append(Finding("R2", f"{tag} has two answers"))
            self.answers.append(outcome.answer)
            return True
        if outcome.status not in (*AGAIN, 200):
            self.findings.append(Finding("L1", f"{tag}: {outcome.status} {outcome.body!r}"))
            return True
        if outcome.status == 409 and outcome.error.get("code") == UNKNOWN:
            self.unknown.add(tag)
            return True
        return False


async def repeat_across_kills(
    *, keys: int, workers: int, seed: int, report: Report, wait_seconds: tuple[float, float]
) -> Result:
    """Run K3. `n` counts the keys."""
    draw, done, kills = random.Random(seed), Repetitions(), 0
    cut = Counter[str]()
    findings = list[Finding]()
    with running_harness() as harness:
        tags = iter([f"key-{number:05}" for number in range(keys)])
        work = [
            asyncio.create_task(_work(harness, tags, done, random.Random(seed + number)))
            for number in range(workers)
        ]
        while not all(each.done() for each in work):
            await asyncio.wait(work, timeout=draw.uniform(*wait_seconds))
            if all(each.done() for each in work):
                break
            cut.update(done.in_flight)
            harness.gateway.kill()
            findings += await asyncio.to_thread(check_after_crash, harness.database)
            await asyncio.to_thread(harness.restart)
            kills += 1
            report(f"K3 kill {kills}: {len(done.bodies)} of {keys} keys are answered")
        await asyncio.gather(*work)
        findings += done.findings
        findings += await asyncio.to_thread(harness.stop_and_judge, done.answers)
        with opened(harness.database) as read:
            findings += judge_keys(read, harness.provider.tags, cut)
    twice = sum(count > 1 for count in Counter(harness.provider.tags.values()).values())
    figures = (
        f"{kills} kills, {done.tries} tries; {twice} keys called the provider twice, "
        f"{len(done.unknown)} ended unknown"
    )
    return Result("K3", "calls repeated across kills", keys, findings, figures)


async def _work(
    harness: TortureHarness, tags: Iterator[str], done: Repetitions, draw: random.Random
) -> None:
    for tag in tags:
        attempt = Attempt(
            credential=draw.choice(("managed", "own")),
            streamed=draw.random() < 0.5,
            tag=tag,
            pause_seconds=draw.uniform(0.0, 0.4),
        )
        # Once more after the answer: it must be the same.
        for _ in range(2):
            await _repeat(harness, attempt, done)


async def _repeat(harness: TortureHarness, attempt: Attempt, done: Repetitions) -> None:
    deadline, last = time.monotonic() + ANSWERED_SECONDS, "no connection"
    while time.monotonic() < deadline:
        began = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", harness.gateway.port)
        except OSError:
            # It is dead, or not yet ready. On a busy machine that takes most of the time, so it is
            # not counted.
            await asyncio.sleep(0.1)
            deadline += time.monotonic() - began
            continue
        done.in_flight.add(attempt.tag)
        done.tries += 1
        try:
            outcome = await send(reader, writer, attempt, harness.gateway.key)
        finally:
            done.in_flight.discard(attempt.tag)
            writer.close()
        if done.add(outcome):
            return
        last = f"{outcome.status} {outcome.body!r}"
        await asyncio.sleep(0.3)
    text = f"{attempt.tag} has no answer after {ANSWERED_SECONDS} s: {last}"
    done.findings.append(Finding("L1", text))


def judge_keys(read: Read, tags: Mapping[str, str], cut: Mapping[str, int]) -> list[Finding]:
    """Return the keys for which the provider was called too often, or that were billed twice.

    `tags` are the keys by the provider's answer ids; `cut` says how often a key was in flight when
    the gateway died.
    """
    found: list[Finding] = []
    for tag, calls in Counter(tags.values()).items():
        if calls > min(CALLS_MAX, 1 + cut.get(tag, 0)):
            found.append(Finding("R1", f"{tag}: {calls} calls, cut {cut.get(tag, 0)} times"))
    billed = Counter(
        tags.get(answer_id)
        for (answer_id,) in read("SELECT answer_id FROM receipts WHERE outcome = 'completed'")
    )
    found += [
        Finding("R2", f"{tag} is billed {count} times")
        for tag, count in billed.items()
        if count > 1
    ]
    return found
