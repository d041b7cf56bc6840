"""Monthly invoices: their totals are those of the receipts, and each is issued once."""

from __future__ import annotations

import base64
import datetime
import json
import os
from collections import defaultdict
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from headgate.audit.model import SYSTEM
from headgate.billing.model.budgets import end_of_month, name_month, next_month, start_of_month
from headgate.billing.service import ledger as billing
from headgate.billing.service import reconciliation
from headgate.billing.service.ledger import Ledger
from headgate.billing.service.verification import verify
from headgate.kit import failpoint
from headgate.kit.errors import HeadgateError
from headgate.kit.failpoint import FailpointError
from headgate.main.data_plane import build_ledger
from headgate.metering.store.receipts import RECEIPTS
from headgate.payments.model.month import MonthNotClosedError, check_month
from headgate.payments.service.invoices import list_invoices
from headgate.settings import FAILPOINTS
from tests.fakes.api import Props
from tests.fakes.ledger import SetClock, make_hold, make_receipt
from tests.fakes.shop import Shop, running_peer, running_shop

MASTER_KEY = base64.b64encode(os.urandom(32)).decode()
START = datetime.datetime(2027, 1, 5, tzinfo=datetime.UTC).timestamp()
MONTH = "2027-01"
LATER = end_of_month(MONTH) + 601.0
DAY = 86_400.0
NANO = 10**9


@pytest.fixture
def clock() -> SetClock:
    return SetClock(START)


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock) -> Generator[Shop]:
    given: dict[str, str] = {}
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        given = {"database_url": url, "master_key": MASTER_KEY}
    with running_shop(tmp_path / "data", Props(clock=clock), **given) as shop:
        yield shop


@pytest.fixture(autouse=True)
def unarmed() -> Generator[None]:
    yield
    failpoint.arm()


class Caller:
    """Make managed calls in a shop."""

    def __init__(self, shop: Shop, clock: SetClock) -> None:
        api = shop.api
        self._shop = shop
        self._clock = clock
        self.ledger: Ledger = build_ledger(api.application.settings, api.application, api.writer)
        self._number = 0

    def fund(self, dollars: int) -> None:
        self._number += 1
        with self._shop.api.application.database.transaction() as connection:
            billing.fund(
                connection,
                self._shop.api.organization_id,
                amount_nano=dollars * NANO,
                reference=f"fund-{self._number}",
                now=self._clock.now(),
            )

    def call(self, cost_nano: int, **changes: Any) -> str:
        """Make a call that holds twice its cost. Return its request id."""
        request_id = self.open(cost_nano, **changes)
        self.settle()
        return request_id

    def open(self, cost_nano: int, *, project_id: str = "", model: str = "gpt-5.4-nano") -> str:
        self._number += 1
        api = self._shop.api
        # On PostgreSQL, months are those of the database's clock, which a test cannot set.
        self.ledger.adjust_clock(self._clock.now())
        hold = make_hold(
            f"req_{self._number:06d}", max(2 * cost_nano, 1), organization_id=api.organization_id
        )
        self._open = (api.portal.call(self.ledger.hold, hold), cost_nano, project_id, model)
        return hold.request_id

    def settle(self) -> None:
        hold, cost_nano, project_id, model = self._open
        receipt = make_receipt(hold, cost_nano, created_at=self._clock.now())
        changed = {
            "project_id": project_id or self._shop.api.own.project_id,
            "model_requested": model,
        }
        for name, value in changed.items():
            receipt = replace(receipt, **{name: value})
        self._shop.api.portal.call(self.ledger.record, receipt, hold)

    def correct(self, request_id: str, cost_nano: int) -> None:
        with self._shop.api.application.database.transaction() as connection:
            reconciliation.correct(connection, request_id, cost_nano, at=self._clock.now())


def find_months(shop: Shop, **given: Any) -> list[dict[str, Any]]:
    """Return the invoices of months, oldest first."""
    found = shop.api.get("/api/invoices?kind=month", **given).json["invoices"]
    return list(reversed(found))


