"""Two real servers on one PostgreSQL."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from headgate.billing.service import ledger as billing
from headgate.data_directory import backup_postgresql
from headgate.data_directory.backup import BackupNotAllowedError
from headgate.kit.db.engine import Database
from headgate.metering import store as metering
from headgate.relay.ports import Receipt
from headgate.settings import Settings
from tests.fakes.gateway import PROVIDER_KEY, Gateway, start_gateway
from tests.fakes.http_connection import HttpResponse, ask
from tests.fakes.postgres import Postgres, Wire
from tests.fakes.upstream import FakeUpstream, running_upstream
from tests.fakes.waiting import wait_until

CHAT = "/v1/chat/completions"
BODY = b'{"model":"gpt-5.4-mini","messages":[],"max_completion_tokens":200}'
USAGE = b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}'
COMPLETION = b'{"id":"c1","model":"gpt-5.4-mini","choices":[],%b}' % USAGE
COST_NANO = 1000 * 750 + 100 * 4500
MASTER_KEY = base64.b64encode(os.urandom(32)).decode()
NANO_PER_DOLLAR = 10**9
REVOKED_WITHIN_SECONDS = 1.0


@contextmanager
def running_pair(folder: Path, url: str) -> Generator[list[Gateway]]:
    """Start two servers at the same instant; yield the one with the first keys first."""

    def start(name: str) -> Gateway:
        return start_gateway(folder / name, database_url=url, master_key=MASTER_KEY)

    with ThreadPoolExecutor(2) as pool:
        gateways = list(pool.map(start, ("a", "b")))
    try:
        gateways.sort(key=lambda each: not each.keys)
        gateways[1].keys |= gateways[0].keys
        yield gateways
    finally:
        for each in gateways:
            if each.process.poll() is None:
                each.kill()


@pytest.fixture(scope="module")
def shared_url(postgres: Postgres) -> Generator[str]:
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="module")
def provider() -> Generator[FakeUpstream]:
    with running_upstream() as running:
        running.script = lambda received: received.answer(COMPLETION)
        yield running


@pytest.fixture(scope="module")
def pair(
    shared_url: str, provider: FakeUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[list[Gateway]]:
    with running_pair(tmp_path_factory.mktemp("pair"), shared_url) as gateways:
        run(
            gateways[0],
            *("credentials", "add", "openai", "--managed", "--api-key-stdin"),
            *("--base-url", provider.base_url),
            stdin=PROVIDER_KEY,
        )
        run(gateways[0], "wallet", "fund", "1", "--reference", "start")
        for each in gateways:
            wait_until(lambda each=each: call(each, each.key).status == 200)
        yield gateways


@pytest.fixture
def database(shared_url: str) -> Generator[Database]:
    database = Database(shared_url)
    yield database
    database.close()


def call(gateway: Gateway, token: str) -> HttpResponse:
    given = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    return ask(gateway.port, "POST", CHAT, given, BODY)


def run(gateway: Gateway, *arguments: str, stdin: str = "") -> str:
    done = gateway.run(*arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def list_receipts(database: Database, organization_id: str) -> list[Receipt]:
    with database.reading() as connection:
        return list(metering.list_recent(connection, organization_id, rows_max=1_000))


def balance(database: Database, organization_id: str) -> int:
    with database.reading() as connection:
        assert billing.find_inconsistencies(connection) == []
        return billing.read_available(connection, organization_id)


def test_first_start_of_two_at_once_makes_everything_once(pair: list[Gateway]) -> None:
    first, second = pair
    assert (first.data / "first-keys.json").exists()
    assert not (second.data / "first-keys.json").exists()
    assert not (second.data / "headgate.db").exists()
    keys = json.loads(run(second, "keys", "list", "--json"))
    assert sorted(key["name"] for key in keys) == ["first", "first admin"]


def test_key_made_on_one_opens_the_other_and_its_end_reaches_both(pair: list[Gateway]) -> None:
    maker, other = pair
    issued = json.loads(run(maker, "keys", "create", "--json"))
    token = issued["token"]
    for each in pair:
        wait_until(lambda each=each: call(each, token).status == 200)
    run(other, "keys", "revoke", issued["key"]["id"])
    deadline = time.monotonic() + REVOKED_WITHIN_SECONDS
    for each in pair:
        while (answered := call(each, token)).status != 401:
            assert time.monotonic() < deadline, answered.body
        assert b"revoked" in answered.body


def test_receipts_and_wallet_of_two_servers_are_one(
    pair: list[Gateway], database: Database
) -> None:
    organization_id = pair[0].keys["organization_id"]
    before, count = (
        balance(database, organization_id),
        len(list_receipts(database, organization_id)),
    )
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, pair * 20, [pair[0].key] * 40))
    assert [each.status for each in answers] == [200] * 40
    assert balance(database, organization_id) == before - 40 * COST_NANO
    receipts = list_receipts(database, organization_id)
    assert len(receipts) - count == 40
    assert {each.headers["x-headgate-request-id"] for each in answers} <= {
        each.request_id for each in receipts
    }


def test_servers_go_on_when_the_database_has_thrown_them_out(
    pair: list[Gateway], postgres: Postgres, shared_url: str
) -> None:
    postgres.cut_connections(shared_url)
    for each in pair:
        assert call(each, each.key).status == 200
    wait_until(lambda: all(is_ready(each) for each in pair))


def is_ready(gateway: Gateway) -> bool:
    return ask(gateway.port, "GET", "/health/ready", {}, b"").status == 200


def test_other_master_key_is_refused_by_a_database_that_has_one(
    pair: list[Gateway],
) -> None:
    other = base64.b64encode(os.urandom(32)).decode()
    for given, reason in (
        ({"HEADGATE_MASTER_KEY": other}, "is not the one that sealed this database"),
        ({"HEADGATE_MASTER_KEY": ""}, "The master key is missing"),
    ):
        done = pair[0].run("migrate", environment=given)
        assert done.returncode != 0
        assert reason in done.stderr
        assert not (pair[0].data / "master.key").exists()


def test_doctor_looks_at_the_shared_database(pair: list[Gateway]) -> None:
    done = pair[1].run("doctor", "--json")
    findings = {each["subject"]: each for each in json.loads(done.stdout)}
    assert findings["database"]["level"] == "ok"
    assert "PostgreSQL" in findings["database"]["text"]
    assert findings["ledger"]["level"] == "ok"
    assert "SQLite" not in findings
    migrated = run(pair[1], "migrate")
    assert migrated.startswith("The database postgresql://")
    assert "headgate@" not in migrated


def test_command_on_a_database_that_was_never_used_says_so(
    pair: list[Gateway], postgres_url: str
) -> None:
    done = pair[0].run("keys", "list", environment={"HEADGATE_DATABASE_URL": postgres_url})
    assert done.returncode != 0
    assert "start `headgate serve` once" in done.stderr


def test_database_that_goes_away_stops_calls_and_comes_back_by_itself(
    postgres: Postgres, postgres_url: str, provider: FakeUpstream, wire: Wire, tmp_path: Path
) -> None:
    gateway = start_gateway(
        tmp_path / "data", provider_url=provider.base_url, database_url=wire.url(postgres_url)
    )
    try:
        assert call(gateway, gateway.key).status == 200
        wire.fail()
        wait_until(lambda: call(gateway, gateway.key).status == 503, 10)
        refused = call(gateway, gateway.key)
        assert refused.error["code"] == "storage_unavailable"
        assert not is_ready(gateway)
        wire.heal()
        wait_until(lambda: call(gateway, gateway.key).status == 200, 10)
        assert is_ready(gateway)
        assert gateway.stop() == 0
    finally:
        if gateway.process.poll() is None:
            gateway.kill()
    log = gateway.log.read_text()
    assert postgres_url not in log


def test_dump_comes_back_into_an_empty_database_only(
    postgres: Postgres,
    shared_url: str,
    pair: list[Gateway],
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(postgres.binaries), prepend=os.pathsep)
    before = len(list_receipts(database, pair[0].keys["organization_id"]))
    manifest = backup_postgresql.back_up(Settings(database_url=shared_url), tmp_path / "backup")
    assert manifest.rows["receipts"] >= before
    with pytest.raises(BackupNotAllowedError, match="holds a Headgate already"):
        backup_postgresql.restore(Settings(database_url=shared_url), tmp_path / "backup")
    url = postgres.create_database()
    backup_postgresql.restore(Settings(database_url=url), tmp_path / "backup")
    restored = Database(url)
    with restored.reading() as connection:
        assert billing.find_inconsistencies(connection) == []
    assert len(list_receipts(restored, pair[0].keys["organization_id"])) >= before
    restored.close()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupNotAllowedError, match="pg_dump --format=custom"):
        backup_postgresql.back_up(Settings(database_url=shared_url), tmp_path / "other")
