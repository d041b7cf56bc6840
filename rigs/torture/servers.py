"""One server on SQLite, or several on one PostgreSQL, with a provider that records its charges."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from headgate.billing.model.budgets import name_month
from headgate.billing.service import ledger as billing
from headgate.billing.store.budgets import BUDGETS, TOPIC
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import bump_revision
from rigs.torture.budgets import judge_budgets, sum_spent
from rigs.torture.oracle import Answer, Finding, Read, judge_file, judge_ledger, opened
from rigs.torture.provider import RecordingProvider
from tests.fakes.gateway import PROVIDER_KEY, Gateway, start_gateway
from tests.fakes.postgres import Postgres, running_postgres

PLACES = ("sqlite", "postgresql")
SERVERS = {"sqlite": 1, "postgresql": 2}
"""A file of SQLite belongs to one process."""


class Servers:
    """Hold running servers of one database, which have the credentials `managed` and `own`."""

    def __init__(self, gateways: list[Gateway], provider: RecordingProvider) -> None:
        self.gateways = gateways
        self.provider = provider
        self.place = gateways[0].place
        self.settings: dict[str, Any] = {}
        self.project_id = str(self.read_one("SELECT project_id FROM keys WHERE kind = 'live'"))
        self._fills = 0
        self.organization_id = gateways[0].keys["organization_id"]

    @property
    def ports(self) -> list[int]:
        return [each.port for each in self.gateways]

    @property
    def key(self) -> str:
        return self.gateways[0].key

    def run(self, *arguments: str, stdin: str = "") -> str:
        """Run a command of the command line; return what it prints."""
        done = self.gateways[0].run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create_key(self, *arguments: str) -> str:
        """Return the token of a new key."""
        token: str = json.loads(self.run("keys", "create", "--json", *arguments))["token"]
        return token

    def fill(self, amount_nano: int) -> None:
        """Bring the wallet to an exact amount, from beside the servers."""
        missing_nano = amount_nano - self.read_balance()
        assert missing_nano >= 0, "the wallet has more already"
        if not missing_nano:
            return
        self._fills += 1
        database = Database(self.place)
        try:
            with database.transaction() as connection:
                billing.fund(
                    connection,
                    self.organization_id,
                    amount_nano=missing_nano,
                    reference=f"fill {self._fills}",
                    now=1_800_000_000.0,
                )
        finally:
            database.close()

    def set_budget(self, scope: str, room_nano: int) -> None:
        """Set the monthly budget of the organization or of the first key's project, so that it has
        so much room. All servers know it within a second."""
        scope_id = self.organization_id if scope == "organization" else self.project_id
        with self.reading() as read:
            # A month may end meanwhile: then there is more room, and no less.
            spent = sum_spent(read)
        month = name_month(time.time())
        limit_nano = spent.get((scope, scope_id, month), (0, 0))[0] + room_nano
        database = Database(self.place)
        try:
            with database.transaction() as connection:
                connection.execute(
                    sa.delete(BUDGETS).where(
                        BUDGETS.c.scope == scope, BUDGETS.c.scope_id == scope_id
                    )
                )
                connection.execute(
                    sa.insert(BUDGETS).values(
                        scope=scope,
                        scope_id=scope_id,
                        organization_id=self.organization_id,
                        limit_nano=limit_nano,
                        managed_only=0,
                        thresholds="50,80,100",
                        version=1,
                        created_at=0.0,
                        updated_at=0.0,
                    )
                )
                bump_revision(connection, TOPIC)
        finally:
            database.close()

    @contextlib.contextmanager
    def reading(self) -> Generator[Read]:
        with opened(self.place) as read:
            yield read

    def read_one(self, query: str) -> Any:
        with self.reading() as read:
            return read(query)[0][0]

    def read_balance(self, kind: str = "wallet") -> int:
        """Return the balance of one of the organization's accounts."""
        return int(
            self.read_one(
                f"SELECT coalesce(sum(balance_nano), 0) FROM ledger_accounts "
                f"WHERE organization_id = '{self.organization_id}' AND kind = '{kind}'"
            )
        )

    def judge(self, answers: list[Answer], *, may_exceed: bool = False) -> list[Finding]:
        """Judge the database, while the servers are idle."""
        found = judge_file(self.place, answers, self.provider.charges)
        with self.reading() as read:
            return [*found, *judge_budgets(read, may_exceed=may_exceed)]

    def judge_ledger(self) -> list[Finding]:
        """Judge the ledger by itself, which is correct at any moment."""
        with self.reading() as read:
            return list(judge_ledger(read))

    def stop_in_order(self) -> list[Finding]:
        """Stop the servers, each of which must end in order."""
        ended = [each.stop() for each in self.gateways]
        return [Finding("DB", f"a stop ended with {status}") for status in ended if status]

    def kill(self) -> None:
        """Leave no process behind."""
        for each in self.gateways:
            if each.process.poll() is None:
                each.kill()


@contextlib.contextmanager
def running_servers(
    kind: str,
    *,
    count: int = 0,
    provider_url: str = "",
    variables: Sequence[dict[str, str]] = (),
    **settings: Any,
) -> Generator[Servers]:
    """Run servers on a new database of a kind of `PLACES`, with a wallet that is empty. Another
    provider than the recording one is named by its `provider_url`. Each server gets environment
    variables of its own, if there are any."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="torture-")))
        provider = stack.enter_context(RecordingProvider())
        given: dict[str, Any] = {"test_mode": "true", "access_log": "false", **settings}
        if kind == "postgresql":
            server: Postgres = stack.enter_context(running_postgres())
            given |= {
                "database_url": server.create_database(),
                "master_key": base64.b64encode(os.urandom(32)).decode(),
            }
        gateways: list[Gateway] = []
        try:
            _start(gateways, folder, count or SERVERS[kind], given, variables)
            servers = Servers(gateways, provider)
            servers.settings = given
            _add_credentials(servers, provider_url or provider.base_url)
            yield servers
        finally:
            for each in gateways:
                each.close_clients()
                if each.process.poll() is None:
                    each.kill()


def _start(
    gateways: list[Gateway],
    folder: Path,
    count: int,
    given: dict[str, Any],
    variables: Sequence[dict[str, str]],
) -> None:
    """Start so many servers, two at a time, and add them to the list. Raise `AssertionError`."""
    own = dict(enumerate(variables))
    with ThreadPoolExecutor(2) as pool:
        starting = [
            pool.submit(start_gateway, folder / str(number), **given, variables=own.get(number))
            for number in range(count)
        ]
    gateways += [each.result() for each in starting if each.exception() is None]
    for each in starting:
        each.result()
    # The first server of a database makes the keys.
    gateways.sort(key=lambda each: not each.keys)
    for each in gateways[1:]:
        each.keys |= gateways[0].keys


def _add_credentials(servers: Servers, base_url: str) -> None:
    for name, *kind in (("managed", "--managed"), ("own",)):
        servers.run(
            *("credentials", "add", "openai", "--name", name, *kind, "--api-key-stdin"),
            *("--base-url", base_url),
            stdin=PROVIDER_KEY,
        )
