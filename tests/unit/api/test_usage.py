"""Usage over the API: sums by fields, time and metadata, for whom they are meant."""

from __future__ import annotations

import csv
import datetime
import io
import sys
from typing import Any

import pytest

from headgate.api.routes import usage as routes
from headgate.llm.usage import Usage
from headgate.metering import store as metering
from headgate.metering.service import usage as service
from headgate.metering.service.roll_up import roll_up_step
from headgate.relay.ports import Receipt
from tests.fakes.api import Api
from tests.fakes.example_receipt import make_receipt

DAY = datetime.datetime(2026, 3, 28, tzinfo=datetime.UTC).timestamp()
RANGE = "start=2026-03-28&end=2026-03-30"


def make(api: Api, number: int, at: float, **changes: Any) -> Receipt:
    fields: dict[str, Any] = {
        "request_id": f"req_{number}",
        "created_at": at,
        "organization_id": api.organization_id,
        "project_id": api.own.project_id,
        "key_id": f"key_{number % 2}",
        "cost_nano": 1_500_000_000,
        "usage": Usage(input_tokens=100, cached_tokens=40, output_tokens=10),
        "total_microseconds": 200_000,
        "metadata": '{"team":"search"}' if number % 2 else "",
    }
    return make_receipt(**(fields | changes))


@pytest.fixture
def filled(api: Api) -> Api:
    """Give the organization six calls on two days, one of them failed, and a correction."""
    receipts = [make(api, number, DAY + number * 3_600) for number in range(4)]
    receipts += [
        make(
            api, 4, DAY + 86_400, model_requested="gpt-5.4", managed=True, credit_nano=500_000_000
        ),
        make(api, 5, DAY + 86_400, outcome="upstream_error", usage=None, cost_nano=0),
        make(
            api, 6, DAY + 86_401, request_id="req_0.c1", outcome="corrected", cost_nano=-500_000_000
        ),
        make(api, 7, DAY, organization_id=api.other.organization_id),
    ]
    with api.application.database.transaction() as connection:
        metering.insert(connection, receipts[:4])
        while roll_up_step(connection, 100):
            pass
        metering.insert(connection, receipts[4:])
    return api


def read(api: Api, query: str, **given: Any) -> Any:
    answer = api.get(f"/v1/usage?{query}", **given)
    assert answer.status == 200, answer.text
    return answer.json


def test_total_counts_calls_and_corrections_in_the_cost(filled: Api) -> None:
    total = read(filled, RANGE)["total"]
    assert (total["requests"], total["completed"], total["errors"]) == (6, 5, 1)
    assert (total["input_tokens"], total["cached_tokens"], total["output_tokens"]) == (500, 200, 50)
    assert total["cost"] == "7.00"
    assert (total["wallet_debit"], total["credits"]) == ("1.00", "0.50")
    assert total["average"] == {
        "cost": "1.166666667",
        "input_tokens": pytest.approx(83.333),
        "output_tokens": pytest.approx(8.333),
    }
    assert total["latency"]["average_ms"] == 200
    assert total["latency"]["p95_ms"] == pytest.approx(200, rel=0.021)


def test_rows_are_grouped_and_empty_periods_are_zeros(filled: Api) -> None:
    report = read(filled, f"{RANGE}&group_by=day,model")
    assert report["group_by"] == ["day", "model"]
    rows = [(row["start"][:10], row["model"], row["requests"]) for row in report["data"]]
    assert rows == [
        ("2026-03-28", "gpt-5.4", 0),
        ("2026-03-28", "gpt-5.4-mini", 4),
        ("2026-03-29", "gpt-5.4", 1),
        ("2026-03-29", "gpt-5.4-mini", 1),
        ("2026-03-30", "gpt-5.4", 0),
        ("2026-03-30", "gpt-5.4-mini", 0),
    ]
    assert report["data"][0]["cost"] == "0.00"
    assert report["data"][0]["latency"]["p50_ms"] is None
    assert "key_id" not in report["data"][0]


def test_days_are_those_of_the_reporting_zone(filled: Api) -> None:
    changed = filled.patch("/api/organization", {"reporting_zone": "America/New_York"})
    assert changed.json["reporting_zone"] == "America/New_York"
    report = read(filled, f"{RANGE}&group_by=day")
    assert (report["time_zone"], report["start"]) == (
        "America/New_York",
        "2026-03-28T00:00:00-04:00",
    )
    assert sum(row["requests"] for row in report["data"]) == report["total"]["requests"] == 2
    other = read(filled, f"{RANGE}&group_by=hour&time_zone=Europe/Berlin&limit=1000")
    assert len(other["data"]) == 71
    assert other["total"]["requests"] == 6


