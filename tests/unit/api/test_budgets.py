"""Budgets over the API: set, read, listed, removed, each with what is used of it."""

from __future__ import annotations

import pytest

from tests.fakes.api import Api

ORGANIZATION = "/api/budgets/organization"


@pytest.fixture
def paths(api: Api) -> list[str]:
    key_id = "key_" + api.own.live_key.split("_")[2]
    project = f"/api/budgets/projects/{api.own.project_id}"
    return [ORGANIZATION, project, f"/api/budgets/keys/{key_id}"]


def test_budget_is_set_read_listed_and_removed(api: Api, paths: list[str]) -> None:
    for path in paths:
        assert api.get(path).status == 404
        made = api.put(path, {"limit": "2.5", "managed_only": True, "thresholds": [90]})
        assert made.status == 200, made.text
        shown = made.json
        assert (shown["limit"], shown["used"], shown["held"], shown["remaining"]) == (
            "2.50",
            "0.00",
            "0.00",
            "2.50",
        )
        assert (shown["managed_only"], shown["thresholds"]) == (True, [90])
        assert shown["used_percent"] == 0.0
        assert shown["resets_at"][8:] == "01T00:00:00Z"
        assert api.get(path).json == shown
    listed = api.get("/api/budgets").json
    assert [each["scope"] for each in listed["budgets"]] == ["organization", "project", "key"]
    assert api.get("/api/budgets?scope=key").json["total"] == 1
    assert api.get("/api/budgets?limit=1&offset=1").json["budgets"] == listed["budgets"][1:2]
    for path in paths:
        assert api.delete(path).status == 204
        assert (api.get(path).status, api.delete(path).status) == (404, 404)
    assert api.get("/api/budgets").json["budgets"] == []


def test_budget_takes_effect_before_the_answer(api: Api, paths: list[str]) -> None:
    for path in paths:
        api.put(path, {"limit": "1"})
    index = api.application.budgets
    assert api.organization_id in index.organizations
    for path in paths:
        api.delete(path)
    assert api.organization_id not in index.organizations


def test_version_that_was_read_can_be_named(api: Api, paths: list[str]) -> None:
    for path in paths:
        first = api.put(path, {"limit": "1"})
        etag = first.headers["etag"]
        assert api.put(path, {"limit": "2"}, headers={"if-match": etag}).status == 200
        outdated = api.put(path, {"limit": "3"}, headers={"if-match": etag})
        assert (outdated.status, outdated.json["code"]) == (412, "version_outdated")
        assert api.delete(path, headers={"if-match": etag}).status == 412
        assert api.get(path).json["limit"] == "2.00"


@pytest.mark.parametrize(
    ("field", "value"),
    [("limit", "-1"), ("limit", 1), ("limit", "1e3"), ("thresholds", [0]), ("thresholds", [101])],
)
def test_bad_field_is_named_and_nothing_is_stored(
    api: Api, paths: list[str], field: str, value: object
) -> None:
    for path in paths:
        answer = api.put(path, {"limit": "1", field: value})
        assert answer.fields_at_fault[0][:2] == ["body", field]
        assert api.get(path).status == 404


def test_key_of_one_project_sees_only_that(api: Api, paths: list[str]) -> None:
    for path in paths:
        api.put(path, {"limit": "1"})
    body = {"name": "of one", "kind": "admin", "projects": [api.own.project_id]}
    key = api.post("/api/api-keys", body | {"project_id": api.own.project_id}).json["key"]
    listed = api.get("/api/budgets", key=key).json["budgets"]
    assert [each["scope"] for each in listed] == ["project", "key"]
    assert api.put(ORGANIZATION, {"limit": "9"}, key=key).status == 403
    assert api.put(paths[1], {"limit": "9"}, key=key).status == 200


def test_key_with_a_budget_grants_no_higher_one(api: Api, paths: list[str]) -> None:
    body = {"name": "limited", "kind": "admin", "monthly_budget": "5"}
    key = api.post("/api/api-keys", body).json["key"]
    assert api.put(paths[2], {"limit": "5"}).status == 200
    higher = api.put(paths[2], {"limit": "6"}, key=key)
    assert (higher.status, higher.json["code"]) == (403, "scope_exceeds_issuer")
    assert api.put(paths[2], {"limit": "4"}, key=key).status == 200
    assert api.delete(paths[2], key=key).status == 403


def test_inference_key_sees_its_own_budget_below_v1(api: Api, paths: list[str]) -> None:
    for path in paths:
        api.put(path, {"limit": "1"})
    own = api.get("/v1/budgets", key=api.own.live_key, organization="").json
    assert [each["scope"] for each in own["budgets"]] == ["key"]
    assert api.get("/v1/budgets", organization="").json["total"] == 3
