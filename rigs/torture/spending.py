"""S1 to S7: many workers spend one wallet and its budgets at once, on one server or on two.

Every call of S1 costs exactly what it holds: a limit for 1,000 calls lets 1,000 through, and no
more and no less, however many are attempted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec

from headgate.kit.money import format_dollars
from rigs.torture.attempts import OUTPUT_TOKENS_MAX, Attempt, AttemptLog, make_attempts
from rigs.torture.harness import Result
from rigs.torture.oracle import Finding
from rigs.torture.provider import INPUT_NANO, OUTPUT_NANO
from rigs.torture.servers import SERVERS, Servers, running_servers

LIMITS = ("wallet", "key", "project", "organization")
DENIAL_KEYS = {name: name if name == "wallet" else f"budget.{name}" for name in LIMITS}
AMPLE_NANO = 1_000_000 * 10**9
KNOWN_SECONDS = 1.5
"""When every server knows a changed budget for sure."""
CALIBRATION_NANO = 10**7
STREAMED_EVERY = 4
REFUSED = 402

Report = Callable[[str], None]


class Size(msgspec.Struct, frozen=True):
    """Set how much is done: the calls that a limit covers, the attempts, and how often."""

    calls: int = 1_000
    attempts: int = 5_000
    workers: int = 128
    repetitions: int = 20


FULL = Size()
QUICK = Size(calls=200, attempts=1_000, workers=64, repetitions=2)


class Priced(msgspec.Struct, frozen=True):
    """Hold a call whose cost is its hold."""

    usage: str
    cost_nano: int


async def calibrate(servers: Servers) -> Priced:
    """Return the usage that makes a call cost what it holds, whether it streams or not.

    The wallet has then less than any limit that is tested.
    """
    servers.fill(CALIBRATION_NANO)
    held = [await _read_hold(servers, Attempt(streamed=streamed)) for streamed in (False, True)]
    assert held[0] == held[1], "a stream holds as much as another call"
    tokens_in, rest = divmod(held[0] - OUTPUT_TOKENS_MAX * OUTPUT_NANO, INPUT_NANO)
    assert tokens_in >= 0, "a hold covers the output"
    assert rest == 0, "a hold is a number of tokens"
    return Priced(f"{tokens_in:06}/{OUTPUT_TOKENS_MAX}", held[0])


async def _read_hold(servers: Servers, attempt: Attempt) -> int:
    log = await make_attempts(servers.ports, servers.key, iter([attempt]), workers=1)
    assert log.answers, log.refusals
    query = f"SELECT amount_nano FROM holds WHERE request_id = '{log.answers[0].request_id}'"
    return int(servers.read_one(query))


async def spend_exactly(
    kind: str, limits: Sequence[str] = ("wallet",), *, size: Size, report: Report
) -> Result:
    """Run S1 for some of `LIMITS`, each of which covers as many calls. `n` counts the attempts."""
    findings, took = list[Finding](), 0.0
    named = " and ".join(limits)
    with running_servers(kind) as servers:
        priced = await calibrate(servers)
        log = AttemptLog()
        for number in range(size.repetitions):
            key = await set_limits(servers, dict.fromkeys(limits, size.calls * priced.cost_nano))
            started = time.monotonic()
            done = await spend(servers, key, priced, size, limits)
            took += time.monotonic() - started
            left_nano = servers.read_balance() if "wallet" in limits else 0
            findings += judge_exact(done, size, left_nano, f"repetition {number}")
            findings += judge_refusals(done, limits)
            log.answers += done.answers
            report(
                f"S1 {kind}, {named}, {number + 1}/{size.repetitions}: {len(done.answers)} of "
                f"{size.calls} calls, {dict(done.count_refusals())}, {len(findings)} findings"
            )
        findings += await asyncio.to_thread(servers.judge, log.answers)
        findings += await asyncio.to_thread(servers.stop_in_order)
    attempts = size.attempts * size.repetitions
    figures = (
        f"{SERVERS[kind]} x {kind}, {size.workers} workers, {size.repetitions} x {size.calls} of "
        f"{size.attempts}; {attempts / took:,.0f} attempts/s"
    )
    return Result("S1", f"{named} spent at once", attempts, findings, figures)


async def set_limits(servers: Servers, rooms_nano: Mapping[str, int]) -> str:
    """Give each of the named limits so much room, and the wallet plenty unless it is one of them.

    Return the key to call with: a new one, where a key's budget is limited.
    """
    servers.fill(rooms_nano.get("wallet", AMPLE_NANO))
    key = servers.key
    for name, room_nano in rooms_nano.items():
        if name == "key":
            budget = format_dollars(room_nano)
            key = await asyncio.to_thread(servers.create_key, "--monthly-budget", budget)
        elif name != "wallet":
            await asyncio.to_thread(servers.set_budget, name, room_nano)
    if rooms_nano.keys() - {"wallet"}:
        await asyncio.sleep(KNOWN_SECONDS)
    return key


async def spend(
    servers: Servers, key: str, priced: Priced, size: Size, limits: Sequence[str]
) -> AttemptLog:
    """Make all attempts of one repetition."""
    # A wallet pays for managed calls alone, a budget counts those on an own key as well.
    credentials = ("managed",) if "wallet" in limits else ("managed", "own")
    attempts = (
        Attempt(
            priced.usage,
            credential=credentials[number % len(credentials)],
            streamed=number % STREAMED_EVERY < 1,
        )
        for number in range(size.attempts)
    )
    return await make_attempts(servers.ports, key, attempts, workers=size.workers)


def judge_exact(log: AttemptLog, size: Size, balance_nano: int, where: str) -> list[Finding]:
    """Return what is wrong after a repetition: too many or too few calls, or other answers."""
    found: list[Finding] = []
    if len(log.answers) != size.calls:
        found.append(Finding("L9", f"{where}: {len(log.answers)} answers, not {size.calls}"))
    if balance_nano:
        found.append(Finding("L9", f"{where}: {balance_nano} are left in the wallet"))
    if log.statuses[200] + log.statuses[REFUSED] != size.attempts or log.statuses.total() != (
        size.attempts
    ):
        statuses = dict(log.statuses)
        found.append(Finding("L1", f"{where}: {statuses}, {dict(log.count_refusals())}"))
    return found


def judge_refusals(log: AttemptLog, limits: Sequence[str]) -> list[Finding]:
    """Return the refusals that name none of the limits, or one that had room for the call."""
    found: list[Finding] = []
    names = {DENIAL_KEYS[limit] for limit in limits}
    for refusal in log.refusals:
        if refusal.status != REFUSED:
            continue
        denial = refusal.error.get("denial", {})
        if denial.get("key") not in names:
            found.append(Finding("B4", f"{denial.get('key')} refused, and not {sorted(names)}"))
        elif Decimal(denial["available"]) >= Decimal(denial["needed"]):
            found.append(Finding("B4", f"{denial['available']} cover {denial['needed']}"))
    return found
