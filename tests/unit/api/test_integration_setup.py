"""Integrations that are set up over the platform API, and removed again."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from headgate.relay.ports import Credential
from tests.fakes.api import Answer, Api, clear_platform
from tests.fakes.upstream import FakeUpstream, running_upstream

KEY = "sk-proj-0123456789abcdefghijWXYZ"
OTHER_KEY = "sk-proj-zyxwvutsrqponmlkjihg9876"
NAME = "openai_api_key"
LOCAL = "http://127.0.0.1:8443/v1"


def clear_credentials(api: Api) -> Api:
    clear_platform(api)
    api.read(api.application.credential_resolver.load)
    return api


@pytest.fixture(name="api")
def own_credentials_only(api: Api) -> Api:
    return clear_credentials(api)


@pytest.fixture(scope="module")
def unchanged_api(shared_api: Api) -> Api:
    """For tests that store nothing."""
    return clear_credentials(shared_api)


@pytest.fixture
def upstream() -> Generator[FakeUpstream]:
    with running_upstream() as running:
        yield running


def set_up(api: Api, service: str = "openai", *, test: bool = False, **secrets: str) -> Answer:
    body: dict[str, Any] = {"service": service, "secrets": secrets or {NAME: KEY}}
    return api.post("/api/integrations/setup", {**body, "test": test} if test else body)


def read_data(answer: Answer) -> Any:
    assert answer.status == 200, answer.text
    assert answer.json["success"] is True
    return answer.json["data"]


def read_error(answer: Answer) -> dict[str, Any]:
    assert answer.json["success"] is False
    assert set(answer.json) == {"success", "error_object"}
    error: dict[str, Any] = answer.json["error_object"]
    return error


def take(api: Api) -> Credential:
    resolver = api.application.credential_resolver
    return resolver.resolve(api.organization_id, integration="openai", name=None)


def list_names(api: Api, kind: str) -> list[str]:
    return [each["name"] for each in read_data(api.get("/api/integrations"))[kind]]


def list_secrets(api: Api) -> list[str]:
    return [each["key_name"] for each in api.get("/api/secrets").json["data"]]


def list_actions(api: Api) -> list[str]:
    """Return what was done since the platform's credential was removed."""
    actions = [action for action, _ in api.audited()]
    return actions[actions.index("credential.removed") + 1 :]


def test_setup_stores_a_secret_and_a_credential_that_is_used_at_once(api: Api) -> None:
    assert "openai" in list_names(api, "available")
    data = read_data(set_up(api))
    assert (data["service"], data["secret_names"], data["is_new"]) == ("openai", [NAME], True)
    assert (data["is_default"], data["is_tested"]) == (True, False)
    credential = take(api)
    assert (credential.id, credential.secret) == (data["credential_id"], KEY.encode())
    assert (list_secrets(api), "openai" in list_names(api, "configured")) == ([NAME], True)
    detail = api.get(f"/api/credentials/{credential.id}?include_masked=true").json
    assert detail["auth_data_masked"] == "{{vault:openai_api_key}}"
    assert list_actions(api) == ["secret.created", "credential.created", "integration.set_up"]


def test_setup_is_removed_with_its_secret(api: Api) -> None:
    credential_id = read_data(set_up(api))["credential_id"]
    removed = read_data(api.delete("/api/integrations/openai/setup"))
    assert removed == {
        "service": "openai",
        "removed_credentials": [credential_id],
        "removed_secrets": [NAME],
        "kept_secrets": [],
        "other_credentials": [],
    }
    assert (list_secrets(api), "openai" in list_names(api, "available")) == ([], True)
    assert list_actions(api)[3:] == ["credential.removed", "secret.removed", "integration.removed"]
    again = api.delete("/api/integrations/openai/setup")
    assert again.status == 409
    assert read_error(again)["code"] == "integration_not_configured"


