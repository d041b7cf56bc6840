"""Responses in the background: held until they end, priced once, whoever sees the end first."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from headgate.billing.service import ledger as billing
from headgate.billing.service.verification import verify
from headgate.billing.store import background
from headgate.kit.db.engine import Database
from headgate.kit.money import NANO_PER_DOLLAR
from headgate.relay.ports import Receipt
from tests.fakes import http_connection
from tests.fakes.gateway import PROVIDER_KEY, Gateway, running_gateway
from tests.fakes.harness import JSON_TYPE, Harness, running_harness, running_managed_harness
from tests.fakes.http_connection import HttpResponse
from tests.fakes.receipts import open_receipts
from tests.fakes.simulated_gateway import running_simulated_gateway, usage_of_response
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream
from tests.fakes.waiting import wait_until

PATH = "/v1/responses"
ASK: dict[str, Any] = {
    "model": "gpt-5.4-mini",
    "input": "x",
    "max_output_tokens": 100,
    "background": True,
}
USAGE = {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150}
COST_NANO = 100 * 750 + 50 * 4500
START = NANO_PER_DOLLAR


class Provider:
    """Work on responses until a test says how they end. `reads` counts how often it was asked."""

    def __init__(self, response_id: str = "resp_1") -> None:
        self.id = response_id
        self.status = "queued"
        self.usage: dict[str, Any] | None = None
        self.is_gone = False
        self.creations = 0
        self.reads = 0
        self.hangs = threading.Event()
        self.has_begun = threading.Event()

    @property
    def response(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "response",
            "model": "gpt-5.4-mini",
            "status": self.status,
            "background": True,
            "output": [],
            "usage": self.usage,
        }

    def answer(self, received: ReceivedRequest) -> None:
        if received.method == "GET" and received.target.endswith("/models"):
            received.answer(b'{"data":[]}')
            return
        if received.method == "GET":
            self.reads += 1
        if self.is_gone:
            received.answer(b'{"error":{"message":"gone"}}', status=404)
        elif received.method == "DELETE":
            self.is_gone = True
            received.answer(b'{"object":"response","deleted":true}')
        elif received.target.endswith("/cancel"):
            self.status = "cancelled"
            received.answer(json.dumps(self.response).encode())
        elif "stream=true" in received.target or b'"stream": true' in received.body:
            self.creations += received.method == "POST"
            self._stream(received)
        else:
            self.creations += received.method == "POST"
            received.answer(json.dumps(self.response).encode())

    def _stream(self, received: ReceivedRequest) -> None:
        received.begin_stream()
        begun = {**self.response, "status": "queued", "usage": None}
        self._send(received, {"type": "response.created", "sequence_number": 0, "response": begun})
        self.has_begun.set()
        if self.hangs.is_set():
            received.wait_closed(20)
            received.close()
            return
        if self.status != "queued":
            kind = f"response.{self.status}"
            self._send(received, {"type": kind, "sequence_number": 1, "response": self.response})
        received.send_end()

    def _send(self, received: ReceivedRequest, event: dict[str, Any]) -> None:
        received.send_chunk(b"data: %b\n\n" % json.dumps(event).encode())

    def end(self, status: str = "completed", usage: dict[str, Any] | None = USAGE) -> None:
        self.status, self.usage = status, usage


class Books:
    """Read what a server has written since, from its database."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._start = START
        self._known: set[str] = set()

    def begin(self) -> None:
        """Count from now on."""
        with self._opened() as database, database.reading() as connection:
            self._start = billing.read_available(connection, self.organization_id)
        self._known = {each.request_id for each in self.list_receipts()}

    def fill(self) -> None:
        with self._opened() as database, database.transaction() as connection:
            billing.fund(
                connection, self.organization_id, amount_nano=START, reference="fill", now=1.0
            )

    def check(self, *, spent: int, open_holds: int = 0) -> None:
        """Check what the wallet has, and that the whole ledger adds up."""
        with self._opened() as database, database.reading() as connection:
            assert billing.count_open_holds(connection) == open_holds
            if not open_holds:
                assert (
                    billing.read_available(connection, self.organization_id) == self._start - spent
                )
            assert verify(connection) == []

    def list_receipts(self) -> list[Receipt]:
        """Return the receipts of what is billed, oldest first."""
        with open_receipts(self._gateway) as receipts:
            billed = [each for each in receipts.take() if each.pricing != "free"]
        return [each for each in billed if each.request_id not in self._known]

    def wait_settled(self) -> Receipt:
        """Wait for the job; return the one bill."""
        wait_until(lambda: self.list_receipts() != [], 15)
        (receipt,) = self.list_receipts()
        return receipt

    @property
    def organization_id(self) -> str:
        return self._gateway.keys["organization_id"]

    def _opened(self) -> contextlib.closing[Database]:
        return contextlib.closing(Database(self._gateway.place))


