"""A gateway before the fault server, each a process of its own, and everything that they wrote."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headgate import settings
from headgate.audit.model import SYSTEM
from headgate.billing.service import ledger as billing
from headgate.credentials.model.credential import CredentialRequest
from headgate.kit.db.engine import Database
from headgate.kit.money import NANO_PER_DOLLAR
from headgate.main.application import Application
from headgate.main.egress import build_rules
from headgate.metering import store as metering
from headgate.relay.ports import Receipt
from rigs.faults.cells import PLACES
from tests.fakes import http_connection
from tests.fakes.gateway import PROVIDER_KEY, Gateway, running_gateway
from tests.fakes.waiting import wait_until

DEADLINES = {
    "connect_seconds": 0.5,
    "first_byte_seconds": 1,
    "idle_seconds": 1,
    "total_seconds": 6,
    "response_body_bytes_max": 8 << 20,
    "retry_budget_floor_per_second": 1000,
    "breaker_failures": 0,
    "always_flush": "false",
    # Each fault must come to the caller, and not a cached answer.
    "embedding_cache_bytes_max": 0,
}
FUNDS_NANO = 1000 * NANO_PER_DOLLAR
START_SECONDS = 20.0


@dataclass
class FaultHarness:
    """Hold both processes, and read their log and database from outside."""

    gateway: Gateway
    addresses: dict[str, str]
    log: Path
    database: Database
    numbers: Iterator[int] = field(default_factory=itertools.count)
    """Numbers for unique names of calls."""

    def entries(self) -> dict[str, list[dict[str, Any]]]:
        """Return the fault server's log entries of each call by its tag, oldest first."""
        found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for text in self.log.read_text().splitlines():
            entry = json.loads(text)
            if entry["event"] == "request":
                found[entry["tag"] or ""].append(entry)
        return found

    def receipts(self) -> dict[str, list[Receipt]]:
        """Return the receipts by the tag that the call had as its correlation id."""
        with self.database.reading() as connection:
            rows = metering.list_recent(
                connection, self.gateway.keys["organization_id"], rows_max=100_000
            )
        found: defaultdict[str, list[Receipt]] = defaultdict(list)
        for row in rows:
            found[row.correlation_id or ""].append(row)
        return found

    def find_leaks(self) -> list[str]:
        """Return what is left over: money held, ledger errors, calls and connections in use."""
        with self.database.reading() as connection:
            faults = billing.find_inconsistencies(connection)
            balance = billing.read_available(connection, self.gateway.keys["organization_id"])
        rows = [row for rows in self.receipts().values() for row in rows if row.managed]
        spent = sum(row.cost_nano for row in rows)
        if balance != FUNDS_NANO - spent:
            faults.append(f"the wallet has {balance} nano, not {FUNDS_NANO} - {spent}")
        gauges = self.gauges()
        if gauges["requests_in_flight"] != 1:  # this request itself
            faults.append(f"{gauges['requests_in_flight'] - 1:g} requests in flight")
        busy = gauges["provider_connections"] - gauges["provider_connections_idle"]
        if busy or gauges["provider_connections_awaited"]:
            faults.append(f"{busy:g} provider connections in use")
        return faults

    def gauges(self) -> dict[str, float]:
        """Return the gauges of `/metrics`, without their prefix."""
        lines = (line.split(" ") for line in self.gateway.metrics().splitlines())
        plain = (parts for parts in lines if len(parts) == 2 and "{" not in parts[0])
        return {name.removeprefix("headgate_"): float(value) for name, value in plain}


@contextlib.contextmanager
def running_harness(folder: Path, **given: Any) -> Generator[FaultHarness]:
    """Start both; `given` are settings of the gateway that replace those of `DEADLINES`."""
    log = folder / "faults.jsonl"
    with _running_fault_server(log) as addresses:
        base_url = f"{addresses['main']}/v1"
        chosen = DEADLINES | given
        with running_gateway(folder / "data", provider_url=base_url, **chosen) as gateway:
            database = Database(gateway.data / "headgate.db")
            try:
                _prepare(gateway, database, addresses)
                yield FaultHarness(gateway, addresses, log, database)
            finally:
                database.close()


@contextlib.contextmanager
def _running_fault_server(log: Path) -> Generator[dict[str, str]]:
    command = [sys.executable, "-m", "headgate.cli", "simulate", "--faults"]
    process = subprocess.Popen([*command, "--port", "0", "--log", str(log)])
    try:
        wait_until(lambda: log.exists() and "\n" in log.read_text(), START_SECONDS)
        addresses = json.loads(log.read_text().splitlines()[0])
        # Plain HTTP where TLS is expected.
        yield {**addresses, "plain": addresses["main"].replace("http:", "https:")}
    finally:
        process.terminate()
        process.wait(10)


def _prepare(gateway: Gateway, database: Database, addresses: dict[str, str]) -> None:
    """Fund a wallet, and add managed and own credentials for each address."""
    owner = gateway.keys["organization_id"]
    places = ["main", *PLACES.values()]
    allowed = settings.load({}, data=gateway.data, egress_allow=("127.0.0.1/32",))
    application = Application(allowed, database, build_rules(allowed))
    with database.transaction() as connection:
        billing.fund(connection, owner, amount_nano=FUNDS_NANO, reference="rig", now=1.0)
        credentials = application.unlock(connection).credentials
        for place in places:
            for prefix, organization_id in (("managed", None), ("own", owner)):
                credentials.add(
                    connection,
                    CredentialRequest(
                        organization_id=organization_id,
                        integration="openai",
                        secret=PROVIDER_KEY,
                        name=f"{prefix}-{place}",
                        base_url=f"{addresses[place]}/v1",
                    ),
                    by=SYSTEM,
                )
    wait_until(lambda: _knows_credentials(gateway))


def _knows_credentials(gateway: Gateway) -> bool:
    """Return whether the running server has loaded the credentials, all at once."""
    headers = {"authorization": f"Bearer {gateway.key}", "x-headgate-credential": "own-main"}
    return (
        http_connection.ask(gateway.port, "GET", "/v1/files/fault:good/content", headers).status
        == 200
    )