def subscribe(shop: Shop, plan: str) -> None:
    application = shop.api.application
    with application.database.transaction() as connection:
        application.plans.assign(
            connection, shop.api.organization_id, plan, overage=plan != "free", by=SYSTEM
        )


def test_a_month_is_invoiced_by_project_and_model_once(shop: Shop, clock: SetClock) -> None:
    caller = Caller(shop, clock)
    caller.fund(1000)
    other = shop.api.post("/api/projects", {"name": "Search"}).json["id"]
    caller.call(2 * NANO)
    caller.call(NANO)
    caller.call(3 * NANO, project_id=other)
    wrong = caller.call(4 * NANO, project_id=other, model="gpt-5.4")
    caller.correct(wrong, NANO)
    clock.time = LATER - 2
    shop.run("invoice")
    assert find_months(shop) == [], "ten minutes are left for clocks that differ"
    clock.time = LATER
    caller.call(50 * NANO)
    for _ in range(2):
        shop.run("invoice")
    [invoice] = find_months(shop)
    assert (invoice["kind"], invoice["month"], invoice["status"]) == ("month", MONTH, "paid")
    assert (invoice["total"], invoice["credits"], invoice["wallet"]) == ("7.00", "0.00", "7.00")
    lines = {
        (each["project"], each["model"], each["amount"], each["calls"]) for each in invoice["lines"]
    }
    assert lines == {
        ("Default", "gpt-5.4-nano", "3.00", 2),
        ("Search", "gpt-5.4-nano", "3.00", 1),
        ("Search", "gpt-5.4", "4.00", 1),
        ("Search", "gpt-5.4", "-3.00", 0),
    }
    assert invoice["lines"][0]["project_id"]
    assert shop.api.get(f"/v1/invoices/{invoice['id']}", organization="").json == invoice
    [told] = [each for each in find_events(shop, "invoice.paid") if each["kind"] == "month"]
    assert (told["month"], told["total_nano"]) == (MONTH, 7 * NANO)
    assert shop.api.get("/api/invoices?kind=payment").json["invoices"] == []


def find_events(shop: Shop, topic: str) -> list[dict[str, Any]]:
    query = f"SELECT payload FROM outbox WHERE topic = '{topic}' ORDER BY created_at, id"
    return shop.api.read(lambda c: [json.loads(bytes(row[0])) for row in c.exec_driver_sql(query)])


def test_credits_pay_first_and_the_overage_is_shown(shop: Shop, clock: SetClock) -> None:
    subscribe(shop, "pro")
    caller = Caller(shop, clock)
    granted = shop.api.get("/api/wallet").json["credits"]["granted"]
    caller.fund(1000)
    caller.call(int(float(granted) * NANO) + 5 * NANO)
    clock.time = LATER
    shop.run("invoice")
    [invoice] = find_months(shop)
    assert (invoice["plan"], invoice["credits"], invoice["wallet"]) == ("Pro", granted, "5.00")


def test_a_month_with_an_open_call_waits_for_it(shop: Shop, clock: SetClock) -> None:
    caller = Caller(shop, clock)
    caller.fund(100)
    caller.call(NANO)
    clock.time = end_of_month(MONTH) - 1
    caller.open(2 * NANO)
    clock.time = LATER
    shop.run("invoice")
    assert find_months(shop) == []
    caller.settle()
    shop.run("invoice")
    # It was settled in the next month, whose invoice it is part of.
    assert [each["total"] for each in find_months(shop)] == ["1.00"]
    clock.time = end_of_month("2027-02") + 601
    shop.run("invoice")
    assert [each["total"] for each in find_months(shop)] == ["1.00", "2.00"]


