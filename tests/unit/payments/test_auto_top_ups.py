"""Automatic top-ups: one charge for each time that the wallet falls below its threshold."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from headgate.kit import failpoint
from headgate.kit.failpoint import FailpointError
from headgate.settings import FAILPOINTS
from tests.fakes.api import OPERATOR_KEY, Props
from tests.fakes.ledger import SetClock
from tests.fakes.shop import Shop, running_peer, running_shop

AUTO = "/api/wallet/auto-top-up"
JANUARY = 1_800_100_000.0
MASTER_KEY = base64.b64encode(os.urandom(32)).decode()
LEASE = 61.0


@pytest.fixture
def clock() -> SetClock:
    # Stripe signs with the time of this machine, which must not be in the future.
    return SetClock(max(JANUARY, time.time()))


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock) -> Generator[Shop]:
    given = {}
    if request.param == "postgresql":
        given = {
            "database_url": request.getfixturevalue("postgres_url"),
            "master_key": MASTER_KEY,
        }
    with running_shop(tmp_path / "data", Props(clock=clock), **given) as shop:
        yield shop


@pytest.fixture
def shared_shop(tmp_path: Path, clock: SetClock, postgres_url: str) -> Generator[Shop]:
    given = {"database_url": postgres_url, "master_key": MASTER_KEY}
    with running_shop(tmp_path / "data", Props(clock=clock), **given) as shop:
        yield shop


@pytest.fixture
def own_shop(tmp_path: Path, clock: SetClock) -> Generator[Shop]:
    with running_shop(tmp_path / "data", Props(clock=clock)) as shop:
        yield shop


@pytest.fixture(autouse=True)
def unarmed() -> Generator[None]:
    yield
    failpoint.arm()


def enable(shop: Shop, **fields: Any) -> dict[str, Any]:
    body = {"enabled": True, "threshold": "10", "amount": "50", **fields}
    answer = shop.api.patch(AUTO, body)
    assert answer.status == 200, answer.text
    return answer.json


def prepare(shop: Shop, **fields: Any) -> None:
    """Pay $25, save the card, and enable automatic top-ups."""
    shop.pay("25", save_payment_method=True)
    enable(shop, **fields)


def find_orders(shop: Shop) -> list[tuple[str, str]]:
    """Return amount and status of the automatic payments, oldest first."""
    found = shop.api.get("/api/wallet/top-ups").json["payments"]
    return [
        (each["amount"], each["status"]) for each in reversed(found) if each["kind"] == "automatic"
    ]


def find_events(shop: Shop, topic: str) -> list[dict[str, Any]]:
    query = f"SELECT payload FROM outbox WHERE topic = '{topic}' ORDER BY created_at, id"
    return shop.api.read(lambda c: [json.loads(bytes(row[0])) for row in c.exec_driver_sql(query)])


def test_what_was_given_back_is_not_charged_again(own_shop: Shop) -> None:
    prepare(own_shop)
    order = own_shop.api.get("/api/wallet/top-ups").json["payments"][0]
    path = f"/api/platform/organizations/{own_shop.api.organization_id}/refunds"
    body = {"payment_id": order["id"], "amount": "25", "reason": "Unhappy"}
    made = own_shop.api.post(path, body, key=OPERATOR_KEY, organization="")
    assert made.status == 200, made.text
    own_shop.run("top_up")
    assert own_shop.stripe.charged == []
    assert own_shop.api.get(AUTO).json["enabled"] is False
    enable(own_shop)
    own_shop.run("top_up")
    assert own_shop.stripe.charged == [5000]


def test_a_wallet_below_its_threshold_is_topped_up_once(shop: Shop) -> None:
    prepare(shop)
    shop.run("top_up")
    assert shop.stripe.charged == []
    shop.spend(16)
    for _ in range(3):
        shop.run("top_up")
    assert shop.stripe.charged == [5000]
    assert shop.available == "59.00"
    assert find_orders(shop) == [("50.00", "paid")]
    state = shop.api.get("/v1/wallet/auto-top-up", organization="").json
    assert (state["charged_this_month"], state["failures"]) == ("50.00", 0)
    assert [each["kind"] for each in find_events(shop, "wallet.recharged")] == [
        "checkout",
        "automatic",
    ]
    assert [total for _, _, total in shop.invoices()] == [25 * 10**9, 50 * 10**9]
    # Stripe tells of the same payment, too.
    assert shop.send(shop.stripe.events[-1]).json["outcome"] == "already_credited"
    assert shop.available == "59.00"
    shop.spend(50)
    shop.run("top_up")
    assert shop.stripe.charged == [5000, 5000]
    shop.check_ledger()


def test_it_needs_a_saved_payment_method_and_fitting_amounts(own_shop: Shop) -> None:
    shop = own_shop
    body = {"enabled": True, "threshold": "10", "amount": "50"}
    shop.pay("25")
    refused = shop.api.patch(AUTO, body)
    assert (refused.status, refused.json["code"]) == (409, "payment_method_missing")
    shop.pay("25", save_payment_method=True)
    for wrong, field in (
        ({"amount": "4.99"}, "amount"),
        ({"amount": "10000.01"}, "amount"),
        ({"threshold": "0"}, "threshold"),
        ({"monthly_maximum": "49.99"}, "monthly_maximum"),
    ):
        assert shop.api.patch(AUTO, {**body, **wrong}).fields_at_fault == [["body", field]]
    assert shop.api.get(AUTO).json["enabled"] is False
    made = shop.api.patch(AUTO, {**body, "monthly_maximum": "500"}).json
    assert (made["threshold"], made["amount"], made["monthly_maximum"]) == (
        *("10.00", "50.00", "500.00"),
    )
    old = shop.api.patch(AUTO, body, headers={"if-match": '"1"'})
    assert old.status == 412
    kept = shop.api.patch(AUTO, {"enabled": False, "monthly_maximum": None}).json
    assert (kept["threshold"], kept["monthly_maximum"]) == ("10.00", None)
    assert shop.api.patch(AUTO, body, key=shop.api.own.live_key).status in (401, 403)


def test_the_monthly_maximum_holds_and_is_told_once(own_shop: Shop, clock: SetClock) -> None:
    shop = own_shop
    prepare(shop, monthly_maximum="60")
    for _ in range(3):
        shop.spend(60)
        shop.run("top_up")
    assert shop.stripe.charged == [5000]
    [told] = find_events(shop, "wallet.top_up_failed")
    assert told["code"] == "monthly_maximum_reached"
    assert told["enabled"] is True
    clock.time = told["retry_at"] - 1
    shop.run("top_up")
    assert shop.stripe.charged == [5000]
    clock.time = told["retry_at"]
    shop.run("top_up")
    assert shop.stripe.charged == [5000, 5000]


def test_a_declined_card_waits_longer_each_time_and_is_disabled_in_the_end(
    own_shop: Shop, clock: SetClock
) -> None:
    shop = own_shop
    prepare(shop)
    shop.spend(20)
    shop.stripe.decline = "insufficient_funds"
    for minutes in (15, 30, 60, 120, 240):
        shop.run("top_up")
        shop.run("top_up")
        told = find_events(shop, "wallet.top_up_failed")[-1]
        assert told["reason"] == "Your card was declined."
        if told["enabled"]:
            assert told["retry_at"] == clock.time + minutes * 60
            clock.time = told["retry_at"]
    told = find_events(shop, "wallet.top_up_failed")
    assert [each["failures"] for each in told] == [1, 2, 3, 4, 5]
    assert [each["enabled"] for each in told] == [True, True, True, True, False]
    state = shop.api.get(AUTO).json
    assert (state["enabled"], state["last_failure"]) == (False, "Your card was declined.")
    # The events of Stripe about the same declines change nothing.
    for event in [each for each in shop.stripe.events if "failed" in each["type"]]:
        assert shop.send(event).json["outcome"] == "ignored"
    assert "auto_top_up.disabled" in [action for action, _ in shop.api.audited()]
    shop.stripe.decline = ""
    clock.time += 10 * 86_400
    shop.run("top_up")
    assert shop.stripe.charged == []
    enable(shop)
    shop.run("top_up")
    assert shop.stripe.charged == [5000]
    assert shop.api.get(AUTO).json["failures"] == 0


@pytest.mark.parametrize("code", ["stolen_card", "needs_payer", "detached"])
def test_a_method_that_will_never_work_is_not_tried_again(own_shop: Shop, code: str) -> None:
    shop = own_shop
    prepare(shop)
    shop.spend(20)
    if code == "needs_payer":
        shop.stripe.needs_payer = True
    elif code == "detached":
        shop.stripe.detach("pm_card_visa")
    else:
        shop.stripe.decline = code
    shop.run("top_up")
    [told] = find_events(shop, "wallet.top_up_failed")
    assert (told["enabled"], told["retry_at"], told["failures"]) == (False, None, 1)
    assert shop.api.get(AUTO).json["enabled"] is False


def test_a_removed_payment_method_is_forgotten(own_shop: Shop) -> None:
    shop = own_shop
    order = shop.pay("25", save_payment_method=True)
    paid = [each for each in shop.stripe.events if each["type"] == "payment_intent.succeeded"]
    enable(shop)
    removed = shop.stripe.detach("pm_card_visa")
    assert shop.send(removed).json["outcome"] == "method_removed"
    state = shop.api.get(AUTO).json
    assert (state["enabled"], state["has_payment_method"]) == (False, False)
    # A late repetition of the payment does not bring it back.
    assert shop.send({**paid[0], "id": "evt_again"}).status == 200
    assert shop.api.get(AUTO).json["has_payment_method"] is False
    unknown = {**removed, "id": "evt_unknown"}
    assert shop.send(unknown).json["outcome"] == "ignored"
    assert order["kind"] == "checkout"


@pytest.mark.parametrize("point", ["top_up_ordered", "top_up_charged", "top_up_credited"])
def test_a_process_that_dies_at_any_point_charges_once(
    shop: Shop, clock: SetClock, point: str
) -> None:
    prepare(shop)
    shop.spend(20)
    failpoint.arm(f"{point}=raise", FAILPOINTS, test_mode=True)
    with pytest.raises(FailpointError):
        shop.run("top_up")
    failpoint.arm()
    assert find_orders(shop) == [("50.00", "pending")]
    shop.run("top_up")
    assert find_orders(shop) == [("50.00", "pending")], "another process may still work on it"
    clock.time += LEASE
    shop.run("top_up")
    assert shop.stripe.charged == [5000]
    assert shop.available == "55.00"
    assert find_orders(shop) == [("50.00", "paid")]
    shop.check_ledger()


def test_a_lost_answer_charges_once(own_shop: Shop, clock: SetClock) -> None:
    shop = own_shop
    prepare(shop)
    shop.spend(20)
    shop.stripe.loses_answers = True
    shop.run("top_up")
    assert find_orders(shop) == [("50.00", "pending")]
    shop.stripe.loses_answers = False
    clock.time += LEASE
    shop.run("top_up")
    assert shop.stripe.charged == [5000]
    assert shop.available == "55.00"


def test_a_charge_of_which_only_stripe_tells_is_credited_once(
    own_shop: Shop, clock: SetClock
) -> None:
    shop = own_shop
    prepare(shop)
    shop.spend(20)
    failpoint.arm("top_up_charged=raise", FAILPOINTS, test_mode=True)
    with pytest.raises(FailpointError):
        shop.run("top_up")
    failpoint.arm()
    assert shop.send(shop.stripe.events[-1]).json["outcome"] == "credited"
    # Stripe forgets idempotency keys after a day.
    shop.stripe.forget_keys()
    clock.time += 2 * 86_400
    shop.run("top_up")
    assert shop.stripe.charged == [5000]
    assert shop.available == "55.00"


def test_an_answer_that_is_lost_for_days_charges_once(own_shop: Shop, clock: SetClock) -> None:
    shop = own_shop
    prepare(shop)
    shop.spend(20)
    failpoint.arm("top_up_charged=raise", FAILPOINTS, test_mode=True)
    with pytest.raises(FailpointError):
        shop.run("top_up")
    failpoint.arm()
    shop.stripe.forget_keys()
    clock.time += 2 * 86_400
    shop.run("top_up")
    assert shop.stripe.charged == [5000]
    assert shop.available == "55.00"


@pytest.mark.parametrize("is_charged", [False, True])
def test_an_interrupted_payment_that_is_not_needed_any_more_ends(
    own_shop: Shop, clock: SetClock, is_charged: bool
) -> None:
    shop = own_shop
    prepare(shop)
    shop.spend(20)
    point = "top_up_charged" if is_charged else "top_up_ordered"
    failpoint.arm(f"{point}=raise", FAILPOINTS, test_mode=True)
    with pytest.raises(FailpointError):
        shop.run("top_up")
    failpoint.arm()
    shop.api.patch(AUTO, {"enabled": False})
    clock.time += LEASE
    shop.run("top_up")
    status = "paid" if is_charged else "expired"
    assert find_orders(shop) == [("50.00", status)]
    assert shop.stripe.charged == ([5000] if is_charged else [])


def test_a_provider_that_is_down_delays_a_payment(own_shop: Shop, clock: SetClock) -> None:
    shop = own_shop
    prepare(shop)
    shop.spend(20)
    shop.stripe.is_down = True
    shop.run("top_up")
    assert shop.stripe.charged == []
    assert find_events(shop, "wallet.top_up_failed") == []
    shop.stripe.is_down = False
    clock.time += LEASE
    shop.run("top_up")
    assert shop.stripe.charged == [5000]
    assert find_orders(shop) == [("50.00", "paid")]


def test_two_processes_charge_once_for_each_crossing(shared_shop: Shop, clock: SetClock) -> None:
    shop = shared_shop
    prepare(shop, amount="15")
    with running_peer(shop) as peer, ThreadPoolExecutor(2) as pool:
        for number in range(1, 11):
            shop.spend(16 if number == 1 else 15)
            # They die in turns between the charge and the credit.
            if number % 3 == 0:
                failpoint.arm("top_up_charged=raise@1", FAILPOINTS, test_mode=True)
            runs = [pool.submit(each.run, "top_up") for each in (shop, peer, shop, peer)]
            errors = [each.exception() for each in runs]
            failpoint.arm()
            assert {type(each) for each in errors} <= {type(None), FailpointError}
            clock.time += LEASE
            for each in [pool.submit(each.run, "top_up") for each in (shop, peer)]:
                each.result()
            assert shop.stripe.charged == [1500] * number
            assert shop.available == "24.00"
    assert find_orders(shop) == [("15.00", "paid")] * 10
    shop.check_ledger()