def test_same_setup_again_changes_nothing_and_another_secret_replaces_the_first(api: Api) -> None:
    first = read_data(set_up(api))
    before = len(list_actions(api))
    again = read_data(set_up(api, api_key=KEY))
    assert again == {**first, "is_new": False}
    assert list_actions(api)[before:] == ["integration.set_up"]
    changed = read_data(set_up(api, openai_api_key=OTHER_KEY))
    assert changed["credential_id"] == first["credential_id"]
    assert take(api).secret == OTHER_KEY.encode()
    assert list_secrets(api) == [NAME]


def test_address_and_organization_stay_until_a_setup_says_otherwise(api: Api) -> None:
    set_up(api, openai_api_key="word", openai_base_url=LOCAL, organization="org-mine")
    credential = take(api)
    assert (str(credential.origin), credential.secret) == ("http://127.0.0.1:8443", b"word")
    assert (b"openai-organization", b"org-mine") in credential.headers
    read_data(set_up(api, openai_api_key="other"))
    credential = take(api)
    assert (str(credential.origin), credential.secret) == ("http://127.0.0.1:8443", b"other")
    assert (b"openai-organization", b"org-mine") in credential.headers
    read_data(set_up(api, openai_api_key=KEY, openai_base_url="https://api.openai.com/v1"))
    assert (take(api).origin.host, take(api).secret) == ("api.openai.com", KEY.encode())


@pytest.mark.parametrize(
    ("secrets", "field", "said"),
    [
        ({}, NAME, "is missing"),
        ({"openai_base_url": LOCAL}, NAME, "is missing"),
        ({NAME: ""}, NAME, "is missing"),
        ({NAME: KEY, "password": "x"}, "password", "no value of this name"),
        ({NAME: KEY, "api_key": KEY}, "api_key", "twice"),
        ({NAME: "pk-0123456789abcdefghijkl"}, NAME, "^sk-"),
        ({NAME: "sk-short"}, NAME, "^sk-"),
        ({NAME: "{{vault:other}}"}, NAME, "not a reference"),
        ({NAME: KEY, "base_url": "ftp://host"}, "base_url", "^https?://"),
        ({NAME: KEY, "base_url": "http://10.0.0.1/v1"}, "openai_base_url", "10.0.0.1"),
        ({NAME: KEY, "organization": "a b"}, "organization", "must match"),
    ],
)
def test_values_are_checked_before_anything_is_stored(
    unchanged_api: Api, secrets: dict[str, str], field: str, said: str
) -> None:
    answer = unchanged_api.post(
        "/api/integrations/setup", {"service": "openai", "secrets": secrets}
    )
    assert answer.status == 422, answer.text
    error = read_error(answer)
    assert (error["type"], error["code"]) == ("invalid", "invalid_input")
    assert error["field"] == f"secrets.{field}"
    assert said in error["message"]
    assert "get_integration_schema" in error["recovery"]
    assert KEY not in answer.text
    assert list_actions(unchanged_api) == list_secrets(unchanged_api) == []


def test_secret_whose_test_fails_is_not_stored(unchanged_api: Api) -> None:
    answer = set_up(unchanged_api, test=True, openai_api_key="word", openai_base_url=LOCAL)
    error = read_error(answer)
    assert (error["code"], error["field"]) == ("credential_test_failed", f"secrets.{NAME}")
    assert list_secrets(unchanged_api) == []


def test_tested_secret_is_stored_once_the_provider_accepts_it(
    api: Api, upstream: FakeUpstream
) -> None:
    secrets = {NAME: "word", "openai_base_url": upstream.base_url}
    upstream.script = lambda received: received.answer(b'{"error": {"message": "No."}}', status=401)
    error = read_error(set_up(api, test=True, **secrets))
    assert (error["code"], "401" in error["message"]) == ("credential_test_failed", True)
    assert list_secrets(api) == []
    answer = b'{"id": "1", "choices": [], "model": "gpt-5.4-mini"}'
    upstream.script = lambda received: received.answer(answer)
    assert read_data(set_up(api, test=True, **secrets))["is_tested"] is True
    assert upstream.received[-1].headers["authorization"] == "Bearer word"
    assert list_secrets(api) == [NAME]