def test_what_is_owed_stays_open_until_it_is_paid(shop: Shop, clock: SetClock) -> None:
    caller = Caller(shop, clock)
    caller.fund(10)
    request_id = caller.call(4 * NANO)
    caller.correct(request_id, 13 * NANO)
    clock.time = LATER
    shop.run("invoice")
    [invoice] = find_months(shop)
    assert (invoice["total"], invoice["due"], invoice["status"]) == ("13.00", "3.00", "open")
    assert invoice["paid_at"] is None
    caller.fund(2)
    shop.run("invoice")
    assert find_months(shop)[0]["status"] == "open"
    caller.fund(1)
    shop.run("invoice")
    assert find_months(shop)[0]["status"] == "paid"
    assert [each["kind"] for each in find_events(shop, "invoice.paid")] == ["month"]
    caller.correct(request_id, 15 * NANO)
    clock.time = end_of_month("2027-02") + 601
    shop.run("invoice")
    assert find_months(shop)[1]["status"] == "open"
    shop.pay("25")
    assert find_months(shop)[1]["status"] == "paid"


def test_months_are_caught_up_and_an_unused_one_has_no_invoice(shop: Shop, clock: SetClock) -> None:
    caller = Caller(shop, clock)
    caller.fund(100)
    shop.run("invoice")
    caller.call(NANO)
    clock.time = start_of_month("2027-03") + DAY
    caller.call(2 * NANO)
    clock.time = start_of_month("2027-05") + DAY
    shop.run("invoice")
    assert [(each["month"], each["total"]) for each in find_months(shop)] == [
        ("2027-01", "1.00"),
        ("2027-03", "2.00"),
    ]


def test_an_invoice_that_fails_leaves_no_gap(shop: Shop, clock: SetClock) -> None:
    caller = Caller(shop, clock)
    caller.fund(100)
    caller.call(NANO)
    clock.time = LATER
    failpoint.arm("mid_invoice=raise", FAILPOINTS, test_mode=True)
    with pytest.raises(FailpointError):
        shop.run("invoice")
    failpoint.arm()
    assert find_months(shop) == []
    shop.run("invoice")
    assert [each["number"] for each in find_months(shop)] == ["INV-000001"]


def test_two_processes_issue_one_invoice_each_without_gaps(
    tmp_path: Path, clock: SetClock, postgres_url: str
) -> None:
    given = {"database_url": postgres_url, "master_key": MASTER_KEY}
    with running_shop(tmp_path / "data", Props(clock=clock), **given) as shop:
        caller = Caller(shop, clock)
        caller.fund(1000)
        month = MONTH
        with running_peer(shop) as peer, ThreadPoolExecutor(4) as pool:
            for _ in range(6):
                caller.call(NANO)
                clock.time = end_of_month(month) + 601
                month = next_month(month)
                runs = [pool.submit(each.run, "invoice") for each in (shop, peer, shop, peer)]
                for each in runs:
                    each.result()
        numbers = [each["number"] for each in find_months(shop)]
        assert numbers == [f"INV-{number:06d}" for number in range(1, 7)]


def test_a_month_that_is_not_over_or_no_month_is_refused(shop: Shop) -> None:
    monthly = shop.api.application.monthly_invoices
    with pytest.raises(MonthNotClosedError):
        shop.api.read(lambda c: monthly.draft(c, shop.api.organization_id, MONTH))
    for text in ("2027-13", "2027-1", "0000-01", "1969-12", "january", "2027-01-01"):
        with pytest.raises(HeadgateError):
            check_month(text)
    assert check_month("1970-01") == "1970-01"


