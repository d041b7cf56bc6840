"""Analytics of the dashboard, and the error rate of the last minutes."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.llm.usage import Usage
from headgate.metering import store as metering
from headgate.metering.service.roll_up import roll_up_step
from tests.fakes.api import Api
from tests.fakes.example_receipt import make_receipt

LLM = "/api/dashboard/analytics/llm-usage"


@pytest.fixture
def filled(api: Api) -> Api:
    """Give the organization calls of two models by a known credential, one of them failed."""
    body = {
        "integration_name": "openai",
        "auth_type": "api_key",
        "display_name": "Team key",
        "auth_data": {"api_key": "sk-proj-0123456789abcdefWXYZ"},
    }
    made = api.post("/api/credentials", body)
    assert made.status == 201, made.text
    now = api.application.clock.now()
    common: dict[str, Any] = {
        "organization_id": api.organization_id,
        "project_id": api.own.project_id,
        "credential_id": made.json["credential_id"],
    }
    search = Usage(input_tokens=100, output_tokens=20, tool_calls={"web_search": 3})
    receipts = [
        make_receipt(request_id="req_1", created_at=now - 500, usage=search, **common),
        make_receipt(request_id="req_2", created_at=now - 400, usage=search, **common),
        make_receipt(request_id="req_3", created_at=now - 300, model_requested="gpt-5.4", **common),
        make_receipt(
            request_id="req_4",
            created_at=now - 200,
            outcome="upstream_error",
            status=429,
            usage=None,
            cost_nano=0,
            **common,
        ),
        make_receipt(request_id="req_5", created_at=now - 100, outcome="cancelled", **common),
        make_receipt(
            request_id="req_1.c1", created_at=now - 50, outcome="corrected", cost_nano=9, **common
        ),
        make_receipt(request_id="req_old", created_at=now - 86_400 * 8, **common),
    ]
    with api.application.database.transaction() as connection:
        metering.insert(connection, receipts)
        roll_up_step(connection, 3)
    return api


def read(api: Api, path: str) -> Any:
    answer = api.get(path)
    assert answer.status == 200, answer.text
    assert (answer.json["success"], answer.json["organization_id"]) == (True, api.organization_id)
    return answer.json


def test_usage_of_models_has_calls_and_totals(filled: Api) -> None:
    answer = read(filled, f"{LLM}?period=7d&limit=2&offset=1")
    assert answer["meta"] == {"period": "7d", "limit": 2, "offset": 1, "cached": False}
    data = answer["data"]
    assert [call["request_id"] for call in data["usage"]] == ["req_4", "req_3"]
    assert [call["status"] for call in data["usage"]] == ["error", "success"]
    assert data["usage"][1]["credential_name"] == "Team key"
    assert data["usage"][1]["request_duration"] == 1.2
    totals = {each["model"]: each for each in data["totals"]}
    assert totals["gpt-5.4-mini"]["requests"] == 4
    assert totals["gpt-5.4-mini"]["prompt_tokens"] == 201
    assert totals["gpt-5.4-mini"]["success_rate"] == 0.5
    assert (data["total_requests"], data["success_rate"]) == (5, 0.6)
    assert data["total_cost"] == "0.000021009"
    assert read(filled, f"{LLM}?period=30d")["data"]["total_requests"] == 6


def test_overview_has_credits_wallet_and_usage(filled: Api) -> None:
    data = read(filled, "/api/dashboard/analytics/overview?period=24h")["data"]
    assert (data["plan"], data["used_credit"], data["max_credit"]) == (None, 0, 0)
    assert data["next_reset_date"][8:] == "01T00:00:00Z"
    assert (data["usage"]["requests"], data["success_rate"]) == (5, 0.6)


def test_tools_are_counted_by_name(filled: Api) -> None:
    data = read(filled, "/api/dashboard/analytics/tools")["data"]
    assert data["tools"] == [{"tool": "web_search", "calls": 6, "requests": 2}]
    assert (data["total_calls"], data["is_complete"]) == (6, True)


def test_log_and_users_show_actions(filled: Api) -> None:
    data = read(filled, "/api/dashboard/logs?limit=1")["data"]
    assert data["total"] > 1
    assert [each["action"] for each in data["logs"]] == ["credential.created"]
    users = read(filled, "/api/dashboard/users")["data"]
    assert users["total"] == len(users["users"])


@pytest.mark.parametrize(
    ("query", "requests", "errors"),
    [
        ("", 5, 1),
        ("window_minutes=4", 2, 1),
        ("window_minutes=1", 0, 0),
        ("status_code=429", 5, 1),
        ("status_code=500", 5, 0),
        ("model=gpt-5.4", 1, 0),
        ("key_id=key_none", 0, 0),
    ],
)
def test_error_rate_of_the_last_minutes(
    filled: Api, query: str, requests: int, errors: int
) -> None:
    answer = filled.get(f"/v1/usage/error-rate?{query}", organization="")
    assert answer.status == 200, answer.text
    found = answer.json
    assert (found["requests"], found["errors"]) == (requests, errors)
    assert found["error_rate"] == (errors / requests if requests else 0)


def test_inference_key_sees_the_rate_of_its_own_calls(filled: Api) -> None:
    own = filled.get("/v1/usage/error-rate", key=filled.own.live_key, organization="").json
    assert own["requests"] == 0
    assert filled.get(LLM, key=filled.own.live_key).status == 403
