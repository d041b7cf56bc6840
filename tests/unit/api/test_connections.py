from __future__ import annotations

from typing import Any

import pytest

from headgate.credentials.model.credential import NoCredentialError, UnusableCredentialError
from headgate.kit.http.message import Headers
from headgate.relay.ports import Credential, Deadlines
from tests.fakes.api import Api

KEY = "sk-proj-0123456789abcdefghijWXYZ"
OTHER_KEY = "sk-proj-zyxwvutsrqponmlkjihg9876"
MASK = "sk-proj-…WXYZ"
LIMITS: Headers = [
    (b"x-ratelimit-limit-requests", b"500"),
    (b"content-type", b"application/json"),
    (b"x-ratelimit-limit-tokens", b"200000"),
]


def create(api: Api, **more: Any) -> dict[str, Any]:
    body = {"name": "main", "config": {"api_key": KEY}, **more}
    answer = api.post("/api/connections", body)
    assert answer.status == 201, answer.text
    assert KEY not in answer.text
    return answer.json


def take(
    api: Api, name: str | None = None, model: str | None = "gpt-5.4", **more: Any
) -> Credential:
    return api.application.credential_resolver.resolve(
        api.organization_id, integration="openai", name=name, model=model, **more
    )


def test_connection_can_turn_off_usage_of_streams(api: Api) -> None:
    made = create(api)
    path = f"/api/connections/{made['id']}"
    assert (made["stream_usage"], take(api).asks_usage) == ("ask", True)
    changed = api.patch(path, {"stream_usage": "never"}).json
    assert (changed["stream_usage"], take(api).asks_usage) == ("never", False)
    assert api.patch(path, {"stream_usage": "sometimes"}).status == 422
    assert api.delete(path).status == 204
    assert create(api, stream_usage="never")["stream_usage"] == "never"
    assert not take(api).asks_usage


DEADLINES = ("first_byte_seconds", "idle_seconds", "total_seconds")


def test_connection_can_have_deadlines_of_its_own(api: Api) -> None:
    made = create(api)
    path = f"/api/connections/{made['id']}"
    assert [made[name] for name in DEADLINES] == [None, None, None]
    assert take(api).deadlines is None
    changed = api.patch(path, {"first_byte_seconds": 1_200, "total_seconds": 86_400}).json
    assert [changed[name] for name in DEADLINES] == [1_200, None, 86_400]
    assert take(api).deadlines == Deadlines(1_200, None, 86_400)
    changed = api.patch(path, {"first_byte_seconds": None, "idle_seconds": 1}).json
    assert [changed[name] for name in DEADLINES] == [None, 1, 86_400]
    assert api.get(path).json == changed
    assert api.patch(path, {"config": {"api_key": OTHER_KEY}}).json["idle_seconds"] == 1
    assert take(api).deadlines == Deadlines(None, 1, 86_400)
    assert api.patch(path, {"idle_seconds": None, "total_seconds": None}).status == 200
    assert take(api).deadlines is None
    assert api.delete(path).status == 204
    assert create(api, total_seconds=90.5)["total_seconds"] == 90.5
    assert take(api).deadlines == Deadlines(total_seconds=90.5)


@pytest.mark.parametrize("name", DEADLINES)
@pytest.mark.parametrize("seconds", [0.999, 0, -1, 86_400.1, "60", True])
def test_deadline_out_of_bounds_is_refused_by_its_name(
    shared_api: Api, name: str, seconds: Any
) -> None:
    sent = {"name": "x", "config": {"api_key": KEY}, name: seconds}
    assert shared_api.post("/api/connections", sent).fields_at_fault == [["body", name]]


def test_connection_is_listed_as_a_credential(api: Api) -> None:
    entry = {"period": "minute", "requests": 5, "dimension": "source-ip"}
    made = create(
        api,
        description="For search",
        allowed_models=["gpt-5.4"],
        capacity=[entry],
        config={"api_key": KEY, "organization": "org-1", "base_url": "https://proxy.example/v1/"},
    )
    assert (made["provider"], made["name"]) == ("openai", "main")
    assert made["config"] == {
        **{"api_key": MASK, "base_url": "https://proxy.example/v1", "organization": "org-1"},
    }
    defaults = {"tokens": None, "enabled": True, "dimension_field": None, "discovered": False}
    assert made["capacity"] == [{**entry, **defaults}]
    path = f"/api/connections/{made['id']}"
    assert api.get(path).json == made
    assert api.get("/api/connections").json["connections"] == [made]
    assert api.get("/api/credentials").json["total_credentials"] == 1
    assert take(api).headers[1] == (b"openai-organization", b"org-1")
    assert api.delete(path).status == 204
    assert api.get(path).status == 404


@pytest.mark.parametrize(
    "config", [{}, {"api_key": ""}, {"api_key": "****"}, {"base_url": "https://h"}]
)
def test_connection_without_a_key_is_refused(shared_api: Api, config: dict[str, str]) -> None:
    answer = shared_api.post("/api/connections", {"name": "x", "config": config})
    assert (answer.status, answer.json["code"]) == (400, "AI_CONNECTION_CONFIG_INVALID")


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"config": {"api_key": "sk-short"}}, ["config", "api_key"]),
        ({"config": {"api_key": KEY, "base_url": "ftp://x"}}, ["config", "base_url"]),
        ({"config": {"api_key": KEY, "organization": "a b"}}, ["config", "organization"]),
        ({"provider": "nothing"}, ["provider"]),
        ({"capacity": [{"period": "second"}]}, ["capacity", 0]),
        ({"allowed_models": ["a b"]}, ["allowed_models", 0]),
        ({"discovered_capacity": {}}, ["discovered_capacity"]),
    ],
)
def test_invalid_field_is_named(shared_api: Api, body: dict[str, Any], loc: list[str]) -> None:
    sent = {"name": "x", "config": {"api_key": KEY}, **body}
    [named] = shared_api.post("/api/connections", sent).fields_at_fault
    assert named[: 1 + len(loc)] == ["body", *loc]


