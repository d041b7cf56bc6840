"""The wallet's operations: reading, settings, top-ups, the provider's messages, refunds."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import exc

from headgate.billing.service import ledger, wallet
from headgate.kit.money import NANO_PER_DOLLAR
from tests.fakes.api import OPERATOR_KEY, Api
from tests.fakes.shop import CALLBACK, Shop, running_shop


@pytest.fixture
def shop(tmp_path: Path) -> Generator[Shop]:
    with running_shop(tmp_path / "data") as shop:
        yield shop


def grant(api: Api, dollars: int) -> None:
    with api.application.database.transaction() as connection:
        ledger.fund(
            connection,
            api.organization_id,
            amount_nano=dollars * NANO_PER_DOLLAR,
            reference="start",
            now=1.0,
        )


def test_a_wallet_shows_what_it_has_and_every_change_by_cursor(api: Api) -> None:
    fresh = api.get("/api/wallet").json
    assert (fresh["available"], fresh["held"], fresh["debt"]) == ("0.00", "0.00", "0.00")
    grant(api, 10)
    operator = {"key": OPERATOR_KEY, "organization": ""}
    path = f"/api/platform/organizations/{api.organization_id}/adjustments"
    body = {"amount": "-2.5", "reason": "Wrong grant", "reference": "a-1"}
    assert api.post(path, body, **operator).json["available"] == "7.50"
    assert api.get("/v1/wallet", organization="").json["available"] == "7.50"
    first = api.get("/api/wallet/entries?limit=1").json
    [entry] = first["entries"]
    assert (entry["kind"], entry["amount"], entry["reference"]) == ("adjustment", "-2.50", "a-1")
    rest = api.get(f"/api/wallet/entries?cursor={first['next_cursor']}").json
    assert [each["kind"] for each in rest["entries"]] == ["grant"]
    assert rest["next_cursor"] is None


def test_an_adjustment_is_made_once_has_a_reason_and_becomes_debt_beyond_the_wallet(
    api: Api,
) -> None:
    grant(api, 1)
    path = f"/api/platform/organizations/{api.organization_id}/adjustments"
    body = {"amount": "-3", "reason": "Chargeback", "reference": "cb-1"}
    operator = {"key": OPERATOR_KEY, "organization": ""}
    made = api.post(path, body, **operator)
    assert (made.status, made.json["created"]) == (201, True)
    assert (made.json["available"], made.json["debt"]) == ("0.00", "2.00")
    assert api.post(path, body, **operator).json["created"] is False
    other = api.post(path, {**body, "amount": "-4"}, **operator)
    assert other.status in (409, 422), other.text
    assert api.post(path, {**body, "reason": " ", "reference": "x"}, **operator).status == 422
    assert api.post(path, body).status == 403
    paid = api.post(path, {"amount": "5", "reason": "Goodwill", "reference": "g"}, **operator)
    assert (paid.json["available"], paid.json["debt"]) == ("3.00", "0.00")
    assert api.read(ledger.find_inconsistencies) == []
    assert [action for action, _ in api.audited()].count("wallet.adjusted") == 2


def test_without_a_provider_a_top_up_says_what_is_missing(api: Api) -> None:
    refused = api.post("/api/wallet/top-ups", {"amount": "25"})
    assert (refused.status, refused.json["code"]) == (409, "payments_not_configured")
    assert api.post(CALLBACK, content=b"{}", key="", organization="").status == 409


def test_a_paid_top_up_is_credited_once_with_its_invoice_and_events(shop: Shop) -> None:
    order = shop.start()
    assert order["status"] == "pending"
    assert order["url"].startswith("https://checkout.stripe.com/")
    events = shop.stripe.pay(order["session_id"])
    assert shop.available == "0.00"
    outcomes = [shop.send(event).json["outcome"] for event in [*events, *events]]
    assert outcomes == ["credited", "already_credited", "duplicate", "duplicate"]
    assert shop.available == "25.00"
    assert shop.api.get(f"/api/wallet/top-ups/{order['id']}").json["status"] == "paid"
    assert shop.invoices() == [("INV-000001", "payment", 25 * NANO_PER_DOLLAR)]
    assert sorted(shop.topics()) == ["invoice.paid", "wallet.recharged"]
    assert shop.actions(order["id"]) == ["top_up.created", "top_up.paid"]
    assert shop.stripe.versions == {"2026-10-28.endive"}
    shop.check_ledger()


def test_messages_in_another_order_end_in_the_same_balance(shop: Shop) -> None:
    order = shop.start()
    intent_paid, session_paid = shop.stripe.pay(order["session_id"])
    intent_id = intent_paid["data"]["object"]["id"]
    refunded = shop.stripe.refund(intent_id, 1000)
    early = shop.send(refunded)
    assert (early.status, early.json["code"]) == (409, "payment_not_known_yet")
    assert shop.send(session_paid).json["outcome"] == "credited"
    assert shop.send(refunded).json["outcome"] == "refunded"
    assert shop.send(intent_paid).json["outcome"] == "already_credited"
    assert shop.available == "15.00"
    shop.check_ledger()


def test_a_repeated_request_gets_the_same_order_and_page(shop: Shop) -> None:
    headers = {"idempotency-key": "one"}
    first = shop.api.post("/api/wallet/top-ups", {"amount": "25"}, headers=headers)
    again = shop.api.post("/api/wallet/top-ups", {"amount": "25"}, headers=headers)
    assert first.json == again.json
    other = shop.api.post("/api/wallet/top-ups", {"amount": "26"}, headers=headers)
    assert (other.status, other.json["code"]) == (409, "idempotency_key_reused")
    assert len(shop.stripe.all("checkout.session")) == 1


def test_a_provider_that_fails_leaves_an_order_that_a_repetition_continues(shop: Shop) -> None:
    headers = {"idempotency-key": "one"}
    shop.stripe.is_down = True
    failed = shop.api.post("/api/wallet/top-ups", {"amount": 25}, headers=headers)
    assert (failed.status, failed.json["code"]) == (502, "payment_provider_failed")
    shop.stripe.is_down = False
    order = shop.api.post("/api/wallet/top-ups", {"amount": 25}, headers=headers).json
    assert order["url"]
    assert len(shop.api.get("/api/wallet/top-ups").json["payments"]) == 1
    assert len(shop.stripe.all("customer")) == 1


@pytest.mark.parametrize("amount", ["4.99", "10000.01", "0", "25.001", "abc", "-5"])
def test_an_amount_outside_the_limits_is_refused(shop: Shop, amount: str) -> None:
    refused = shop.api.post("/api/wallet/top-ups", {"amount": amount})
    assert refused.fields_at_fault == [["body", "amount"]]
    assert shop.stripe.requests == []


def alter(event: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return another event about an altered object."""
    found = {**event["data"]["object"], **fields}
    return {**event, "id": f"{event['id']}_altered", "data": {"object": found}}


