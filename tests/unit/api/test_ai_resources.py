"""Resources in the names of VM-X: its clients' bodies work as they are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.api import Api

KEY = "sk-proj-0123456789abcdefghijWXYZ"
RULE = {
    "type": "group",
    "description": "Long prompts",
    "conditions": [
        {
            "type": "condition",
            "expression": "tokens.input",
            "comparator": "GREATER_THAN",
            "value": {"type": "number", "expression": "1000"},
        }
    ],
    "then": {"provider": "openai", "model": "gpt-5.4", "timeoutMs": 5000, "traffic": 30},
}


def address(api: Api, *more: str) -> str:
    return "/".join(("/api/ai-resource/own/default", *more))


def create(api: Api, **more: Any) -> dict[str, Any]:
    body = {
        "name": "assistant",
        "model": {"provider": "openai", "model": "gpt-5.4-mini"},
        "useFallback": False,
        "enforceCapacity": False,
        **more,
    }
    answer = api.post(address(api), body, organization="")
    assert answer.status == 201, answer.text
    return answer.json


def connect(api: Api) -> str:
    body = {"name": "main", "provider": "openai", "config": {"apiKey": KEY}}
    answer = api.post("/api/ai-connection/own/default", body)
    assert answer.status == 201, answer.text
    return answer.json["connectionId"]


def test_resource_is_made_read_listed_changed_and_deleted_in_their_names(api: Api) -> None:
    connection_id = connect(api)
    entry = {"period": "minute", "requests": 5, "dimension": "metadata", "dimensionField": "team"}
    slot = {"provider": "openai", "model": "gpt-5.4", "connectionName": "main", "maxRetries": 2}
    made = create(
        api,
        description=None,
        useFallback=True,
        fallbackModels=[slot],
        secondaryModels=[{**slot, "timeoutMs": 1000, "connectionId": None}],
        routing={"enabled": True, "conditions": [RULE]},
        capacity=[entry],
        defaultArgs={"logit_bias": {"someKey": 1}, "camelCase": None},
        assignApiKeys=[],
    )
    assert made["workspaceId"] == api.organization_id
    assert made["environmentId"] == api.own.project_id
    assert made["fallbackModels"][0]["connectionId"] == connection_id
    assert made["fallbackModels"][0]["maxRetries"] == 2
    assert made["secondaryModels"][0]["timeoutMs"] == 1000
    assert made["routing"]["conditions"][0]["then"]["timeoutMs"] == 5000
    assert made["routing"]["conditions"][0]["conditions"][0]["comparator"] == "GREATER_THAN"
    assert made["capacity"][0].items() >= entry.items()
    assert made["defaultArgs"] == {"logit_bias": {"someKey": 1}, "camelCase": None}
    own = api.get(f"/api/resources/{made['resourceId']}").json
    assert own["fallback_models"][0]["credential_id"] == connection_id
    assert own["default_args"] == made["defaultArgs"]
    path = address(api, made["resourceId"])
    assert api.get(path, organization="").json == made
    assert api.get(address(api, "assistant")).json == made
    assert api.get(address(api)).json == [made]
    changed = api.put(path, {"useFallback": False, "routing": None, "capacity": None})
    assert changed.status == 200, changed.text
    assert changed.json["routing"] is None
    assert changed.json["capacity"] == []
    assert changed.json["fallbackModels"] == made["fallbackModels"]
    assert api.delete(path).status == 204
    missing = api.get(path)
    assert (missing.status, missing.json["errorCode"]) == (404, "AI_RESOURCE_NOT_FOUND")


FAULTS: list[tuple[dict[str, Any], list[str]]] = [
    ({"model": {"model": "m", "maxRetries": 11}}, ["model", "maxRetries"]),
    ({"model": {"model": "m", "max_retries": 1}}, ["model", "max_retries"]),
    ({"fallbackModels": [{}]}, ["fallbackModels", "0", "model"]),
    ({"model": None}, ["model"]),
    ({"projectId": "x"}, ["projectId"]),
    ({"defaultArgs": {"stream": True}}, ["defaultArgs", "stream"]),
    ({"model": {"model": "m", "connectionName": "nope"}}, ["model", "connectionName"]),
]


@pytest.mark.parametrize(("body", "path"), FAULTS)
def test_fault_of_a_field_says_where_in_their_names(
    shared_api: Api, body: dict[str, Any], path: list[str]
) -> None:
    sent = {"name": "x", "model": {"provider": "openai", "model": "m"}, **body}
    answer = shared_api.post(address(shared_api), sent)
    assert answer.status == 400, answer.text
    assert answer.json["details"] == {"path": ["body", *path]}
    assert "credential_name" not in answer.json["errorMessage"]


def test_name_that_is_taken_has_their_code(api: Api) -> None:
    create(api)
    answer = api.post(address(api), {"name": "assistant", "model": {"model": "m"}})
    assert (answer.status, answer.json["errorCode"]) == (409, "AI_RESOURCE_ALREADY_EXISTS")


def test_deleting_a_connection_deletes_the_resources_that_use_it(api: Api) -> None:
    connection_id = connect(api)
    create(api, model={"model": "gpt-5.4", "connectionId": connection_id})
    create(api, name="other")
    assert api.delete(f"/api/ai-connection/own/default/{connection_id}").status == 204
    assert [each["name"] for each in api.get(address(api)).json] == ["other"]