@pytest.fixture
def provider() -> Provider:
    return Provider(f"resp_{secrets.token_hex(8)}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    """A gateway whose only credential is the platform's, and a wallet of a dollar."""
    folder = tmp_path_factory.mktemp("background")
    with running_managed_harness(folder / "data") as running:
        Books(running.gateway).fill()
        yield running


@pytest.fixture
def harness(shared: Harness, provider: Provider) -> Harness:
    shared.renew()
    shared.answer_with(provider.answer)
    return shared


@pytest.fixture
def books(harness: Harness) -> Books:
    books = Books(harness.gateway)
    books.begin()
    return books


def create(harness: Harness, **headers: str) -> HttpResponse:
    answered = harness.post(PATH, ASK, headers)
    assert answered.status == 200, answered.body
    assert json.loads(answered.body)["status"] == "queued"
    return answered


def check_settled(books: Books, receipt: Receipt, cost_nano: int) -> None:
    assert (receipt.endpoint, receipt.method) == ("responses", "POST")
    assert receipt.cost_nano == cost_nano
    assert books.list_receipts() == [receipt]
    books.check(spent=cost_nano)


def test_own_reading_of_the_end_settles_before_the_answer(
    harness: Harness, books: Books, provider: Provider
) -> None:
    created = create(harness)
    assert created.headers["x-headgate-pricing"] == "pending"
    assert "x-headgate-cost" not in created.headers
    books.check(spent=0, open_holds=1)
    assert json.loads(harness.ask("GET", f"{PATH}/{provider.id}").body)["status"] == "queued"
    assert books.list_receipts() == []
    provider.end()
    assert json.loads(harness.ask("GET", f"{PATH}/{provider.id}").body)["status"] == "completed"
    (receipt,) = books.list_receipts()
    assert (receipt.outcome, receipt.pricing) == ("completed", "priced")
    assert receipt.request_id == created.headers["x-headgate-request-id"]
    for _ in range(2):
        assert harness.ask("GET", f"{PATH}/{provider.id}").status == 200
    check_settled(books, receipt, COST_NANO)


def test_end_that_nobody_reads_is_asked_for(
    harness: Harness, books: Books, provider: Provider
) -> None:
    create(harness)
    provider.end("incomplete")
    receipt = books.wait_settled()
    assert receipt.outcome == "completed"
    check_settled(books, receipt, COST_NANO)
    assert provider.reads == 1


def test_stream_of_the_stored_response_settles_with_its_end(
    harness: Harness, books: Books, provider: Provider
) -> None:
    create(harness)
    provider.end()
    for _ in range(2):
        streamed = harness.ask("GET", f"{PATH}/{provider.id}?stream=true&starting_after=0")
        assert b"response.completed" in streamed.body
    (receipt,) = books.list_receipts()
    check_settled(books, receipt, COST_NANO)


def test_cancelled_response_costs_what_the_provider_reports(
    harness: Harness, books: Books, provider: Provider
) -> None:
    create(harness)
    provider.usage = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
    cancelled = harness.ask("POST", f"{PATH}/{provider.id}/cancel")
    assert json.loads(cancelled.body)["status"] == "cancelled"
    (receipt,) = books.list_receipts()
    assert (receipt.outcome, receipt.estimated) == ("cancelled", False)
    check_settled(books, receipt, 10 * 750 + 2 * 4500)


def test_deleted_response_is_asked_for_before(
    harness: Harness, books: Books, provider: Provider
) -> None:
    create(harness)
    provider.end()
    assert harness.ask("DELETE", f"{PATH}/{provider.id}").status == 200
    (receipt,) = books.list_receipts()
    check_settled(books, receipt, COST_NANO)


def test_response_that_is_deleted_while_it_runs_costs_its_hold(
    harness: Harness, books: Books, provider: Provider
) -> None:
    create(harness)
    assert harness.ask("DELETE", f"{PATH}/{provider.id}").status == 200
    (receipt,) = books.list_receipts()
    assert (receipt.outcome, receipt.error_code) == ("unknown", "background_deleted")
    assert receipt.cost_nano > COST_NANO
    check_settled(books, receipt, receipt.cost_nano)
    listed = harness.gateway.run("ledger", "unknown")
    assert receipt.request_id in listed.stdout


def test_response_is_open_to_its_project_alone(
    harness: Harness, books: Books, provider: Provider
) -> None:
    create(harness)
    admin = {"authorization": f"Bearer {harness.gateway.keys['admin_key']}"}
    named = harness.ask(
        "POST",
        "/api/projects",
        {**admin, **JSON_TYPE, "x-organization-id": books.organization_id},
        json.dumps({"name": "Second"}).encode(),
    )
    project = json.loads(named.body)["id"]
    issued = harness.gateway.run("keys", "create", "--json", "--project", project)
    other = {"authorization": f"Bearer {json.loads(issued.stdout)['token']}"}
    wait_until(lambda: harness.ask("GET", "/v1/models", other).status == 200)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        refused = harness.ask(method, f"{PATH}/{provider.id}{path}", other)
        unknown = harness.ask(method, f"{PATH}/resp_2{path}", other)
        assert (refused.status, unknown.status) == (403, 403)
        assert json.loads(refused.body)["error"]["code"] == "shared_account"
        if method == "GET":
            assert harness.ask(method, f"{PATH}/{provider.id}{path}").status == 200
    assert harness.ask("GET", f"{PATH}/resp_2").status == 403
    provider.end()
    check_settled(books, books.wait_settled(), COST_NANO)


def test_repeated_creation_gets_the_first_response(
    harness: Harness, books: Books, provider: Provider
) -> None:
    first = create(harness, **{"idempotency-key": "one"})
    again = create(harness, **{"idempotency-key": "one"})
    assert again.body == first.body
    assert again.headers["idempotent-replayed"] == "true"
    provider.end()
    receipt = books.wait_settled()
    late = create(harness, **{"idempotency-key": "one"})
    assert late.body == first.body
    assert provider.creations == 1
    check_settled(books, receipt, COST_NANO)


def test_stream_that_shows_the_end_is_settled_with_it(
    harness: Harness, books: Books, provider: Provider
) -> None:
    provider.end()
    streamed = harness.post(PATH, {**ASK, "stream": True})
    assert b"response.completed" in streamed.body
    (receipt,) = books.list_receipts()
    assert receipt.streamed
    check_settled(books, receipt, COST_NANO)
    assert harness.ask("GET", f"{PATH}/{provider.id}").status == 200
    check_settled(books, receipt, COST_NANO)


def test_stream_that_breaks_off_is_settled_when_the_response_ends(
    harness: Harness, books: Books, provider: Provider
) -> None:
    streamed = harness.post(PATH, {**ASK, "stream": True})
    assert b"response.completed" not in streamed.body
    books.check(spent=0, open_holds=1)
    provider.end()
    check_settled(books, books.wait_settled(), COST_NANO)


def test_own_key_response_has_one_receipt_with_its_usage(
    tmp_path: Path, provider: Provider
) -> None:
    with running_harness(tmp_path / "data") as harness:
        harness.answer_with(provider.answer)
        create(harness)
        assert Books(harness.gateway).list_receipts() == []
        provider.end()
        receipt = Books(harness.gateway).wait_settled()
        assert (receipt.managed, receipt.cost_nano) == (False, COST_NANO)
        metrics = harness.gateway.metrics()
        harness.ask("GET", f"{PATH}/{provider.id}")
        assert Books(harness.gateway).list_receipts() == [receipt]
        assert 'outcome="pending"' not in metrics
        assert "x-headgate-error-source" not in harness.ask("GET", f"{PATH}/resp_2").headers


@contextlib.contextmanager
def running_managed(data: Path, upstream: FakeUpstream, **settings: Any) -> Generator[Gateway]:
    """Run a gateway with the platform's credential and a filled wallet."""
    with running_gateway(data, breaker_failures=0, **settings) as gateway:
        added = gateway.run(
            *("credentials", "add", "openai", "--managed", "--api-key-stdin"),
            *("--base-url", upstream.base_url),
            stdin=PROVIDER_KEY,
        )
        assert added.returncode == 0, added.stderr
        Books(gateway).fill()
        wait_until(lambda: ask(gateway, "GET", "/v1/models").status == 200)
        yield gateway


def ask(gateway: Gateway, method: str, target: str, body: Any = None) -> HttpResponse:
    headers = {"authorization": f"Bearer {gateway.key}", **JSON_TYPE}
    data = None if body is None else json.dumps(body).encode()
    return http_connection.ask(gateway.port, method, target, headers, data)


def test_response_that_never_ends_costs_its_hold(tmp_path: Path, provider: Provider) -> None:
    with (
        running_upstream() as upstream,
        running_managed(tmp_path / "data", upstream, background_seconds_max=1) as gateway,
    ):
        upstream.script = provider.answer
        assert ask(gateway, "POST", PATH, ASK).status == 200
        receipt = Books(gateway).wait_settled()
        assert (receipt.outcome, receipt.error_code) == ("unknown", "background_expired")
        Books(gateway).check(spent=receipt.cost_nano)


@pytest.mark.prove
@pytest.mark.parametrize("streams", [False, True])
def test_response_outlives_a_kill(tmp_path: Path, provider: Provider, *, streams: bool) -> None:
    data = tmp_path / "data"
    with running_upstream() as upstream, ThreadPoolExecutor() as pool:
        upstream.script = provider.answer
        with running_managed(data, upstream) as gateway:
            if streams:
                provider.hangs.set()
                pool.submit(ask, gateway, "POST", PATH, {**ASK, "stream": True})
                assert provider.has_begun.wait(10)
                wait_until(lambda: count_kept(gateway) == 1)
            else:
                assert ask(gateway, "POST", PATH, ASK).status == 200
            gateway.kill()
            Books(gateway).check(spent=0, open_holds=1)
        provider.end()
        with running_gateway(data, breaker_failures=0) as again:
            if streams:
                # The job would ask a minute after the last word of the stream.
                assert ask(again, "GET", f"{PATH}/{provider.id}").status == 200
            receipt = Books(again).wait_settled()
            assert receipt.cost_nano == COST_NANO
            Books(again).check(spent=COST_NANO)
        assert provider.creations == 1


@pytest.mark.prove
@pytest.mark.parametrize(
    "point", ["mid_settlement", pytest.param("before_last_frame", marks=pytest.mark.prove)]
)
def test_server_that_dies_while_it_settles_settles_once(
    tmp_path: Path, provider: Provider, point: str
) -> None:
    data = tmp_path / "data"
    with running_upstream() as upstream:
        upstream.script = provider.answer
        with running_managed(data, upstream) as gateway:
            assert ask(gateway, "POST", PATH, ASK).status == 200
            gateway.kill()
        provider.end()
        armed = {"test_mode": "true", "failpoint": f"{point}=kill"}
        # The job may kill it before it is ready, and the call before it has an answer.
        with contextlib.suppress(OSError, AssertionError), running_gateway(data, **armed) as dying:
            with contextlib.suppress(OSError):
                ask(dying, "GET", f"{PATH}/{provider.id}")
            dying.process.wait(20)
        with running_gateway(data, breaker_failures=0) as again:
            assert ask(again, "GET", f"{PATH}/{provider.id}").status == 200
            (receipt,) = Books(again).list_receipts()
            assert receipt.cost_nano == COST_NANO
            Books(again).check(spent=COST_NANO)


@pytest.mark.prove
def test_another_process_settles_what_a_dead_one_created(
    tmp_path: Path, postgres_url: str, provider: Provider
) -> None:
    shared: dict[str, Any] = {"database_url": postgres_url, "breaker_failures": 0}
    shared["master_key"] = base64.b64encode(os.urandom(32)).decode()
    with running_upstream() as upstream:
        upstream.script = provider.answer
        with (
            running_gateway(tmp_path / "a", **shared) as first,
            running_gateway(tmp_path / "b", **shared) as second,
        ):
            added = first.run(
                *("credentials", "add", "openai", "--managed", "--api-key-stdin"),
                *("--base-url", upstream.base_url),
                stdin=PROVIDER_KEY,
            )
            assert added.returncode == 0, added.stderr
            Books(first).fill()
            wait_until(lambda: ask(first, "GET", "/v1/models").status == 200)
            assert ask(first, "POST", PATH, ASK).status == 200
            first.kill()
            second.keys |= first.keys
            provider.end()
            receipt = Books(second).wait_settled()
            assert receipt.cost_nano == COST_NANO
            Books(second).check(spent=COST_NANO)


def test_official_client_waits_for_a_response_that_takes_its_time(tmp_path: Path) -> None:
    with running_simulated_gateway(tmp_path / "data") as sdk:
        made = sdk.client.responses.create(
            model="gpt-5.4-mini@fault:work=700", input="Hello", background=True
        )
        states = {made.status}
        while made.status in ("queued", "in_progress"):
            made = sdk.client.responses.retrieve(made.id)
            states.add(made.status)
        assert states == {"queued", "in_progress", "completed"}
        (receipt,) = [each for each in sdk.receipts.take() if each.pricing != "free"]
        assert receipt.pricing == "priced"
        assert receipt.usage == usage_of_response(made.usage)


def count_kept(gateway: Gateway) -> int:
    with contextlib.closing(Database(gateway.place)) as database, database.reading() as connection:
        return background.count_running(connection)