@pytest.mark.parametrize(
    "fields",
    [
        {"amount_total": 2499},
        {"amount_total": 250_000},
        {"currency": "eur"},
        {"amount_total": 0},
    ],
)
def test_a_payment_that_does_not_fit_its_order_is_refused_and_audited(
    shop: Shop, fields: dict[str, Any]
) -> None:
    order = shop.start()
    _, paid = shop.stripe.pay(order["session_id"])
    for _ in range(2):
        refused = shop.send(alter(paid, **fields))
        assert (refused.status, refused.json["code"]) == (422, "payment_mismatch")
    assert shop.available == "0.00"
    assert shop.actions(order["id"]) == ["top_up.created", "top_up.refused"]


def test_a_payment_of_another_order_or_provider_is_refused(shop: Shop) -> None:
    one, two = shop.start(), shop.start()
    paid, session_paid = shop.stripe.pay(one["session_id"])
    assert shop.send(paid).json["outcome"] == "credited"
    stolen = alter(session_paid, client_reference_id=two["id"])
    assert shop.send(stolen).json["code"] == "payment_mismatch"
    with shop.api.application.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE payment_orders SET provider = 'other'")
    _, paid_two = shop.stripe.pay(two["session_id"])
    assert shop.send(paid_two).json["code"] == "payment_mismatch"
    assert shop.available == "25.00"


