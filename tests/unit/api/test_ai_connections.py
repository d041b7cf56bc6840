"""Connections and providers in the names of VM-X: its clients' bodies work as they are."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.relay.ports import Credential
from tests.fakes.api import Api

KEY = "sk-proj-0123456789abcdefghijWXYZ"
OTHER_KEY = "sk-proj-zyxwvutsrqponmlkjihg9876"
MASK = "********"


def address(api: Api, *more: str) -> str:
    return "/".join((f"/api/ai-connection/{api.organization_id}/{api.own.project_id}", *more))


def create(api: Api, **more: Any) -> dict[str, Any]:
    body = {"name": "main", "provider": "openai", "config": {"apiKey": KEY}, **more}
    answer = api.post(address(api), body, organization="")
    assert answer.status == 201, answer.text
    assert KEY not in answer.text
    return answer.json


def take(api: Api) -> Credential:
    return api.application.credential_resolver.resolve(
        api.organization_id, integration="openai", name=None
    )


def test_connection_is_made_read_listed_and_deleted_in_their_names(api: Api) -> None:
    entry = {"period": "minute", "requests": 5, "dimension": "metadata", "dimensionField": "team"}
    made = create(
        api,
        description="For search",
        allowedModels=["gpt-5.4*"],
        capacity=[entry],
        config={"apiKey": KEY, "baseUrl": "https://proxy.example/v1"},
    )
    assert (
        made.items()
        >= {
            "workspaceId": api.organization_id,
            "environmentId": api.own.project_id,
            "name": "main",
            "description": "For search",
            "provider": "openai",
            "allowedModels": ["gpt-5.4*"],
            "capacity": [{**entry, "tokens": None, "enabled": True, "discovered": False}],
            "config": {"apiKey": MASK, "baseUrl": "https://proxy.example/v1", "organization": None},
            "discoveredCapacity": {},
        }.items()
    )
    path = address(api, made["connectionId"])
    assert api.get(path, organization="").json == made
    assert api.get(address(api), organization="").json == [made]
    own = api.get(f"/api/connections/{made['connectionId']}").json
    assert own["capacity"] == [
        {"period": "minute", "requests": 5, "tokens": None, "enabled": True}
        | {"dimension": "metadata", "dimension_field": "team", "discovered": False}
    ]
    assert api.delete(path, organization="").status == 204
    missing = api.get(path, organization="")
    assert (missing.status, missing.json["errorCode"]) == (404, "AI_CONNECTION_NOT_FOUND")


def test_stars_keep_the_key_and_anything_else_replaces_it(api: Api) -> None:
    path = address(api, create(api)["connectionId"])
    for stars in (MASK, "****", "*****anything"):
        changed = api.put(path, {"name": "new", "config": {"apiKey": stars}})
        assert (changed.status, changed.json["name"]) == (200, "new")
        assert take(api).secret == KEY.encode()
    assert api.put(path, {"config": {"apiKey": OTHER_KEY}}).status == 200
    assert take(api).secret == OTHER_KEY.encode()
    body = {"provider": "openai", "allowedModels": None, "capacity": None, "description": None}
    changed = api.put(path, {**body, "config": None}).json
    assert (changed["allowedModels"], changed["capacity"], changed["description"]) == ([], [], None)
    assert take(api).secret == OTHER_KEY.encode()


@pytest.mark.parametrize(
    "config",
    [
        *({}, {"apiKey": ""}, {"apiKey": "****"}, {"apiKey": 7}, {"apiKey": "sk-short"}),
        *({"apiKey": KEY, "more": 1}, {"apiKey": KEY, "baseUrl": "ftp://x"}, "x", None),
    ],
)
def test_bad_configuration_has_their_code(shared_api: Api, config: Any) -> None:
    body = {"name": "x", "provider": "openai", "config": config}
    answer = shared_api.post(address(shared_api), body)
    assert (answer.status, answer.json["errorCode"]) == (400, "AI_CONNECTION_CONFIG_INVALID")
    assert set(answer.json) == {"errorCode", "errorMessage", "details"}
    assert answer.json["errorMessage"]
    assert not {"api_key", "base_url"} & set(answer.json["errorMessage"].split())
    assert answer.json["details"]["path"][:2] == ["body", "config"]


def test_configuration_of_a_change_is_checked_as_well(api: Api) -> None:
    path = address(api, create(api)["connectionId"])
    for config in ({}, {"apiKey": MASK, "baseUrl": "https://other.example/v1"}):
        answer = api.put(path, {"config": config})
        assert (answer.status, answer.json["errorCode"]) == (400, "AI_CONNECTION_CONFIG_INVALID")
    assert take(api).secret == KEY.encode()


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        ({"provider": "nothing"}, "AI_PROVIDER_NOT_FOUND", ["body", "provider"]),
        ({"capacity": [{"period": "second"}]}, "INVALID", ["body", "capacity", "0", "period"]),
        ({"unknown": 1}, "UNKNOWN_FIELD", ["body", "unknown"]),
    ],
)
def test_fault_of_a_field_says_where(
    shared_api: Api, body: dict[str, Any], code: str, path: list[str]
) -> None:
    sent = {"name": "x", "provider": "openai", "config": {"apiKey": KEY}, **body}
    answer = shared_api.post(address(shared_api), sent)
    assert (answer.status, answer.json["errorCode"]) == (400, code)
    assert answer.json["details"] == {"path": path}


def test_names_stand_for_ids_and_other_environments_are_unknown(shared_api: Api) -> None:
    api = shared_api
    assert api.get("/api/ai-connection/own/default").status == 200
    assert api.get("/api/ai-connection/Own/Default", organization="").status == 200
    for workspace, environment in (("own", "x"), ("other", "default"), ("x", "default")):
        answer = api.get(f"/api/ai-connection/{workspace}/{environment}")
        assert (answer.status, answer.json["errorCode"]) == (404, "ENVIRONMENT_NOT_FOUND")
    answer = api.get("/api/ai-connection/own/default", key="")
    assert (answer.status, answer.json["errorCode"]) == (401, "NOT_AUTHENTICATED")


def test_providers_have_a_form_and_a_default_model(shared_api: Api) -> None:
    providers = {each["id"]: each for each in shared_api.get("/api/ai-provider").json}
    openai = providers["openai"]
    assert (openai["name"], openai["defaultModel"]) == ("OpenAI", "gpt-4.1")
    form = openai["config"]["connection"]["form"]
    assert form["required"] == ["apiKey"]
    assert form["properties"]["apiKey"]["format"] == "secret"
    assert set(form["properties"]) == {"apiKey", "baseUrl", "organization"}
