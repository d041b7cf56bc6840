"""API keys in the names of VM-X: its clients' bodies work as they are."""

from __future__ import annotations

from typing import Any

from tests.fakes.api import Api


def address(*more: str) -> str:
    return "/".join(("/api/api-key/own/default", *more))


def create(api: Api, **more: Any) -> dict[str, Any]:
    body = {"name": "Search", "enabled": True, "resources": ["assistant"], **more}
    answer = api.post(address(), {"enforceCapacity": False, **body}, organization="")
    assert answer.status == 201, answer.text
    return answer.json


def finds(api: Api, token: str) -> bool:
    return api.get("/v1/usage", key=token, organization="").status == 200


def test_key_is_made_read_changed_and_revoked_in_their_names(api: Api) -> None:
    entry = {"period": "hour", "tokens": 5, "dimension": "metadata", "dimensionField": "team"}
    made = create(api, labels=["blue", "snake_case"], capacity=[entry], description=None)
    token = made.pop("apiKeyValue")
    assert finds(api, token)
    assert made["environmentId"] == api.own.project_id
    assert (made["enabled"], made["resources"]) == (True, ["assistant"])
    assert made["labels"] == ["blue", "snake_case"]
    assert made["capacity"][0].items() >= entry.items()
    assert made["enforceCapacity"] is False
    assert token not in str(made)
    path = address(made["apiKeyId"])
    assert api.get(path, organization="").json == made
    assert made in api.get(address()).json
    assert api.get(f"/api/api-keys/{made['apiKeyId']}").json["resources"] == ["assistant"]
    changed = api.put(path, {"enabled": False, "labels": None, "enforceCapacity": True}).json
    assert (changed["enabled"], changed["labels"], changed["enforceCapacity"]) == (False, [], True)
    assert changed["resources"] == ["assistant"]
    assert not finds(api, token)
    assert api.put(path, {"enabled": True}).json["enabled"] is True
    assert finds(api, token)
    assert api.delete(path).status == 204
    assert api.get(path).json["enabled"] is False
    assert made["apiKeyId"] not in {each["apiKeyId"] for each in api.get(address()).json}


def test_key_can_be_made_disabled_and_for_all_resources(api: Api) -> None:
    made = create(api, enabled=False, resources=None)
    assert (made["enabled"], made["resources"]) == (False, [])
    assert not finds(api, made["apiKeyValue"])


def test_list_of_no_resources_is_refused(shared_api: Api) -> None:
    answer = shared_api.post(address(), {"name": "x", "enabled": True, "resources": []})
    assert (answer.status, answer.json["details"]["path"]) == (400, ["body", "resources"])


def test_management_keys_and_keys_of_other_projects_are_unknown(api: Api) -> None:
    other = api.post("/api/projects", {"name": "Other"}).json["id"]
    foreign = api.post("/api/api-keys", {"name": "x", "project_id": other}).json["id"]
    for key_id in (api.own.key_id, foreign):
        answer = api.get(address(key_id))
        assert (answer.status, answer.json["errorCode"]) == (404, "API_KEY_NOT_FOUND")