def test_an_unpaid_foreign_or_unknown_message_changes_nothing(shop: Shop) -> None:
    order = shop.start()
    _, paid = shop.stripe.pay(order["session_id"])
    unpaid = alter(paid, payment_status="unpaid")
    foreign = alter(paid, client_reference_id="pay_of_somebody_else")
    unknown = {**paid, "id": "evt_x", "type": "customer.created"}
    for event in (unpaid, {**foreign, "id": "evt_y"}, unknown):
        assert shop.send(event).json["outcome"] == "ignored"
    assert shop.available == "0.00"


def test_a_message_without_a_good_signature_is_refused(shop: Shop) -> None:
    order = shop.start()
    _, paid = shop.stripe.pay(order["session_id"])
    raw, signature = shop.stripe.sign(paid)
    attempts = [
        shop.send(paid, secret="whsec_another_secret_of_24_bytes"),
        shop.send(paid, age_seconds=301),
        shop.send(paid, age_seconds=-400),
        shop.send(paid, secret=""),
        shop.send_raw(raw, ""),
        shop.send_raw(raw, "t=,v1="),
        # The same JSON, written again.
        shop.send_raw(raw.replace(b"\n", b""), signature),
        shop.send_raw(raw.replace(b"2500", b"9900"), signature),
    ]
    assert [(each.status, each.json["code"]) for each in attempts] == [
        (400, "invalid_signature")
    ] * len(attempts)
    assert shop.available == "0.00"
    assert shop.send(paid, age_seconds=290).json["outcome"] == "credited"


def test_messages_at_the_same_time_credit_once(shop: Shop) -> None:
    order = shop.start()
    events = shop.stripe.pay(order["session_id"])
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(shop.send, events * 16))
    outcomes = [each.json["outcome"] for each in answers]
    assert outcomes.count("credited") == 1
    assert shop.available == "25.00"
    assert len(shop.invoices()) == 1
    shop.check_ledger()


def test_an_expired_page_ends_the_order_and_late_money_is_still_credited(shop: Shop) -> None:
    order = shop.start()
    assert shop.send(shop.stripe.expire(order["session_id"])).json["outcome"] == "expired"
    assert shop.api.get(f"/api/wallet/top-ups/{order['id']}").json["url"] is None
    _, paid = shop.stripe.pay(order["session_id"])
    assert shop.send(paid).json["outcome"] == "credited"
    assert shop.available == "25.00"


def spend(api: Api, dollars: int) -> None:
    """Take money out of the wallet, as calls would."""
    with api.application.database.transaction() as connection:
        wallet.debit(
            connection,
            f"adjustment:{api.organization_id}:spent",
            api.organization_id,
            target="adjustments",
            amount_nano=dollars * NANO_PER_DOLLAR,
            now=1.0,
        )


def test_a_refund_by_the_operator_takes_what_is_there_and_the_rest_becomes_debt(
    shop: Shop,
) -> None:
    order = shop.start()
    for event in shop.stripe.pay(order["session_id"]):
        shop.send(event)
    spend(shop.api, 20)
    path = f"/api/platform/organizations/{shop.api.organization_id}/refunds"
    body = {"payment_id": order["id"], "amount": "15", "reason": "Unhappy"}
    made = shop.api.post(path, body, key=OPERATOR_KEY, organization="")
    assert (made.status, made.json["refunded"]) == (200, "15.00")
    balance = shop.api.get("/api/wallet").json
    assert (balance["available"], balance["debt"]) == ("0.00", "10.00")
    # Stripe tells of the same refund, too.
    assert shop.send(shop.stripe.events[-1]).json["outcome"] == "ignored"
    too_much = shop.api.post(path, {**body, "amount": "11"}, key=OPERATOR_KEY, organization="")
    assert too_much.fields_at_fault == [["body", "amount"]]
    rest = {"payment_id": order["id"], "reason": "All"}
    assert shop.api.post(path, rest, key=OPERATOR_KEY, organization="").json["refunded"] == "25.00"
    assert [kind for _, kind, _ in shop.invoices()] == ["payment", "credit_note", "credit_note"]
    assert sum(total for _, _, total in shop.invoices()) == 0
    foreign = shop.api.post(
        path.replace(shop.api.organization_id, shop.api.other.organization_id),
        rest,
        key=OPERATOR_KEY,
        organization="",
    )
    assert foreign.status == 404
    again = shop.start()
    for event in shop.stripe.pay(again["session_id"]):
        shop.send(event)
    balance = shop.api.get("/api/wallet").json
    assert (balance["available"], balance["debt"]) == ("5.00", "0.00")
    shop.check_ledger()


