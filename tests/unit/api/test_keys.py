from __future__ import annotations

import datetime
from typing import Any

import pytest

from headgate.audit.model import SYSTEM
from headgate.keys.model import KeyKind, KeyRequest
from headgate.kit.db.schema import read_revisions
from tests.fakes.api import Answer, Api, running_api

PATH = "/api/api-keys"


def issue(api: Api, key: str | None = None, **fields: Any) -> Answer:
    return api.post(PATH, {"name": "service", **fields}, key=key)


def issue_manager(api: Api, **fields: Any) -> str:
    """The token of a management key with these limits."""
    answer = issue(api, kind="admin", **fields)
    assert answer.status == 201, answer.text
    return answer.json["key"]


def make_project(api: Api, name: str = "Second") -> str:
    return api.post("/api/projects", {"name": name}).json["id"]


def opens(api: Api, token: str) -> bool:
    """Whether a token is good for anything: 403 for an inference key, 401 for none."""
    return api.get("/api/projects", key=token).status != 401


def test_key_is_shown_once_with_everything_that_it_may_do(api: Api) -> None:
    asked = {
        "name": "search",
        "description": "For the search service.",
        "labels": {"team": "search"},
        "expires_at": "2199-01-31T12:00:00+02:00",
        "models": ["gpt-5*"],
        "endpoints": ["chat.completions"],
        "projects": [make_project(api)],
        "networks": ["10.0.0.0/8", "2001:db8::/32"],
        "resources": ["helpdesk"],
        "tools": ["openai_*"],
        "requests_per_minute": 600,
        "tokens_per_minute": 100_000,
        "monthly_budget": "25.00",
        "on_disconnect": "drain",
    }
    made = api.post(PATH, asked)
    assert made.status == 201
    issued = made.json
    token = issued.pop("key")
    assert token.startswith(issued["key_hint"] + "_")
    assert issued["masked_key"] == issued["key_hint"] + "_…"
    same = {name for name in asked if name not in ("expires_at", "monthly_budget")}
    assert {name: issued[name] for name in same} == {name: asked[name] for name in same}
    assert issued["expires_at"] == "2199-01-31T10:00:00Z"
    assert issued["monthly_budget"] == {
        "limit": "25.00",
        "managed_only": False,
        "thresholds": [50, 80, 100],
        "enforced": True,
    }
    assert (issued["state"], issued["is_active"], issued["is_expired"]) == ("active", True, False)
    assert (issued["project_id"], issued["version"]) == (api.own.project_id, 1)
    read = api.get(f"{PATH}/{issued['id']}")
    assert (read.json, read.headers["etag"]) == (issued, '"1"')
    assert token.rpartition("_")[2] not in read.text + api.get(PATH).text


def test_key_without_limits_has_none(api: Api) -> None:
    made = issue(api).json
    assert opens(api, made["key"])
    for name in (
        "models",
        "endpoints",
        "projects",
        "networks",
        "resources",
        "tools",
        "permissions",
    ):
        assert made[name] == []
    for name in ("requests_per_minute", "tokens_per_minute", "monthly_budget", "expires_at"):
        assert made[name] is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "two\nlines"),
        ("kind", "person"),
        ("project_id", "proj_unknown"),
        ("expires_at", "2020-01-01T00:00:00Z"),
        ("rate_limit_per_minute", 0),
        ("expires_at", "soon"),
        ("expires_at", "9999-12-31T23:59:59-12:00"),
        ("expires_at", "9999-12-31T23:59:59.999999Z"),
        ("expires_at", "0001-01-01T00:00:00+14:00"),
        ("models", ["gpt 5"]),
        ("models", ["x" * 201]),
        ("models", ["x"] * 257),
        ("endpoints", "chat"),
        ("projects", ["proj_unknown"]),
        ("networks", ["10.0.0.300"]),
        ("networks", ["10.0.0.1/8"]),
        ("networks", ["localhost"]),
        ("requests_per_minute", 0),
        ("requests_per_minute", 1_000_001),
        ("tokens_per_minute", -5),
        ("monthly_budget", "-1"),
        ("monthly_budget", 25),
        ("monthly_budget", "1e3"),
        ("monthly_budget", "0.0000000001"),
        ("permissions", ["keys:read"]),
        ("labels", {"x": 1}),
        ("labels", {f"n{i}": "" for i in range(33)}),
        ("description", "x" * 1001),
        ("on_disconnect", "wait"),
        ("organization_id", "org_x"),
        ("digest", "x"),
        ("revoked_at", None),
    ],
)
def test_bad_field_is_named_and_nothing_is_stored(shared_api: Api, field: str, value: Any) -> None:
    before = shared_api.get(PATH).json["total"]
    refused = issue(shared_api, **{field: value})
    [loc, *_] = refused.fields_at_fault
    assert loc[:2] == ["body", field]
    assert shared_api.get(PATH).json["total"] == before


