"""Limits of capacity and priority pools over the API."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.relay.capacity_limits import CapacityLimit
from tests.fakes.api import Api

LIMITS = [
    {"period": "minute", "requests": 50, "tokens": 50_000},
    {"period": "day", "tokens": 9, "dimension": "metadata", "dimension_field": "team"},
    {"period": "month", "requests": 1, "enabled": False},
]
POOLS = {
    "pools": [
        {"name": "chat", "rank": 0, "min_reservation": 50, "resources": ["support"]},
        {"name": "batch", "rank": 1, "max_reservation": 50, "keys": ["key_1"]},
    ]
}


@pytest.fixture
def key_path(api: Api) -> str:
    return "/api/api-keys/key_" + api.own.live_key.split("_")[2]


@pytest.fixture
def pools_path(api: Api) -> str:
    return f"/api/projects/{api.own.project_id}/priority-pools"


def find_enforced(api: Api) -> tuple[CapacityLimit, ...]:
    return api.application.key_index.find(api.own.live_key.encode()).capacity


def test_limits_of_a_key_take_effect_and_can_be_switched_off(api: Api, key_path: str) -> None:
    assert (api.get(key_path).json["capacity"], find_enforced(api)) == ([], ())
    changed = api.patch(key_path, {"capacity": LIMITS})
    assert changed.status == 200, changed.text
    assert [each["period"] for each in changed.json["capacity"]] == ["minute", "day", "month"]
    assert changed.json["enforce_capacity"] is True
    assert find_enforced(api) == (
        CapacityLimit("minute", 50, 50_000),
        CapacityLimit("day", None, 9, "metadata", "team"),
    )
    api.patch(key_path, {"enforce_capacity": False})
    assert find_enforced(api) == ()
    assert api.get(key_path).json["capacity"] == changed.json["capacity"]
    made = api.post("/api/api-keys", {"name": "small", "capacity": LIMITS[:1]})
    assert made.json["capacity"][0]["requests"] == 50


@pytest.mark.parametrize(
    "limit",
    [
        {"period": "minute", "requests": 1, "dimension": "metadata"},
        {"period": "minute", "requests": 1, "dimension_field": "team"},
        {"period": "minute", "discovered": True},
        {"period": "year", "requests": 1},
        {"period": "day", "requests": -1},
        {"period": "day", "requests": 1, "dimension": "weather"},
    ],
)
def test_limits_that_contradict_themselves_are_refused(
    api: Api, key_path: str, limit: dict[str, Any]
) -> None:
    answer = api.patch(key_path, {"capacity": [LIMITS[0], limit]})
    assert [loc[:2] for loc in answer.fields_at_fault] == [["body", "capacity"]]
    assert find_enforced(api) == ()


def test_used_capacity_is_shown(api: Api, key_path: str) -> None:
    api.patch(key_path, {"capacity": LIMITS})
    shown = api.get(f"{key_path}/capacity").json["windows"]
    # Of a limit by metadata, the values that were used are shown; none was.
    assert [(each["period"], each["requests_used"]) for each in shown] == [("minute", 0)]
    assert (shown[0]["requests_remaining"], shown[0]["tokens_remaining"]) == (50, 50_000)
    made = api.post(
        "/api/connections",
        {
            "name": "limited",
            "config": {"api_key": "sk-proj-0123456789abcdefghij"},
            "capacity": [{"period": "minute", "discovered": True}, *LIMITS[:1]],
        },
    )
    assert made.status == 201, made.text
    shown = api.get(f"/api/connections/{made.json['id']}/capacity").json["windows"]
    assert [each["requests_limit"] for each in shown] == [50]
    resource = {
        **{"name": "search", "project_id": api.own.project_id, "model": {"model": "gpt-5.4-mini"}},
        **{"capacity": LIMITS[:1], "enforce_capacity": True},
    }
    made_resource = api.post("/api/resources", resource)
    assert made_resource.status == 201, made_resource.text
    path = f"/api/resources/{made_resource.json['id']}/capacity"
    assert [each["tokens_limit"] for each in api.get(path).json["windows"]] == [50_000]
    wrong = {"capacity": [{"period": "day", "discovered": True}]}
    assert api.patch(f"/api/connections/{made.json['id']}", wrong).status == 422


def test_pools_are_set_read_and_removed(api: Api, pools_path: str) -> None:
    assert (api.get(pools_path).status, api.delete(pools_path).status) == (404, 404)
    made = api.put(pools_path, POOLS)
    assert made.status == 200, made.text
    assert made.json["pools"][0]["max_reservation"] == 100
    assert api.get(pools_path).json == made.json
    assert api.own.project_id in api.application.capacity.projects
    changed = api.put(pools_path, {"pools": POOLS["pools"][:1]})
    assert (changed.json["version"], len(changed.json["pools"])) == (2, 1)
    outdated = api.put(pools_path, POOLS, headers={"if-match": made.headers["etag"]})
    assert outdated.status == 412
    assert api.delete(pools_path).status == 204
    assert api.own.project_id not in api.application.capacity.projects
    assert api.get(pools_path).status == 404


def test_pools_that_contradict_each_other_are_refused(api: Api, pools_path: str) -> None:
    twice = {"pools": [POOLS["pools"][0], {**POOLS["pools"][1], "resources": ["support"]}]}
    answer = api.put(pools_path, twice)
    assert answer.fields_at_fault == [["body", "pools", "1", "resources"]]
    assert "'support' is in the pools 'chat' and 'batch'" in answer.text