def test_unknown_zone_changes_nothing(api: Api) -> None:
    answer = api.patch("/api/organization", {"reporting_zone": "Mars/Olympus", "name": "Mars"})
    assert answer.fields_at_fault == [["body", "reporting_zone"]]
    shown = api.get("/api/organization").json
    assert (shown["reporting_zone"], shown["name"] == "Mars") == ("UTC", False)


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        ("key_id=key_1", 3),
        ("model=gpt-5.4", 1),
        ("managed=true", 1),
        ("managed=false", 5),
        ("provider=none", 0),
        ("metadata=team:search", 3),
        ("metadata=team:search&key_id=key_0", 0),
    ],
)
def test_filters_narrow_the_sums(filled: Api, query: str, requests: int) -> None:
    assert read(filled, f"{RANGE}&{query}")["total"]["requests"] == requests


def test_metadata_and_other_fields_group_together(filled: Api) -> None:
    report = read(filled, f"{RANGE}&group_by=metadata.team,managed")
    rows = [(row["metadata"], row["managed"], row["requests"]) for row in report["data"]]
    assert rows == [
        ({"team": ""}, False, 2),
        ({"team": ""}, True, 1),
        ({"team": "search"}, False, 3),
    ]


def test_pages_continue_where_the_last_one_ended(filled: Api) -> None:
    query = f"{RANGE}&group_by=day,key"
    whole = read(filled, query)["data"]
    seen: list[Any] = []
    cursor = ""
    while True:
        page = read(filled, f"{query}&limit=1&cursor={cursor}")
        seen += page["data"]
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
    assert seen == whole
    assert len(whole) == 6


def test_default_range_is_the_month_until_now(api: Api) -> None:
    report = read(api, "")
    assert report["start"][8:] == "01T00:00:00Z"
    assert report["data"][0]["requests"] == 0


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("start=2026-03-30&end=2026-03-28", "invalid_range"),
        ("start=2001-01-01&end=2026-03-28", "invalid_range"),
        ("start=1999-01-01", "invalid_range"),
        ("start=yesterday", "invalid_range"),
        ("group_by=colour", "invalid_group"),
        ("group_by=day,hour", "invalid_group"),
        ("group_by=model,model", "invalid_group"),
        ("metadata=team", "invalid"),
        ("time_zone=Nowhere", "unknown_time_zone"),
        ("cursor=x", "invalid_cursor"),
        ("limit=0", "invalid"),
        ("color=red", "unknown_field"),
    ],
)
def test_bad_query_is_refused_by_name(shared_api: Api, query: str, code: str) -> None:
    answer = shared_api.get(f"/v1/usage?{query}")
    assert (answer.status, answer.json["error"]["code"]) == (400, code)
    assert answer.json["error"]["param"] == query.partition("=")[0] or code == "invalid_range"


def test_inference_key_sees_its_own_calls(api: Api) -> None:
    own_id = "key_" + api.own.live_key.split("_")[2]
    with api.application.database.transaction() as connection:
        metering.insert(
            connection,
            [make(api, 1, DAY, key_id=own_id), make(api, 2, DAY), make(api, 3, DAY)],
        )
    own = read(api, f"{RANGE}&group_by=key", key=api.own.live_key, organization="")
    assert [(row["key_id"], row["requests"]) for row in own["data"]] == [(own_id, 1)]
    other = f"{RANGE}&key_id=key_1"
    assert read(api, other, key=api.own.live_key, organization="")["total"]["requests"] == 0
    assert api.get(f"/api/usage?{RANGE}", key=api.own.live_key).status == 403


def test_key_of_one_project_sees_that_project(api: Api) -> None:
    body = {"name": "of one", "kind": "admin", "projects": [api.own.project_id]}
    key = api.post("/api/api-keys", body | {"project_id": api.own.project_id}).json["key"]
    with api.application.database.transaction() as connection:
        metering.insert(connection, [make(api, 1, DAY), make(api, 2, DAY, project_id="proj_else")])
    assert read(api, RANGE)["total"]["requests"] == 2
    assert read(api, RANGE, key=key)["total"]["requests"] == 1
    assert read(api, f"{RANGE}&project_id=proj_else", key=key)["total"]["requests"] == 0


def test_export_has_every_row_in_pieces(filled: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "EXPORTED_ROWS", 2)
    query = f"{RANGE}&group_by=day,model"
    answer = filled.get(f"/v1/usage/export?{query}")
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    shown = read(filled, query)["data"]
    assert [(row["start"], row["model"], int(row["requests"])) for row in rows] == [
        (row["start"].replace("Z", "+00:00"), row["model"], row["requests"]) for row in shown
    ]
    own = filled.get(f"/v1/usage/export?{query}", key=filled.own.live_key, organization="")
    assert own.text.count("\n") == 1
    assert filled.get(f"/api/usage/export?{query}&format=parquet").status == 200


def test_export_tells_errors_before_it_begins(filled: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert filled.get("/v1/usage/export?group_by=colour").code == "invalid_group"
    monkeypatch.setattr(service, "GROUPS_MAX", 1)
    refused = filled.get(f"/v1/usage/export?{RANGE}&group_by=model,key")
    assert (refused.status, refused.code) == (400, "usage_too_large")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    missing = filled.get(f"/v1/usage/export?{RANGE}&format=parquet")
    assert (missing.status, missing.code) == (501, "extra_missing")