def test_project_of_somebody_else_is_refused_as_an_unknown_one(shared_api: Api) -> None:
    answers = [
        issue(shared_api, project_id=project_id).json
        for project_id in (shared_api.other.project_id, "proj_unknown")
    ]
    assert answers[0] == answers[1]


def test_list_is_filtered_and_paged(api: Api) -> None:
    project = make_project(api)
    made = [issue(api, name=name).json for name in ("50%", "500", "a_b", "aXb")]
    elsewhere = issue(api, name="elsewhere", project_id=project).json
    api.delete(f"{PATH}/{made[0]['id']}")
    api.patch(f"{PATH}/{made[1]['id']}", {"enabled": False})

    def names(query: str) -> list[str]:
        return [key["name"] for key in api.get(f"{PATH}?{query}").json["keys"]]

    assert names("search=50%25") == ["50%"]
    assert names("search=A_B") == ["a_b"]
    assert names("state=revoked") == ["50%"]
    assert names("state=disabled") == ["500"]
    assert names("state=expired") == []
    assert set(names("state=active")) == {"admin", "live", "a_b", "aXb", "elsewhere"}
    assert names(f"project_id={project}") == [elsewhere["name"]]
    assert names("kind=admin") == ["admin"]
    assert len(names("limit=2")) == 2
    pages = [names(f"limit=2&offset={offset}") for offset in (0, 2, 4, 6)]
    assert [name for page in pages for name in page] == names("")
    whole = api.get(f"{PATH}?limit=1").json
    assert (whole["total"], whole["max_keys"]) == (7, 10_000)


@pytest.mark.parametrize("query", ["state=gone", "search=", "limit=501", "search=%00", "who=me"])
def test_bad_query_is_named(shared_api: Api, query: str) -> None:
    [loc] = shared_api.get(f"{PATH}?{query}").fields_at_fault
    assert loc == ["query", query.partition("=")[0]]


def test_change_takes_effect_before_the_answer(api: Api) -> None:
    made = issue_manager(api)
    key_id = "key_" + made.split("_")[2]
    path = f"{PATH}/{key_id}"
    assert opens(api, made)
    disabled = api.patch(path, {"enabled": False}, headers={"if-match": '"1"'})
    assert (disabled.json["state"], disabled.json["version"]) == ("disabled", 2)
    assert not opens(api, made)
    assert api.patch(path, {"enabled": True}).json["state"] == "active"
    assert opens(api, made)
    assert api.patch(path, {"permissions": ["audit:read"]}).status == 200
    assert api.get("/api/projects", key=made).status == 403
    assert api.delete(path).status == 204
    assert not opens(api, made)
    assert api.get(path).json["state"] == "revoked"
    assert api.delete(path).status == 204
    assert [action for action, of in api.audited() if of == key_id] == [
        "key.created",
        "key.updated",
        "key.refused",
        "key.updated",
        "key.updated",
        "key.revoked",
        "key.refused",
    ]


