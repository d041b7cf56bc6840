"""W1: kill servers while they deliver the events of calls, and compare receivers with receipts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit import outbox
from headgate.kit.db.engine import Database
from headgate.webhooks.store.deliveries import DELIVERIES
from rigs.torture.clients import Clients
from rigs.torture.servers import Servers, running_servers
from rigs.webhooks.receivers import Received, running_receiver
from tests.fakes.gateway import Gateway, serve_gateway
from tests.fakes.waiting import wait_until

EVENT = "request.completed"
FAILPOINTS = ("", "webhook_fan_out=kill@2", "", "webhook_result=kill@5", "", "after_commit=kill@40")
"""How servers die in turn; empty for a kill at any moment."""
ALIVE_SECONDS = (1.0, 4.0)
QUIET_SECONDS = 240.0
"""Longer than the lease of a delivery and the wait after its first failure."""
CLIENTS = 48
PAUSE_SECONDS = 0.005
WALLET_NANO = 1_000_000 * 10**9
WEBHOOK_SECONDS = 2.0
FAILPOINT_SECONDS = 30.0
READY_SECONDS = 120.0
FOREIGN = "foreign"
"""An organization that makes no calls."""
IS_PENDING = DELIVERIES.c.status == "pending"


class Outcome(msgspec.Struct, kw_only=True):
    """Hold what W1 found. `repeated` are deliveries that a receiver had accepted before."""

    events: int
    kills: int = 0
    received: int
    repeated: int
    findings: list[str]

    @property
    def repeated_ratio(self) -> float:
        return self.repeated / max(1, self.received)


async def run(
    place: str, *, events: int, kills: int, seed: int, report: Callable[[str], None]
) -> Outcome:
    """Deliver the events of at least so many calls to a flaky and to a good receiver."""
    with (
        tempfile.TemporaryDirectory(prefix="webhooks-") as folder,
        running_receiver(Path(folder) / "log") as receiver,
        running_servers(place, webhook_seconds=WEBHOOK_SECONDS) as servers,
    ):
        servers.fill(WALLET_NANO)
        other = json.loads(servers.run("organizations", "create", "Other", "--json"))[
            "organization"
        ]["id"]
        secrets = {
            name: _create(servers, receiver.url(f"/{how}/{name}"), organization_id)
            for name, how, organization_id in (
                ("good", "ok", servers.organization_id),
                ("flaky", "flaky", servers.organization_id),
                (FOREIGN, "ok", other),
            )
        }
        draw = random.Random(seed)
        loads = [
            Clients(port, servers.key, count=CLIENTS // len(servers.ports), seed=seed + port)
            for port in servers.ports
        ]
        for load in loads:
            load.pause_seconds = PAUSE_SECONDS
            load.start()
        done = 0
        while done < kills or _count(loads) < events:
            await asyncio.sleep(draw.uniform(*ALIVE_SECONDS))
            if done < kills:
                number, failpoint = done % len(servers.gateways), FAILPOINTS[done % len(FAILPOINTS)]
                await asyncio.to_thread(_restart, servers, number, failpoint)
                done += 2 if failpoint else 1
                report(f"{place}: {done} kills, {_count(loads)} answers")
        for load in loads:
            await load.stop()
        for number in range(len(servers.gateways)):
            await asyncio.to_thread(_restart, servers, number, "")
        await asyncio.to_thread(_wait_until_quiet, servers)
        answered = {answer.request_id for load in loads for answer in load.answers}
        with servers.reading() as read:
            receipts = {str(row[0]) for row in read("SELECT request_id FROM receipts")}
        outcome = judge(receiver.read(), secrets, receipts)
        outcome.kills = done
        if lost := answered - receipts:
            outcome.findings.append(f"{len(lost)} answered calls have no receipt")
        return outcome


def _count(loads: Iterable[Clients]) -> int:
    return sum(len(load.answers) for load in loads)


def judge(deliveries: Iterable[Received], secrets: dict[str, str], receipts: set[str]) -> Outcome:
    """Compare what arrived with the receipts of the organization. A receiver that ignores the ids
    that it knows must have each of its events exactly once."""
    findings: Counter[str] = Counter()
    accepted: dict[str, Counter[str]] = {name: Counter() for name in secrets}
    calls: dict[str, dict[str, str]] = {name: {} for name in secrets}
    for each in deliveries:
        event: Any = each.verify(secrets[each.name])
        if event is None:
            findings["signatures that the library rejects"] += 1
            continue
        request_id = event["data"]["object"]["request_id"]
        if each.name == FOREIGN or event["type"] != EVENT:
            findings["events of somebody else"] += 1
        elif request_id not in receipts:
            findings["events of calls without a receipt"] += 1
        elif calls[each.name].setdefault(each.id, request_id) != request_id:
            findings["ids of two events"] += 1
        if each.accepted:
            accepted[each.name][each.id] += 1
    for name in set(secrets) - {FOREIGN}:
        once = Counter(calls[name][each] for each in accepted[name] if each in calls[name])
        findings[f"calls that {name} never heard of"] += len(receipts - set(once))
        findings[f"calls of two ids at {name}"] += sum(count > 1 for count in once.values())
    received = sum(count.total() for count in accepted.values())
    return Outcome(
        events=len(receipts),
        received=received,
        repeated=received - sum(map(len, accepted.values())),
        findings=[f"{count} {what}" for what, count in sorted(findings.items()) if count],
    )


def _create(servers: Servers, url: str, organization: str) -> str:
    """Register an endpoint; return its secret."""
    issued = servers.run(
        *("webhooks", "create", url, "--event", EVENT),
        *("--organization", organization, "--json"),
    )
    secret: str = json.loads(issued)["secret"]
    return secret


def _restart(servers: Servers, number: int, failpoint: str) -> None:
    """Kill a server and start it again. With a failpoint, wait until that kills the new one, and
    start once more."""
    old = servers.gateways[number]
    if old.process.poll() is None:
        old.kill()
    given: dict[str, Any] = {**servers.settings}
    if failpoint:
        given["failpoint"] = failpoint
    new = serve_gateway(old.data, port=old.port, **given)
    new.keys |= old.keys
    servers.gateways[number] = new
    if failpoint:
        with contextlib.suppress(subprocess.TimeoutExpired):
            new.process.wait(FAILPOINT_SECONDS)
        _restart(servers, number, "")
    else:
        wait_until(lambda: _is_ready(new), READY_SECONDS)


def _is_ready(gateway: Gateway) -> bool:
    assert gateway.process.poll() is None, gateway.log.read_text()[-2_000:]
    with contextlib.suppress(OSError):
        url = f"{gateway.url}/health/ready"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    return False


def _wait_until_quiet(servers: Servers) -> None:
    database = Database(servers.place)
    pending = sa.select(sa.func.count()).select_from(DELIVERIES).where(IS_PENDING)
    events = sa.select(sa.func.count()).select_from(outbox.OUTBOX)
    events = events.where(outbox.OUTBOX.c.topic == EVENT)
    deadline = time.monotonic() + QUIET_SECONDS
    try:
        while time.monotonic() < deadline:
            with database.reading() as connection:
                left = connection.execute(pending).scalar_one()
                if not left + connection.execute(events).scalar_one():
                    return
            time.sleep(1.0)
    finally:
        database.close()
