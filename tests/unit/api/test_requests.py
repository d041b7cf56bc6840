"""The request log over the API: who sees which request, filters, pages, bodies, settings."""

from __future__ import annotations

import datetime
from typing import Any, NoReturn

import pytest

from headgate.audit.model import SYSTEM
from headgate.keys.model import InvalidApiKeyError, KeyKind, KeyRequest
from headgate.llm.usage import ParsedUsage
from headgate.relay.call_state import CallState
from headgate.relay.targets import CallRoute, Target
from headgate.request_log.model.entry import MICROSECONDS, RequestList
from headgate.request_log.service import tail
from tests.fakes.api import Api
from tests.fakes.example_receipt import make_receipt
from tests.fakes.ledger import NOVEMBER
from tests.fakes.pipeline import make_call
from tests.fakes.requests import ANSWERED, keep_request

SECOND = MICROSECONDS


def keep(api: Api, *rows: dict[str, Any]) -> None:
    with api.application.database.transaction() as connection:
        for row in rows:
            keep_request(api.application, connection, api.own, **row)


def show_time(seconds: int) -> str:
    at = datetime.datetime.fromtimestamp(NOVEMBER + seconds, datetime.UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def list_ids(api: Api, query: str = "", **given: Any) -> list[str]:
    answer = api.get(f"/api/requests{query}", **given)
    assert answer.status == 200, answer.text
    return [each["id"] for each in answer.json["requests"]]


def restrict_key(api: Api, *permissions: str, projects: tuple[str, ...] = ()) -> str:
    with api.application.database.transaction() as connection:
        request = KeyRequest(
            name="narrow",
            organization_id=api.organization_id,
            project_id=projects[0] if projects else api.own.project_id,
            kind=KeyKind.ADMIN,
            permissions=permissions,
            projects=projects,
        )
        issued = api.application.keys.create(connection, request, by=SYSTEM)
        api.application.key_index.load(connection)
    return issued.token


def test_request_shows_what_happened(api: Api) -> None:
    events = (
        '[{"type":"fallback","at":1761955200.0,"failed_model":"gpt-5.4","status":500,'
        '"attempts":2,"failed_credential":"first","reason":"500"}]'
    )
    keep(
        api,
        {
            "events": events,
            "usage": '{"input_tokens":9}',
            "cost_nano": 1_500,
            "total_microseconds": 20_500,
            "gate_microseconds": 300,
            "metadata": '{"team":"a"}',
            "client_address": "203.0.113.7",
        },
    )
    shown = api.get("/api/requests/req_1").json
    assert [shown] == api.get("/api/requests").json["requests"]
    [event] = shown["events"]
    assert (event["type"], event["failed_model"], event["attempts"]) == ("fallback", "gpt-5.4", 2)
    assert event["at"] == "2025-11-01T00:00:00Z"
    assert "routed_model" not in event
    assert (shown["cost"], shown["usage"], shown["metadata"]) == (
        "0.0000015",
        {"input_tokens": 9},
        {"team": "a"},
    )
    assert (shown["latency"]["total_ms"], shown["latency"]["gate_ms"]) == (20.5, 0.3)
    assert shown["latency"]["upstream_ms"] is None
    assert (shown["error_code"], shown["has_payload"]) == (None, True)


def test_filters_and_pages(api: Api) -> None:
    start = int(NOVEMBER * MICROSECONDS)
    rows: list[dict[str, Any]] = [
        {"id": "req_1", "resource_id": "res_1", "resource_name": "fast"},
        {"id": "req_2", "status": 429, "outcome": "refused", "error_code": "rate_limited"},
        {"id": "req_3", "correlation_id": "order-7", "metadata": '{"team":"a","x":"1"}'},
        {"id": "req_4", "outcome": "broken", "streamed": 1, "total_microseconds": 9_000_000},
        {"id": "req_5", "endpoint": "messages", "model_served": "gpt-5.4-2026-03-05"},
    ]
    keep(api, *({**row, "created_at": start + at * SECOND} for at, row in enumerate(rows)))
    assert list_ids(api) == ["req_5", "req_4", "req_3", "req_2", "req_1"]
    for query, expected in {
        "?resource=fast": ["req_1"],
        "?resource=res_1": ["req_1"],
        "?status=429": ["req_2"],
        "?failed=true": ["req_4", "req_2"],
        "?failed=false": ["req_5", "req_3", "req_1"],
        "?error_code=rate_limited": ["req_2"],
        "?correlation_id=order-7": ["req_3"],
        "?metadata=team:a": ["req_3"],
        "?metadata=team:b": [],
        "?streamed=true": ["req_4"],
        "?total_ms_min=5000": ["req_4"],
        "?endpoint=messages": ["req_5"],
        "?model=gpt-5.4-2026-03-05": ["req_5"],
        "?model=openai/gpt-5.4-mini": [],
        f"?project_id={api.own.project_id}&outcome=refused": ["req_2"],
        f"?since={show_time(3)}": ["req_5", "req_4"],
        f"?until={show_time(1)}": ["req_1"],
    }.items():
        assert list_ids(api, query) == expected, query
    seen: list[str] = []
    cursor = ""
    while True:
        page = api.get(f"/api/requests?limit=2{cursor}").json
        seen += [each["id"] for each in page["requests"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ["req_5", "req_4", "req_3", "req_2", "req_1"]
    assert api.get("/api/requests?cursor=x").status == 422


def test_bodies_need_a_permission_of_their_own_and_can_be_deleted(api: Api) -> None:
    keep(api, {})
    reader = restrict_key(api, "requests:read")
    assert list_ids(api, key=reader) == ["req_1"]
    assert api.get("/api/requests/req_1/payload", key=reader).status == 403
    shown = api.get("/api/requests/req_1/payload").json
    assert shown["request"]["json"]["messages"] == [{"role": "user", "content": "hi"}]
    assert (shown["response"]["bytes"], shown["response"]["is_exact"]) == (len(ANSWERED), True)
    assert shown["provider_request"] is None
    assert api.delete("/api/requests/req_1/payload").status == 204
    assert api.get("/api/requests/req_1/payload").code == "not_found"
    assert api.get("/api/requests/req_1").json["has_payload"] is False
    assert ("request_payload.deleted", "req_1") in api.audited()


def test_key_of_a_project_sees_its_requests_only(api: Api) -> None:
    other = api.post("/api/projects", {"name": "Second"}).json["id"]
    keep(api, {}, {"id": "req_2", "project_id": other})
    narrow = restrict_key(api, projects=(other,))
    assert list_ids(api, key=narrow) == ["req_2"]
    assert api.get("/api/requests/req_1", key=narrow).status == 404
    assert api.get(f"/api/projects/{api.own.project_id}/request-log", key=narrow).status == 404


def test_project_chooses_what_it_keeps(api: Api) -> None:
    path = f"/api/projects/{api.own.project_id}/request-log"
    index = api.application.request_log_index
    before = api.get(path)
    assert (before.json["mode"], before.json["version"]) == ("off", 0)
    assert api.own.project_id not in index.projects
    changed = api.patch(path, {"mode": "full"})
    assert changed.json == {
        "project_id": api.own.project_id,
        "mode": "full",
        "retention_days": 30,
        "version": 1,
    }
    assert api.own.project_id in index.projects
    assert index.find(api.own.project_id).mode == "full"
    assert api.patch(path, {"mode": "off"}, headers={"if-match": '"7"'}).status == 412
    assert api.patch(path, {"mode": "some"}).fields_at_fault == [["body", "mode"]]
    assert api.patch(path, {"retention_days": 0}).fields_at_fault == [["body", "retention_days"]]
    assert api.patch(path, {"mode": "off", "retention_days": 7}).json["version"] == 2
    assert api.own.project_id not in index.projects
    assert ("request_log.changed", api.own.project_id) in api.audited()


@pytest.mark.parametrize("query", ["?seconds=5", "?seconds=5&failed=true"])
def test_tail_is_a_stream_of_events(api: Api, query: str) -> None:
    answer = api.get(f"/api/requests/tail{query}")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_tail_ends_when_its_key_is_revoked(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, service = restrict_key(api, "requests:read"), api.application.request_log
    reads: list[Any] = []
    select = service.list

    def refuse(token: bytes) -> NoReturn:
        raise InvalidApiKeyError("revoked")

    def read(*asked: Any, **options: Any) -> RequestList:
        reads.append(asked)
        monkeypatch.setattr(api.application.key_index, "find", refuse)
        return select(*asked, **options)

    monkeypatch.setattr(service, "list", read)
    # The usual one of tests is none, since their transport waits for the end of an answer.
    monkeypatch.setattr(tail.RequestTails, "_seconds_max", property(lambda _: 600), raising=False)
    monkeypatch.setattr(tail, "CHECK_POLLS", 1)
    monkeypatch.setattr(tail, "POLL_SECONDS", 0.0)
    assert api.get("/api/requests/tail?seconds=600", key=reader).status == 200
    assert len(reads) == 1


def test_replay_needs_a_permission_and_is_audited(api: Api) -> None:
    keep(api, {})
    reader = restrict_key(api, "requests:read", "request_payloads:read")
    assert api.post("/api/requests/req_1/replay", {}, key=reader).status == 403
    answer = api.post("/api/requests/req_1/replay", {"target": "provider"})
    assert (answer.status, answer.code) == (503, "replay_target_missing")
    assert ("request.replayed", "req_1") in api.audited()
    assert api.post("/api/requests/req_1/replay", {"target": "nobody"}).status == 422
    assert api.post("/api/requests/req_9/replay", {}).status == 404


def test_error_rate_of_a_resource_counts_each_attempt(api: Api) -> None:
    body = {"project_id": api.own.project_id, "name": "fast", "model": {"model": "gpt-5.4-mini"}}
    resource_id = api.post("/api/resources", body).json["id"]
    call = make_call()
    call.route = CallRoute("fast", (Target("gpt-5.4-mini"),), resource_id=resource_id)
    for status in (200, 200, 200, 503):
        outcome = "completed" if status == 200 else "upstream_error"
        receipt = make_receipt(
            project_id=api.own.project_id, attempts=1, status=status, outcome=outcome
        )
        api.application.error_rates.observe(CallState(call, ParsedUsage()), receipt)
    path = f"/api/resources/{resource_id}/error-rate"
    assert api.get(path).json == {
        "window_minutes": 10,
        "attempts": 4,
        "failed": 1,
        "error_rate": 0.25,
    }
    assert api.get(f"{path}?status_code=500").json["error_rate"] == 0.0
    assert api.get(f"{path}?model=another").json["attempts"] == 0