def test_unknown_integration_is_told_the_names_that_there_are(unchanged_api: Api) -> None:
    for answer in (
        set_up(unchanged_api, "none"),
        unchanged_api.get("/api/integrations/none/schema"),
        unchanged_api.delete("/api/integrations/none/setup"),
    ):
        assert answer.status == 404
        error = read_error(answer)
        assert error["code"] == "integration_not_found"
        assert "openai" in error["message"]
        assert "list_integrations" in error["recovery"]


def test_credentials_that_were_added_otherwise_stay(api: Api) -> None:
    added = api.post(
        "/api/credentials",
        {"integration_name": "openai", "auth_data": {"api_key": OTHER_KEY}, "make_default": True},
    ).json["credential_id"]
    answer = api.delete("/api/integrations/openai/setup")
    assert (answer.status, added in read_error(answer)["recovery"]) == (409, True)
    assert read_data(set_up(api))["is_default"] is False
    removed = read_data(api.delete("/api/integrations/openai/setup"))
    assert removed["other_credentials"] == [added]
    assert "openai" in list_names(api, "configured")


def test_secret_that_another_credential_refers_to_is_kept(api: Api) -> None:
    read_data(set_up(api))
    reference = {"api_key": "{{vault:openai_api_key}}", "base_url": "https://api.openai.com/v1"}
    added = api.post("/api/credentials", {"integration_name": "vllm", "auth_data": reference})
    assert added.status == 201, added.text
    removed = read_data(api.delete("/api/integrations/openai/setup"))
    assert (removed["removed_secrets"], removed["kept_secrets"]) == ([], [NAME])
    assert list_secrets(api) == [NAME]


def test_schema_tells_what_an_integration_needs_and_takes(unchanged_api: Api) -> None:
    data = read_data(unchanged_api.get("/api/integrations/openai/schema"))
    [key, address, organization] = data["credentials"]
    assert (key["name"], key["required"], key["sensitive"]) == (NAME, True, True)
    assert key["pattern"].startswith("^sk-")
    assert (address["name"], address["required"]) == ("openai_base_url", False)
    assert (organization["name"], organization["required"]) == ("openai_organization", False)
    endpoints = {each["name"]: each for each in data["endpoints"]}
    chat = endpoints["chat-completion"]
    assert chat["tool"] == "openai_chat_completion"
    assert chat["input_schema"]["required"] == ["messages"]
    one = read_data(unchanged_api.get("/api/integrations/openai/schema?endpoint=list-models"))
    assert [each["name"] for each in one["endpoints"]] == ["list-models"]
    unknown = unchanged_api.get("/api/integrations/openai/schema?endpoint=none")
    assert unknown.status == 404
    assert "chat-completion" in read_error(unknown)["message"]


def test_inference_key_reads_what_it_may_run_and_sets_nothing_up(unchanged_api: Api) -> None:
    key = {"key": unchanged_api.own.live_key, "organization": ""}
    listed = unchanged_api.get("/api/integrations", **key)
    [openai] = [each for each in read_data(listed)["available"] if each["name"] == "openai"]
    assert "chat-completion" in [each["name"] for each in openai["endpoints"]]
    for answer in (
        unchanged_api.post(
            "/api/integrations/setup", {"service": "openai", "secrets": {NAME: KEY}}, **key
        ),
        unchanged_api.delete("/api/integrations/openai/setup", **key),
    ):
        assert answer.status == 403
        assert set(read_error(answer)) >= {"type", "code", "message", "recovery"}


def test_catalog_of_what_ships_needs_no_login_and_has_no_configuration(api: Api) -> None:
    read_data(set_up(api))
    answer = api.get("/api/integrations/catalog", key="", organization="")
    data = {each["name"]: each for each in read_data(answer)}
    assert data["openai"]["credentials"][0]["name"] == NAME
    assert "configured" not in answer.text
    assert "chat-completion" in [each["name"] for each in data["openai"]["endpoints"]]