def test_update_changes_given_fields_only_and_null_removes_a_limit(api: Api) -> None:
    made = issue(api, models=["gpt-5*"], requests_per_minute=5, monthly_budget="1.5").json
    path = f"{PATH}/{made['id']}"
    renamed = api.patch(path, {"name": "other"}).json
    unchanged = {k: v for k, v in made.items() if k not in ("key", "name", "version")}
    assert {**unchanged, "name": "other", "version": 2} == renamed
    freed = api.patch(path, {"requests_per_minute": None, "monthly_budget": None, "models": []})
    assert freed.json["requests_per_minute"] is None
    assert freed.json["monthly_budget"] is None
    assert freed.json["models"] == []
    assert api.patch(path, {}).json["version"] == 3


@pytest.mark.parametrize("field", ["kind", "project_id", "organization_id", "id", "revoked_at"])
def test_fixed_fields_of_a_key_cannot_be_changed(shared_api: Api, field: str) -> None:
    path = f"{PATH}/{shared_api.own.key_id}"
    assert shared_api.patch(path, {field: None}).fields_at_fault == [["body", field]]


def test_outdated_version_changes_nothing(api: Api) -> None:
    path = f"{PATH}/{issue(api).json['id']}"
    stale = {"if-match": '"9"'}
    answers = [
        api.patch(path, {"name": "x"}, headers=stale),
        api.delete(path, headers=stale),
        api.post(f"{path}/rotate", {}, headers=stale),
        api.post(f"{path}/revoke-previous", headers=stale),
    ]
    assert {answer.status for answer in answers} == {412}
    assert api.get(path).json["version"] == 1


def test_rotation_overlaps_and_can_be_cut_short(api: Api) -> None:
    first = issue_manager(api)
    path = f"{PATH}/key_{first.split('_')[2]}"
    rotated = api.post(f"{path}/rotate", {"overlap_seconds": 600})
    assert rotated.status == 200
    second = rotated.json["key"]
    until = datetime.datetime.fromisoformat(rotated.json["previous_expires_at"])
    since = datetime.datetime.fromisoformat(rotated.json["rotated_at"])
    assert (until - since).total_seconds() == 600
    assert opens(api, first)
    assert opens(api, second)
    assert api.post(f"{path}/revoke-previous").json["previous_expires_at"] is None
    assert not opens(api, first)
    assert opens(api, second)
    third = api.post(f"{path}/rotate", {"overlap_seconds": 600}).json["key"]
    assert api.delete(path).status == 204
    assert not any(opens(api, token) for token in (first, second, third))
    assert api.post(f"{path}/rotate", {}).json["code"] == "key_conflict"
    beyond = api.post(f"{path}/rotate", {"overlap_seconds": 2_592_001})
    assert beyond.fields_at_fault == [["body", "overlap_seconds"]]


def test_repeated_creation_gives_the_same_token_and_keeps_it_sealed(api: Api) -> None:
    sent = {"idempotency-key": "once"}
    first = api.post(PATH, {"name": "once"}, headers=sent)
    again = api.post(PATH, {"name": "once"}, headers=sent)
    assert again.text == first.text
    stored = api.read(
        lambda connection: (
            connection.exec_driver_sql("SELECT answer FROM repetitions").scalars().all()
        )
    )
    assert stored
    assert not any(first.json["key"].encode() in answer for answer in stored)


def test_foreign_and_unknown_keys_are_the_same_404(api: Api) -> None:
    for key_id in (api.other.key_id, "key_unknown", "%00", "a" * 500):
        path = f"{PATH}/{key_id}"
        answers = [
            api.get(path),
            api.patch(path, {"name": "x"}),
            api.delete(path),
            api.post(f"{path}/rotate", {}),
            api.post(f"{path}/revoke-previous"),
        ]
        assert {(answer.status, answer.text) for answer in answers} == {
            (404, '{"detail":"Not found.","code":"not_found"}')
        }


# Nobody gives more than they hold (A4).

