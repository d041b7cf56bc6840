from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.api import Api

PATH = "/api/resources"
MINI: dict[str, Any] = {"model": "gpt-5.4-mini"}


def add_connection(api: Api, name: str) -> str:
    body = {"name": name, "config": {"api_key": "sk-own-0123456789abcdefghijkl"}}
    made = api.post("/api/connections", body)
    assert made.status == 201, made.text
    return made.json["id"]


def create(api: Api, name: str, **more: Any) -> Any:
    made = api.post(PATH, {"name": name, "model": MINI, **more})
    assert made.status == 201, made.text
    return made.json


def test_resource_is_created_changed_replaced_and_deleted(api: Api) -> None:
    credential_id = add_connection(api, "acme")
    body = {
        "name": "assistant",
        "description": "For the chat.",
        "model": {"model": "gpt-5.4", "credential_name": "acme", "max_retries": 2},
        "use_fallback": True,
        "fallback_models": [{"model": "gpt-5.4-mini", "timeout_ms": 5000}],
        "secondary_models": [{"model": "gpt-4o", "credentials": [{"credential_name": "acme"}]}],
        "routing": {
            "conditions": [
                {
                    "description": "long",
                    "conditions": [
                        {
                            "type": "condition",
                            "expression": "tokens.input",
                            "comparator": "GREATER_THAN",
                            "value": {"type": "number", "expression": "1000"},
                        }
                    ],
                    "then": {"model": "gpt-4o", "credential_name": "acme", "traffic": 50},
                }
            ]
        },
        "default_args": {"temperature": 0.2},
    }
    made = api.post(PATH, body)
    assert made.status == 201, made.text
    assert made.headers["etag"] == '"1"'
    resource = made.json
    slot = {"credential_id": credential_id, "credential_name": "acme", "provider": "openai"}
    assert resource["project_id"] == api.own.project_id
    assert {name: resource["model"][name] for name in slot} == slot
    assert resource["routing"]["conditions"][0]["then"]["credential_id"] == credential_id
    assert resource["secondary_models"][0]["credentials"] == [
        {"credential_id": credential_id, "credential_name": "acme", "weight": 1}
    ]
    path = f"{PATH}/{resource['id']}"
    assert api.get(path).json == api.get(f"{PATH}/assistant").json == resource

    changed = api.patch(path, {"use_fallback": False}, headers={"if-match": '"1"'})
    assert (changed.json["use_fallback"], changed.headers["etag"]) == (False, '"2"')
    # What a reader got can be written back, and changes nothing.
    assert api.patch(path, {"model": resource["model"]}).headers["etag"] == '"2"'
    replaced = api.put(path, {"name": "assistant", "model": MINI}).json
    assert (replaced["routing"], replaced["fallback_models"]) == (None, [])
    assert (replaced["description"], replaced["version"]) == (None, 3)
    assert api.patch(path, {"name": "x"}, headers={"if-match": '"1"'}).status == 412

    assert api.delete(path).status == 204
    gone = api.get(path)
    assert (gone.status, gone.json["code"]) == (404, "not_found")
    assert [action for action, of in api.audited() if of == resource["id"]] == [
        "resource.created",
        *["resource.updated"] * 2,
        "resource.deleted",
    ]


def test_resources_are_listed_by_name_of_one_project_or_all(api: Api) -> None:
    other = api.post("/api/projects", {"name": "Other"}).json["id"]
    create(api, "beta")
    create(api, "alpha", project_id=other)
    page = api.get(PATH).json
    assert [each["name"] for each in page["resources"]] == ["alpha", "beta"]
    page = api.get(f"{PATH}?project_id={other}").json
    assert ([each["name"] for each in page["resources"]], page["total"]) == (["alpha"], 1)
    # Two projects may each have one of a name, which then needs its id.
    create(api, "alpha")
    assert api.get(f"{PATH}/alpha").status == 404
    taken = api.post(PATH, {"name": "alpha", "model": MINI})
    assert (taken.status, taken.json["code"]) == (409, "resource_conflict")