def test_a_disputed_payment_is_taken_back_and_given_again_when_won(shop: Shop) -> None:
    order = shop.start()
    paid, _ = shop.stripe.pay(order["session_id"])
    shop.send(paid)
    intent_id = paid["data"]["object"]["id"]
    disputed = shop.stripe.dispute(intent_id, 2500)
    assert [shop.send(disputed).json["outcome"] for _ in range(2)] == ["disputed", "duplicate"]
    assert shop.available == "0.00"
    won = shop.stripe.dispute(intent_id, 2500, won=True)
    assert shop.send(won).json["outcome"] == "dispute_won"
    assert shop.available == "25.00"
    assert sum(total for _, _, total in shop.invoices()) == 25 * NANO_PER_DOLLAR
    shop.check_ledger()


def test_the_links_lead_to_the_pages_of_the_provider(shop: Shop) -> None:
    early = shop.api.post("/api/customer-portal")
    assert (early.status, early.json["code"]) == (409, "no_customer_yet")
    link = shop.api.post("/api/checkout-link", {})
    assert link.json["url"].startswith("https://checkout.stripe.com/")
    portal = shop.api.post("/api/customer-portal")
    assert portal.json["url"].startswith("https://billing.stripe.com/")


def test_payments_belong_to_their_organization(shop: Shop) -> None:
    order = shop.start()
    path = f"/api/wallet/top-ups/{order['id']}"
    other = shop.api.other
    foreign = shop.api.get(path, key=other.key, organization=other.organization_id)
    assert foreign.status == 404
    listed = shop.api.get("/api/wallet/top-ups", key=other.key, organization=other.organization_id)
    assert listed.json["payments"] == []


def test_an_invoice_is_read_with_the_address_of_its_time_and_never_changes(shop: Shop) -> None:
    billing = {"name": "Acme Inc.", "address": "1 Main Street", "tax_id": "DE123"}
    assert shop.api.patch("/api/wallet", {"billing": billing}).json["billing"] == billing
    order = shop.start()
    for event in shop.stripe.pay(order["session_id"]):
        shop.send(event)
    shop.api.patch("/api/wallet", {"billing": {**billing, "name": "Other"}})
    [invoice] = shop.api.get("/api/invoices").json["invoices"]
    assert (invoice["number"], invoice["status"]) == ("INV-000001", "paid")
    assert (invoice["total"], invoice["customer"]) == ("25.00", billing)
    assert shop.api.get(f"/api/invoices/{invoice['id']}").json == invoice
    with pytest.raises(exc.IntegrityError), shop.api.application.database.transaction() as c:
        c.exec_driver_sql("UPDATE invoices SET total_nano = 0")


def test_an_invoice_is_served_as_pdf(shop: Shop) -> None:
    shop.pay("25")
    [invoice] = shop.api.get("/v1/invoices", organization="").json["invoices"]
    for path in (f"/api/invoices/{invoice['id']}/pdf", f"/v1/invoices/{invoice['id']}/pdf"):
        answer = shop.api.get(path)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/pdf")
        assert answer.headers["content-disposition"] == 'attachment; filename="INV-000001.pdf"'
        assert answer.text.startswith("%PDF-")
    other = shop.api.other
    path = f"/api/invoices/{invoice['id']}/pdf"
    foreign = shop.api.get(path, key=other.key, organization=other.organization_id)
    assert foreign.status == 404