NARROW: dict[str, Any] = {
    "permissions": ["keys:*"],
    "models": ["gpt-5*"],
    "endpoints": ["chat.completions", "embeddings"],
    "networks": ["203.0.113.0/24"],
    "resources": ["helpdesk"],
    "tools": ["openai_*", "list_*"],
    "requests_per_minute": 600,
    "tokens_per_minute": 1000,
    "monthly_budget": "10",
    "expires_at": "2199-01-01T00:00:00Z",
}
PART: dict[str, Any] = {
    "models": ["gpt-5.4*"],
    "endpoints": ["embeddings"],
    "networks": ["203.0.113.128/25"],
    "resources": ["helpdesk"],
    "tools": ["openai_list_models"],
    "requests_per_minute": 60,
    "tokens_per_minute": 1000,
    "monthly_budget": "9.999999999",
    "expires_at": "2198-12-31T00:00:00Z",
}
WIDER: list[tuple[str, Any]] = [
    ("models", ["gpt-*"]),
    ("models", []),
    ("endpoints", ["*"]),
    ("networks", ["203.0.112.0/23"]),
    ("networks", []),
    ("resources", ["helpdesk", "other"]),
    ("tools", ["*"]),
    ("tools", []),
    ("requests_per_minute", 601),
    ("requests_per_minute", None),
    ("tokens_per_minute", 1001),
    ("monthly_budget", "10.000000001"),
    ("monthly_budget", None),
    ("expires_at", "2199-01-01T00:00:01Z"),
    ("expires_at", None),
]


@pytest.mark.parametrize(("field", "value"), WIDER)
def test_key_grants_only_what_it_holds(shared_api: Api, field: str, value: object) -> None:
    manager = issue_manager(shared_api, **NARROW)
    made = issue(shared_api, manager, **PART)
    assert made.status == 201, made.text
    refused = issue(shared_api, manager, **{**PART, field: value})
    assert (refused.status, refused.json["code"]) == (403, "scope_exceeds_issuer")
    assert field in refused.json["detail"]
    path = f"{PATH}/{made.json['id']}"
    widened = shared_api.patch(path, {field: value}, key=manager)
    assert (widened.status, widened.json["code"]) == (403, "scope_exceeds_issuer")
    assert shared_api.get(path).json["version"] == 1


def test_key_cannot_widen_itself_nor_rotate_or_enable_a_stronger_one(api: Api) -> None:
    manager = issue_manager(api, **NARROW)
    own = f"{PATH}/key_{manager.split('_')[2]}"
    assert api.patch(own, {"permissions": []}, key=manager).status == 403
    assert api.patch(own, {"permissions": ["keys:read", "keys:write"]}, key=manager).status == 200
    strong = f"{PATH}/{api.own.key_id}"
    assert api.post(f"{strong}/rotate", {}, key=manager).status == 403
    weak = f"{PATH}/{issue(api).json['id']}"
    assert api.patch(weak, {"name": "renamed", "models": ["gpt-5.4"]}, key=manager).status == 200
    assert api.patch(weak, {"models": ["gpt-5*"]}, key=manager).status == 403
    assert api.patch(weak, {"enabled": False}, key=manager).status == 200
    assert api.patch(weak, {"enabled": True}, key=manager).status == 403


def test_key_of_some_projects_issues_and_sees_only_within_them(api: Api) -> None:
    project, third = make_project(api), make_project(api, "Third")
    limited = {"project_id": project, "projects": [project]}
    manager = issue_manager(api, **limited)
    assert issue(api, manager).json["project_id"] == project
    for fields in (
        {"project_id": api.own.project_id},
        {"projects": [third]},
        {"kind": "admin"},
        {"kind": "admin", **limited, "projects": [project, third]},
    ):
        refused = issue(api, manager, **fields)
        assert (refused.status, refused.json["code"]) == (403, "scope_exceeds_issuer"), fields
    assert issue(api, manager, kind="admin", **limited).status == 201
    whole = issue(api, kind="admin", project_id=project).json["id"]
    listed = api.get(PATH, key=manager).json
    assert {key["project_id"] for key in listed["keys"]} == {project}
    assert listed["total"] == 3
    for hidden in (whole, api.own.key_id):
        assert api.get(f"{PATH}/{hidden}", key=manager).status == 404
        assert api.delete(f"{PATH}/{hidden}", key=manager).status == 404


