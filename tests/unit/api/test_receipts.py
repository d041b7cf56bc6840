"""Receipts over the API: who sees which, filters, pages, and what explains their amounts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headgate.audit.model import SYSTEM
from headgate.keys.model import KeyKind, KeyRequest
from headgate.metering import store as metering
from headgate.relay.ports import Receipt
from tests.fakes.api import Api, Tenant
from tests.fakes.ledger import NOVEMBER
from tests.fakes.priced_receipts import find_price, make_priced


def store(api: Api, *receipts: Receipt) -> None:
    with api.application.database.transaction() as connection:
        metering.insert(connection, receipts)


def live_id(tenant: Tenant) -> str:
    return "key_" + tenant.live_key.split("_")[2]


def make(api: Api, request_id: str, **changes: Any) -> Receipt:
    own: dict[str, Any] = {
        "organization_id": api.organization_id,
        "project_id": api.own.project_id,
        "key_id": live_id(api.own),
    }
    return make_priced(request_id=request_id, **{**own, **changes})


def list_ids(api: Api, query: str = "", **given: Any) -> list[str]:
    answer = api.get(f"/v1/receipts{query}", **given)
    assert answer.status == 200, answer.text
    return [each["request_id"] for each in answer.json["receipts"]]


def test_receipt_explains_its_amount_line_by_line(api: Api) -> None:
    receipt = make(api, "req_1", metadata='{"team":"a"}', correlation_id="order-7")
    store(api, receipt)
    shown = api.get("/v1/receipts/req_1", organization="").json
    assert shown == api.get("/api/receipts/req_1").json
    assert shown == api.get("/v1/receipts/order-7").json
    assert (shown["cost"], shown["wallet_debit"], shown["total_cost"]) == (
        "0.000872475",
        "0.00",
        "0.000872475",
    )
    assert shown["price_id"] == find_price().id
    assert (shown["metadata"], shown["usage"]["cached_tokens"]) == ({"team": "a"}, 333)
    assert shown["line_items"] == [
        line("input", 668, "0.75", "0.000501"),
        line("cached_input", 333, "0.075", "0.000024975"),
        line("output", 67, "4.50", "0.0003015"),
        line("reasoning", 10, "4.50", "0.000045"),
    ]
    assert shown["rounding"] == "0.00"
    assert shown["recomputation"] == {
        "matches": True,
        "basis": "usage",
        "cost": "0.000872475",
        "problem": None,
        "tier": "default",
        "above_input_tokens": None,
    }
    assert (shown["hold"], shown["entries"], shown["corrections"]) == (None, [], [])
    listed = api.get("/v1/receipts").json["receipts"]
    assert listed == [{name: shown[name] for name in listed[0]}]


def line(name: str, quantity: int, rate: str, amount: str) -> dict[str, Any]:
    return {
        "name": name,
        "unit": "token",
        "quantity": quantity,
        "rate": rate,
        "per": 1_000_000,
        "amount": amount,
    }


def test_inference_key_sees_its_own_receipts_only(api: Api) -> None:
    store(api, make(api, "req_1"), make(api, "req_2", key_id="key_other", correlation_id="c"))
    own = {"key": api.own.live_key, "organization": ""}
    assert list_ids(api, **own) == ["req_1"]
    assert list_ids(api, f"?key_id={live_id(api.own)}", **own) == ["req_1"]
    assert list_ids(api, "?key_id=key_other", **own) == []
    assert api.get("/v1/receipts/req_1", **own).status == 200
    missing = api.get("/v1/receipts/req_none", **own)
    for name in ("req_2", "c"):
        refused = api.get(f"/v1/receipts/{name}", **own)
        assert (refused.status, refused.code) == (404, "not_found")
        assert refused.text == missing.text
    assert api.get("/api/receipts", key=api.own.live_key).status == 403


def test_foreign_organization_sees_nothing(api: Api) -> None:
    store(api, make(api, "req_1", correlation_id="order-7"))
    other = {"key": api.other.key, "organization": api.other.organization_id}
    assert list_ids(api, **other) == []
    for name in ("req_1", "order-7", "req_none"):
        assert api.get(f"/v1/receipts/{name}", **other).code == "not_found"


def make_key(api: Api, **scope: Any) -> dict[str, str]:
    request = KeyRequest(
        name="reader",
        organization_id=api.organization_id,
        project_id=api.own.project_id,
        kind=KeyKind.ADMIN,
        **scope,
    )
    with api.application.database.transaction() as connection:
        key = api.application.keys.create(connection, request, by=SYSTEM)
    with api.application.database.reading() as connection:
        api.application.key_index.load(connection)
    return {"key": key.token, "organization": ""}


def test_management_key_needs_the_permission(api: Api) -> None:
    store(api, make(api, "req_1"))
    assert list_ids(api, **make_key(api, permissions=("receipts:read",))) == ["req_1"]
    refused = api.get("/v1/receipts", **make_key(api, permissions=("keys:read",)))
    assert (refused.status, refused.code) == (403, "forbidden")


def test_management_key_of_a_project_sees_that_project(api: Api) -> None:
    store(api, make(api, "req_1"), make(api, "req_2", project_id="prj_other"))
    limited = make_key(api, projects=(api.own.project_id,))
    assert list_ids(api, **limited) == ["req_1"]
    assert api.get("/v1/receipts/req_2", **limited).status == 404
    assert sorted(list_ids(api)) == ["req_1", "req_2"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?outcome=broken&managed=true", ["req_2"]),
        ("?model=m", ["req_2"]),
        ("?status=502", ["req_2"]),
        ("?cost_min=1", ["req_2"]),
        ("?cost_max=0.5", ["req_1"]),
        ("?metadata=team:a%3Ab", ["req_2"]),
        ("?metadata=team:a", []),
        ("?since=2026-11-18T11:06:41Z", ["req_2"]),
        ("?until=2026-11-18T11:06:41Z", ["req_1"]),
        ("?limit=1", ["req_2"]),
    ],
)
def test_list_is_filtered(api: Api, query: str, found: list[str]) -> None:
    marked = {
        "created_at": NOVEMBER + 1,
        "outcome": "broken",
        "managed": True,
        "model_requested": "m",
        "status": 502,
        "metadata": '{"team":"a:b"}',
    }
    second = msgspec.structs.replace(make(api, "req_2"), cost_nano=10**9, **marked)
    store(api, make(api, "req_1"), second)
    assert list_ids(api, query) == found


def test_pages_are_followed_by_their_cursor(api: Api) -> None:
    store(api, *(make(api, f"req_{n}", created_at=NOVEMBER + n // 3) for n in range(7)))
    seen: list[str] = []
    cursor = ""
    while True:
        page = api.get(f"/v1/receipts?limit=3{cursor}").json
        seen += [each["request_id"] for each in page["receipts"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [f"req_{n}" for n in reversed(range(7))]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("cursor=x", "cursor"),
        ("outcome=fine", "outcome"),
        ("managed=perhaps", "managed"),
        ("cost_min=-1", "cost_min"),
        ("metadata=team", "metadata"),
        ("since=yesterday", "since"),
        ("limit=501", "limit"),
        ("wat=1", "wat"),
    ],
)
def test_filter_that_cannot_be_read_is_named(api: Api, query: str, param: str) -> None:
    refused = api.get(f"/v1/receipts?{query}")
    assert (refused.status, refused.json["error"]["param"]) == (400, param)


def test_receipts_are_recomputed_page_by_page(api: Api) -> None:
    store(api, *(make(api, f"req_{n}", created_at=NOVEMBER + n) for n in range(5)))
    store(api, make(api, "req_foreign", organization_id=api.other.organization_id, cost_nano=1))
    tampered = make(api, "req_9", created_at=NOVEMBER + 9, cost_nano=1)
    store(api, tampered)
    found: list[Any] = []
    recomputed, cursor = 0, ""
    while True:
        page = api.get(f"/api/receipts/recomputation?limit=2{cursor}").json
        recomputed += page["receipts"]
        found += page["differences"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert recomputed == 6
    assert [each["request_id"] for each in found] == ["req_9"]
    assert (found[0]["cost"], found[0]["recomputed_cost"]) == ("0.000000001", "0.000872475")
    earlier = api.get("/api/receipts/recomputation?until=2026-11-18T11:06:45Z").json
    assert earlier == {"receipts": 5, "differences": [], "next_cursor": None}
    limited = make_key(api, projects=(api.own.project_id,))
    limited["organization"] = api.organization_id
    assert api.get("/api/receipts/recomputation", **limited).status == 403