@pytest.mark.parametrize(
    ("change", "status", "place"),
    [
        ({"name": "has space"}, 422, "name"),
        ({"model": {**MINI, "credential_name": "none"}}, 422, "model.credential_name"),
        ({"model": {**MINI, "credential_id": "cred_none"}}, 422, "model.credential_id"),
        ({"model": {**MINI, "provider": "nobody"}}, 422, "model.provider"),
        (
            {"fallback_models": [MINI, {**MINI, "credential_name": "none"}]},
            422,
            "fallback_models[1].credential_name",
        ),
        ({"default_args": {"stream": True}}, 422, "default_args.stream"),
        ({"model": {**MINI, "max_retries": 11}}, 422, "max_retries"),
        ({"model": {**MINI, "timeout_ms": 99}}, 422, "timeout_ms"),
        ({"model": {"provider": "openai"}}, 422, "model"),
        ({"fallback_models": [MINI] * 10}, 422, "fallback_models"),
        ({"fallbacks": 1}, 422, "fallbacks"),
        ({"assign_api_keys": ["key_none"]}, 422, "assign_api_keys[0]"),
        (
            {"routing": {"conditions": [{"enabled": True}]}},
            422,
            "routing.conditions[0].then",
        ),
    ],
)
def test_invalid_field_is_named_by_its_place(
    shared_api: Api, change: dict[str, Any], status: int, place: str
) -> None:
    refused = shared_api.post(PATH, {"name": "bad", "model": MINI, **change})
    assert refused.status == status, refused.text
    assert place in refused.text


def test_credential_of_a_resource_is_kept_as_a_credential_and_deleted_as_a_connection(
    api: Api,
) -> None:
    first, second = add_connection(api, "one"), add_connection(api, "two")
    create(api, "uses-one", fallback_models=[{**MINI, "credential_id": first}])
    create(api, "uses-two", model={**MINI, "credential_id": second})
    kept = api.delete(f"/api/credentials/{first}")
    assert (kept.status, kept.json["code"]) == (409, "credential_in_use")
    assert "uses-one" in kept.json["detail"]
    assert api.delete(f"/api/connections/{second}").status == 204
    assert [each["name"] for each in api.get(PATH).json["resources"]] == ["uses-one"]


def test_limited_key_gets_a_resource_assigned_and_keeps_it_when_it_is_renamed(api: Api) -> None:
    limited = api.post("/api/api-keys", {"name": "limited", "resources": ["other"]}).json["id"]
    free = api.post("/api/api-keys", {"name": "free"}).json["id"]
    made = create(api, "smart", assign_api_keys=[limited, free])

    def read_resources(key_id: str) -> list[str]:
        return api.get(f"/api/api-keys/{key_id}").json["resources"]

    assert (read_resources(limited), read_resources(free)) == (["other", "smart"], [])
    assert api.patch(f"{PATH}/{made['id']}", {"name": "smarter"}).status == 200
    assert read_resources(limited) == ["other", "smarter"]
    assert api.delete(f"{PATH}/{made['id']}").status == 204
    assert read_resources(limited) == ["other", "smarter"]


def test_key_of_one_project_sees_no_resource_of_another(api: Api) -> None:
    other = api.post("/api/projects", {"name": "Other"}).json["id"]
    made = create(api, "hidden", project_id=other)
    body = {"name": "narrow", "kind": "admin", "projects": [api.own.project_id]}
    narrow = api.post("/api/api-keys", body).json["key"]
    assert api.get(PATH, key=narrow).json["resources"] == []
    assert api.get(f"{PATH}/{made['id']}", key=narrow).status == 404
    body = {"name": "x", "model": MINI, "project_id": other}
    assert api.post(PATH, body, key=narrow).status == 404
