"""S2, S3, S5 and S7: limits of different width, calls that fail, costs below and above the hold."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping

import msgspec

from rigs.torture.attempts import OUTPUT_TOKENS_MAX, Attempt, AttemptLog, Outcome, make_attempts
from rigs.torture.budgets import sum_spent
from rigs.torture.harness import Result
from rigs.torture.oracle import Finding
from rigs.torture.provider import INPUT_NANO, OUTPUT_NANO
from rigs.torture.servers import SERVERS, Servers, running_servers
from rigs.torture.spending import (
    LIMITS,
    REFUSED,
    Priced,
    Report,
    Size,
    calibrate,
    judge_exact,
    judge_refusals,
    set_limits,
)

FAILURES = ("status", "cut", "part")
SLACK_CALLS = 50
REST_SECONDS = 20.0
TOKENS_REPORTED = 20_000
"""What the provider of S7 reports: many times the input that a hold is for."""


async def spend_tightest(kind: str, *, size: Size, seed: int, report: Report) -> Result:
    """Run S2: four limits at once, of which the tightest is drawn. It alone refuses."""
    draw, findings, answers = random.Random(seed), list[Finding](), AttemptLog().answers
    with running_servers(kind) as servers:
        priced = await calibrate(servers)
        for number in range(size.repetitions):
            tightest = draw.choice(LIMITS)
            rooms = {
                name: (size.calls + (name != tightest) * draw.randint(1, SLACK_CALLS))
                * priced.cost_nano
                for name in LIMITS
            }
            key = await set_limits(servers, rooms)
            attempts = (Attempt(priced.usage) for _ in range(size.attempts))
            log = await make_attempts(servers.ports, key, attempts, workers=size.workers)
            findings += judge_exact(log, size, 0, f"repetition {number}, tightest {tightest}")
            findings += judge_refusals(log, (tightest,))
            answers += log.answers
            report(
                f"S2 {kind}, {tightest}, {number + 1}/{size.repetitions}: {len(log.answers)} of "
                f"{size.calls} calls, {len(findings)} findings"
            )
        findings += await asyncio.to_thread(servers.judge, answers)
        findings += await asyncio.to_thread(servers.stop_in_order)
    total = size.attempts * size.repetitions
    figures = f"{SERVERS[kind]} x {kind}, {size.repetitions} x {size.calls} of {size.attempts}"
    return Result("S2", "the tightest of four limits", total, findings, figures)


async def spend_with_failures(kind: str, *, size: Size, seed: int, report: Report) -> Result:
    """Run S3: costs of 0 to 100 % of the hold, of which three in ten fail. Afterwards nothing is
    held, and every limit lets through what it still covers."""
    draw, findings = random.Random(seed), list[Finding]()
    # Without a breaker: a provider that fails on demand is called again at once.
    with running_servers(kind, breaker_failures=0) as servers:
        priced = await calibrate(servers)
        rooms = {
            name: draw.randint(size.calls, 2 * size.calls) * priced.cost_nano for name in LIMITS
        }
        key = await set_limits(servers, rooms)
        log = await make_attempts(
            servers.ports, key, draw_attempts(draw, priced, size), workers=size.workers
        )
        findings += judge_refusals(log, LIMITS)
        findings += await come_to_rest(servers)
        report(f"S3 {kind}: {dict(log.statuses)}, {len(findings)} findings at rest")
        # What is left is spent by one call after the other: the first refusal must be right.
        rest = await _spend_rest(servers, key, priced)
        findings += judge_rest(rest, read_left(servers, rooms), priced)
        report(f"S3 {kind}: {len(rest.answers)} more, one by one, {len(findings)} findings")
        findings += await asyncio.to_thread(servers.judge, log.answers + rest.answers)
        findings += await asyncio.to_thread(servers.stop_in_order)
    figures = (
        f"{SERVERS[kind]} x {kind}; statuses {dict(sorted(log.statuses.items()))}; then "
        f"{len(rest.answers)} one by one"
    )
    return Result("S3", "costs below holds, 30 % failures", size.attempts, findings, figures)


async def refuse_nobody(kind: str, *, attempts: int, seed: int, report: Report) -> Result:
    """Run S5: one call after the other, up to 90 % of each limit, of which a fifth fails. None may
    be refused."""
    draw, findings = random.Random(seed), list[Finding]()
    # Without a breaker: a provider that fails on demand is called again at once.
    with running_servers(kind, breaker_failures=0) as servers:
        priced = await calibrate(servers)
        room_nano = attempts * priced.cost_nano * 10 // 9
        key = await set_limits(servers, dict.fromkeys(LIMITS, room_nano))
        calls = (
            Attempt(
                priced.usage,
                streamed=draw.random() < 0.5,
                fails=draw.choice(FAILURES) if draw.random() < 0.1 else "",
                gives_up=draw.random() < 0.1,
            )
            for _ in range(attempts)
        )
        log = await make_attempts(servers.ports[:1], key, calls, workers=1)
        findings += [
            Finding("L9", f"refused below 90 %: {each.error}") for each in _list_refused(log)
        ]
        findings += await come_to_rest(servers)
        findings += await asyncio.to_thread(servers.judge, log.answers)
        report(f"S5 {kind}: {dict(log.statuses)}, {len(findings)} findings")
        findings += await asyncio.to_thread(servers.stop_in_order)
    figures = f"{kind}; statuses {dict(sorted(log.statuses.items()))}"
    return Result("S5", "no call refused below 90 %", attempts, findings, figures)


async def spend_above_holds(kind: str, *, size: Size, report: Report) -> Result:
    """Run S7: the provider reports more than was held. It is billed, and no limit is exceeded by
    more than the calls that ran at once can have cost above their holds."""
    findings = list[Finding]()
    usage = f"{TOKENS_REPORTED:06}/{OUTPUT_TOKENS_MAX}"
    cost_nano = TOKENS_REPORTED * INPUT_NANO + OUTPUT_TOKENS_MAX * OUTPUT_NANO
    with running_servers(kind) as servers:
        priced = await calibrate(servers)
        key = await set_limits(servers, dict.fromkeys(LIMITS, size.calls * cost_nano))
        attempts = (Attempt(usage) for _ in range(size.attempts))
        log = await make_attempts(servers.ports, key, attempts, workers=size.workers)
        findings += judge_refusals(log, LIMITS)
        excess_nano = len(log.answers) * cost_nano - size.calls * cost_nano
        bound_nano = size.workers * (cost_nano - priced.cost_nano)
        if excess_nano > bound_nano:
            findings.append(Finding("B2", f"{excess_nano} above the limits, and not {bound_nano}"))
        found = await asyncio.to_thread(servers.judge, log.answers, may_exceed=True)
        # That a bill is above its hold is what the provider does here.
        findings += [each for each in found if each.verdict != "L3"]
        owed_nano = -servers.read_balance("overspend")
        report(f"S7 {kind}: {len(log.answers)} answers, {owed_nano} owed, {len(findings)} findings")
        findings += await asyncio.to_thread(servers.stop_in_order)
    figures = (
        f"{SERVERS[kind]} x {kind}; {excess_nano / cost_nano:.1f} calls above the limit of "
        f"{size.calls}, at most {bound_nano / cost_nano:.1f}"
    )
    return Result("S7", "usage above holds", size.attempts, findings, figures)


def draw_attempts(draw: random.Random, priced: Priced, size: Size) -> Iterator[Attempt]:
    """Yield calls of random cost up to their hold, of which three in ten fail."""
    tokens_max = int(priced.usage.split("/")[0])
    for _ in range(size.attempts):
        fails = draw.random() < 0.3
        how = draw.choice((*FAILURES, "gives_up")) if fails else ""
        yield Attempt(
            f"{draw.randint(0, tokens_max):06}/{draw.randint(0, OUTPUT_TOKENS_MAX)}",
            streamed=draw.random() < 0.5,
            fails="" if how == "gives_up" else how,
            gives_up=how == "gives_up",
        )


async def come_to_rest(servers: Servers) -> list[Finding]:
    """Wait until no call runs, also none whose client has gone; a hold that stays is a finding."""
    for _ in range(int(REST_SECONDS / 0.1)):
        if not servers.read_one("SELECT count(*) FROM holds WHERE state = 'held'"):
            return []
        await asyncio.sleep(0.1)
    return [Finding("L6", f"holds are open {REST_SECONDS} s after the last call")]


async def _spend_rest(servers: Servers, key: str, priced: Priced) -> AttemptLog:
    refused: list[Outcome] = []

    def until_refused() -> Iterator[Attempt]:
        while not refused:
            yield Attempt(priced.usage)

    def note(outcome: Outcome) -> None:
        if outcome.status != 200:
            refused.append(outcome)

    return await make_attempts(servers.ports, key, until_refused(), workers=1, seen=note)


def judge_rest(rest: AttemptLog, left_nano: Mapping[str, int], priced: Priced) -> list[Finding]:
    """Return the findings about the calls that spent what was left, one after the other: they end
    with the refusal of a limit that does not cover the next one."""
    if not rest.refusals or rest.refusals[-1].status != REFUSED:
        return [Finding("L1", f"the rest ended with {dict(rest.statuses)} {rest.refusals[-1:]}")]
    named = rest.refusals[-1].error["denial"]["key"].removeprefix("budget.")
    if left_nano[named] >= priced.cost_nano:
        text = f"{named} has {left_nano[named]} left, and refuses a call of {priced.cost_nano}"
        return [Finding("L9", text)]
    return judge_refusals(rest, LIMITS)


def read_left(servers: Servers, rooms_nano: Mapping[str, int]) -> dict[str, int]:
    """Return what is left of each limit, by the receipts. The newest key is the one in use."""
    with servers.reading() as read:
        spent = {(scope, name): used for (scope, name, _), (used, _) in sum_spent(read).items()}
        key_id = read("SELECT id FROM keys ORDER BY created_at DESC LIMIT 1")[0][0]
        limits = {
            scope: int(limit) for scope, limit in read("SELECT scope, limit_nano FROM budgets")
        }
    return {
        "wallet": servers.read_balance(),
        "key": rooms_nano["key"] - spent.get(("key", key_id), 0),
        "project": limits["project"] - spent.get(("project", servers.project_id), 0),
        "organization": limits["organization"]
        - spent.get(("organization", servers.organization_id), 0),
    }


def _list_refused(log: AttemptLog) -> list[Outcome]:
    return [each for each in log.refusals if each.status == REFUSED]


class MixedSize(msgspec.Struct, frozen=True):
    """Set how much each part does."""

    s2: Size
    s3: Size
    s5: int
    s7: Size


FULL = MixedSize(
    Size(calls=300, attempts=1_500, repetitions=20),
    Size(calls=1_500, attempts=5_000, repetitions=1),
    10_000,
    Size(calls=200, attempts=1_000, workers=32, repetitions=1),
)
QUICK = MixedSize(
    Size(calls=100, attempts=300, workers=32, repetitions=3),
    Size(calls=200, attempts=600, workers=32, repetitions=1),
    300,
    Size(calls=50, attempts=200, workers=16, repetitions=1),
)