def test_platform_permission_is_granted_only_by_its_holder(api: Api) -> None:
    for permissions in (["*"], ["platform:read"], ["keys:read", "platform:*"]):
        refused = issue(api, kind="admin", permissions=permissions)
        assert (refused.status, refused.json["code"]) == (403, "scope_exceeds_issuer")
    assert issue(api, kind="admin", permissions=["*:*"]).status == 201
    with api.application.database.transaction() as connection:
        operator = api.application.keys.create(
            connection,
            KeyRequest(
                name="operator",
                organization_id=api.organization_id,
                project_id=api.own.project_id,
                kind=KeyKind.ADMIN,
                permissions=("*",),
            ),
            by=SYSTEM,
        ).token
    issue(api)
    assert issue(api, operator, kind="admin", permissions=["platform:read"]).status == 201


def test_permission_to_read_keys_does_not_allow_writing(api: Api) -> None:
    reader = issue_manager(api, permissions=["keys:read"])
    assert api.get(PATH, key=reader).status == 200
    assert issue(api, reader, name="x").status == 403
    assert api.get("/api/projects", key=reader).status == 403


# What limits a management key itself.


def test_management_key_has_a_rate_on_the_api(api: Api) -> None:
    manager = issue_manager(api, requests_per_minute=2)
    assert [api.get(PATH, key=manager).status for _ in range(2)] == [200, 200]
    refused = api.get(PATH, key=manager)
    assert (refused.status, refused.json["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert refused.headers["x-ratelimit-limit"] == "2"
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert 1 <= int(refused.headers["x-ratelimit-reset"]) <= 60
    assert api.get(PATH).status == 200


def test_management_key_is_bound_to_its_networks(api: Api) -> None:
    here = issue_manager(api, networks=["203.0.113.0/24"])
    there = issue_manager(api, networks=["198.51.100.0/24", "2001:db8::/32"])
    assert api.get(PATH, key=here).status == 200
    refused = api.get(PATH, key=there)
    assert (refused.status, refused.json["code"]) == (403, "address_out_of_scope")


def test_key_beyond_the_maximum_is_a_conflict(tmp_path: Any) -> None:
    with running_api(tmp_path / "data", keys_max="3") as api:
        assert issue(api).status == 201
        refused = issue(api)
        assert (refused.status, refused.json["code"]) == (409, "key_conflict")
        assert api.get(PATH).json["max_keys"] == 3


def test_archived_project_ends_its_keys_at_once(api: Api) -> None:
    project = make_project(api)
    manager = issue_manager(api, project_id=project, projects=[project])
    assert opens(api, manager)
    assert api.delete(f"/api/projects/{project}").status == 204
    assert not opens(api, manager)
    before = api.read(read_revisions)["keys"]
    refused = issue(api, project_id=project)
    assert refused.fields_at_fault == [["body", "project_id"]]
    assert api.read(read_revisions)["keys"] == before


def test_names_of_modulexs_sdk_are_accepted_where_they_mean_the_same(api: Api) -> None:
    own = {"organization_id": api.organization_id, "expires_at": "2199-01-31T10:00:00"}
    made = issue(api, name="sdk", rate_limit_per_minute=60, **own)
    assert made.status == 201
    assert (made.json["requests_per_minute"], made.json["rate_limit_per_minute"]) == (60, 60)
    assert made.json["expires_at"] == "2199-01-31T10:00:00Z"
    assert issue(api, requests_per_minute=60, rate_limit_per_minute=60).status == 201
    refused = issue(api, requests_per_minute=61, rate_limit_per_minute=60)
    assert refused.fields_at_fault == [["body", "rate_limit_per_minute"]]
    path = f"{PATH}/{made.json['id']}"
    assert api.patch(path, {"rate_limit_per_minute": 30}).json["requests_per_minute"] == 30
    assert "rate_limit_per_minute" not in issue(api, name="unlimited").json
    api.delete(path)
    asked = (("", True), ("?include_revoked=true", True), ("?include_revoked=false", False))
    for query, listed in asked:
        page = api.get(f"{PATH}{query}").json
        assert ("sdk" in [key["name"] for key in page["keys"]]) is listed
        assert page["total"] == len(page["keys"])