@pytest.mark.parametrize("mask", [MASK, "****", "****WXYZ", None])
def test_returned_mask_keeps_the_key(api: Api, mask: str | None) -> None:
    made = create(api)
    config = {"organization": "org-2", **({} if mask is None else {"api_key": mask})}
    changed = api.patch(f"/api/connections/{made['id']}", {"config": config, "name": "renamed"})
    assert (changed.status, changed.headers["etag"]) == (200, '"2"')
    assert changed.json["config"] == {**made["config"], "organization": "org-2"}
    credential = take(api, "renamed")
    assert credential.secret == KEY.encode()
    assert credential.headers[1] == (b"openai-organization", b"org-2")


def test_new_key_replaces_the_old_one(api: Api) -> None:
    made = create(api)
    path = f"/api/connections/{made['id']}"
    changed = api.patch(path, {"config": {"api_key": OTHER_KEY}})
    assert changed.json["config"]["api_key"] == "sk-proj-…9876"
    assert take(api).secret == OTHER_KEY.encode()
    refused = api.patch(path, {"config": {"api_key": "sk-short"}})
    assert refused.fields_at_fault == [["body", "config", "api_key"]]
    assert take(api).secret == OTHER_KEY.encode()
    assert api.patch(path, {"name": "x"}, headers={"if-match": '"1"'}).status == 412
    actions = [action for action, of in api.audited() if of == made["id"]]
    assert actions == ["credential.created", "credential.replaced"]


@pytest.mark.parametrize("more", [{}, {"api_key": "****"}, {"api_key": MASK}])
def test_stored_key_is_not_sent_to_another_address(api: Api, more: dict[str, str]) -> None:
    made = create(api)
    path = f"/api/connections/{made['id']}"
    config = {"base_url": "https://evil.example/v1", **more}
    refused = api.patch(path, {"config": config, "name": "x"})
    assert (refused.status, refused.json["code"]) == (400, "AI_CONNECTION_CONFIG_INVALID")
    assert api.get(path).json == made
    config = {"base_url": "https://proxy.example/v1", "api_key": OTHER_KEY}
    assert api.patch(path, {"config": config}).status == 200
    assert (take(api).origin.host, take(api).secret) == ("proxy.example", OTHER_KEY.encode())


def test_connection_is_used_for_its_models_only(api: Api) -> None:
    free = create(api, name="any")
    narrow = create(api, name="narrow", allowed_models=["gpt-5.4", "text-*"])
    assert take(api).id == narrow["id"]
    assert take(api, model="text-embedding-3-small").id == narrow["id"]
    assert take(api, model="gpt-5.5").id == free["id"]
    assert take(api, model=None).id == free["id"]
    assert take(api, model=None, is_free=True).id == narrow["id"]
    for model in ("gpt-5.5", "", None):
        with pytest.raises(
            UnusableCredentialError, match=r"limited to the models gpt-5\.4, text-\*"
        ):
            take(api, "narrow", model)
    api.delete(f"/api/connections/{free['id']}")
    with pytest.raises(NoCredentialError, match=r"limited to the models .* names `gpt-5\.5`"):
        take(api, model="gpt-5.5")
    opened = api.patch(f"/api/connections/{narrow['id']}", {"allowed_models": []})
    assert opened.json["allowed_models"] == []
    assert take(api, model="gpt-5.5").id == narrow["id"]


def test_limits_that_the_provider_announced_are_returned(api: Api) -> None:
    made = create(api)
    capacity_tracker = api.application.capacity_tracker
    capacity_tracker.note(made["id"], "gpt-5.4", LIMITS, 100.0)
    capacity_tracker.note(made["id"], "gpt-5.4", [(LIMITS[0][0], b"7")], 130.0)
    capacity_tracker.note(made["id"], "gpt-5.5", [(LIMITS[0][0], b"many")], 100.0)
    capacity_tracker.note(made["id"], None, LIMITS, 100.0)
    with api.application.database.transaction() as connection:
        capacity_tracker.flush(connection)
    shown = api.get(f"/api/connections/{made['id']}").json["discovered_capacity"]
    assert list(shown) == ["gpt-5.4"]
    assert (shown["gpt-5.4"]["requests"], shown["gpt-5.4"]["tokens"]) == (500, 200_000)
    capacity_tracker.note(made["id"], "gpt-5.4", [(LIMITS[0][0], b"7")], 161.0)
    with api.application.database.transaction() as connection:
        capacity_tracker.flush(connection)
        connection.exec_driver_sql(
            "UPDATE discovered_capacity SET observed_at = observed_at - 604799"
        )
    shown = api.get("/api/connections").json["connections"][0]["discovered_capacity"]
    assert shown["gpt-5.4"]["requests"] == 7
    with api.application.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE discovered_capacity SET observed_at = observed_at - 100")
    assert api.get(f"/api/connections/{made['id']}").json["discovered_capacity"] == {}


def test_provider_describes_the_config_of_a_connection(shared_api: Api) -> None:
    providers = shared_api.get("/api/providers").json["providers"]
    [provider] = [each for each in providers if each["id"] == "openai"]
    assert provider["default_model"] == "gpt-4.1"
    assert provider["config_schema"]["required"] == ["api_key"]
    assert (
        provider["config_schema"]["properties"]["base_url"]["default"]
        == "https://api.openai.com/v1"
    )