@pytest.mark.parametrize("seed", range(8))
def test_totals_are_those_of_the_receipts_and_of_the_ledger(
    tmp_path: Path, clock: SetClock, seed: int
) -> None:
    """Any workload: calls of projects and models with credits and without, settled in the next
    month, corrected up and down in any later month, funded so that some of it is owed."""
    random = Random(seed)
    with running_shop(tmp_path / "data", Props(clock=clock)) as shop:
        caller = Caller(shop, clock)
        caller.fund(random.choice([1, 20, 100]))
        projects = [shop.api.own.project_id] + [
            shop.api.post("/api/projects", {"name": f"Project {each}"}).json["id"]
            for each in range(2)
        ]
        calls: list[str] = []
        for _ in range(60):
            if random.random() < 0.05:
                subscribe(shop, random.choice(["free", "pro", "max"]))
            if calls and random.random() < 0.25:
                caller.correct(random.choice(calls), random.randrange(5 * NANO))
            else:
                try:
                    request_id = caller.open(
                        random.randrange(NANO),
                        project_id=random.choice(projects),
                        model=random.choice(["gpt-5.4", "gpt-5.4-nano", "text-embedding-3-small"]),
                    )
                except HeadgateError:
                    caller.fund(2)
                    continue
                clock.time += random.choice([0, 0, 3 * DAY])
                caller.settle()
                calls.append(request_id)
            clock.time += random.random() * 3 * DAY
            shop.run("invoice")
        clock.time = end_of_month(name_month(clock.time)) + 601
        shop.run("invoice")
        compare(shop)


def compare(shop: Shop) -> None:
    """Compare the invoices with sums over all receipts that are made here, and with the ledger."""
    costs: dict[str, int] = defaultdict(int)
    credit: dict[str, int] = defaultdict(int)
    groups: dict[tuple[str, str, str], int] = defaultdict(int)
    table = RECEIPTS.c
    rows = shop.api.read(lambda c: list(c.execute(sa.select(RECEIPTS).where(table.managed == 1))))
    for row in rows:
        month = name_month(row.created_at / 1_000_000)
        costs[month] += row.cost_nano
        credit[month] += row.credit_nano
        groups[month, row.project_id, row.model_requested] += row.cost_nano
    invoices = [
        each.invoice
        for each in shop.api.read(
            lambda c: list_invoices(
                c, shop.api.organization_id, kind="month", before=None, limit=100
            )
        )
    ]
    assert {each.month: each.total_nano for each in invoices if each.total_nano} == {
        month: cost for month, cost in costs.items() if cost
    }
    assert {each.month: each.credits_nano for each in invoices} == {
        each.month: credit[each.month] for each in invoices
    }
    lines: dict[tuple[str, str, str], int] = defaultdict(int)
    for each in invoices:
        assert sum(line.amount_nano for line in each.lines) == each.total_nano
        for line in each.lines:
            lines[each.month, line.project_id, line.model] += line.amount_nano
    assert {name: nano for name, nano in lines.items() if nano} == {
        name: nano for name, nano in groups.items() if nano
    }
    name = f"{shop.api.organization_id}:revenue"
    query = f"SELECT balance_nano FROM ledger_accounts WHERE id = '{name}'"
    revenue = shop.api.read(lambda c: c.exec_driver_sql(query).scalar_one())
    assert sum(each.total_nano for each in invoices) == revenue
    assert shop.api.read(verify) == []


def test_calls_whose_receipts_are_deleted_are_invoiced_by_the_ledger(
    tmp_path: Path, clock: SetClock
) -> None:
    given = {"retention_days": "20"}
    with running_shop(tmp_path / "data", Props(clock=clock), **given) as shop:
        subscribe(shop, "pro")
        caller = Caller(shop, clock)
        caller.fund(100)
        caller.call(15 * NANO)
        clock.time = end_of_month(MONTH) - DAY
        caller.call(7 * NANO)
        with shop.api.application.database.transaction() as connection:
            connection.execute(
                sa.delete(RECEIPTS).where(RECEIPTS.c.created_at < int((START + DAY) * 1_000_000))
            )
        clock.time = LATER
        shop.run("invoice")
        [invoice] = find_months(shop)
        assert (invoice["total"], invoice["credits"], invoice["wallet"]) == (
            *("22.00", "20.00", "2.00"),
        )
        assert [(each["amount"], each["calls"]) for each in invoice["lines"]] == [
            ("7.00", 1),
            ("15.00", None),
        ]
