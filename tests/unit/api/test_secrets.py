from __future__ import annotations

from typing import Any

import pytest

from headgate.credentials.model.credential import NoCredentialError, UnusableCredentialError
from headgate.relay.ports import Credential
from tests.fakes.api import Api, clear_platform

VALUE = "sk-proj-0123456789abcdefghijWXYZ"
OTHER = "sk-proj-zyxwvutsrqponmlkjihg9876"
REFERENCE = {"integration_name": "openai", "auth_data": {"api_key": "{{vault:openai_key}}"}}


def store(api: Api, value: str = VALUE, name: str = "openai_key", **more: Any) -> dict[str, Any]:
    answer = api.post("/api/secrets", {"key_name": name, "value": value, **more})
    assert answer.status == 200, answer.text
    return answer.json["data"]


def take(api: Api, name: str | None = None) -> Credential:
    resolver = api.application.credential_resolver
    return resolver.resolve(api.organization_id, integration="openai", name=name)


def test_secret_is_stored_listed_and_removed_without_being_shown(api: Api) -> None:
    answer = api.post(
        "/api/secrets",
        {"key_name": "openai_key", "value": VALUE, "service_type": "openai", "description": "d"},
    )
    assert (answer.status, answer.json["success"]) == (200, True)
    data = answer.json["data"]
    assert (data["key_name"], data["key_prefix"]) == ("openai_key", "sk-p....")
    assert (data["service_type"], data["description"]) == ("openai", "d")
    assert store(api, "short", "another")["key_prefix"] == "...."
    listed = api.get("/api/secrets")
    assert [each["key_name"] for each in listed.json["data"]] == ["another", "openai_key"]
    assert listed.json["total"] == 2
    assert api.get("/api/secrets?limit=1&offset=1").json["data"] == [data]
    assert VALUE[4:] not in answer.text + listed.text
    removed = api.delete("/api/secrets/openai_key")
    assert removed.json == {"success": True, "data": {"key_name": "openai_key"}}
    assert api.delete("/api/secrets/openai_key").status == 404
    assert api.get("/api/secrets").json["total"] == 1
    actions = [action for action, _ in api.audited() if action.startswith("secret.")]
    assert actions == ["secret.created", "secret.created", "secret.removed"]


def test_secrets_of_projects_and_of_others_are_apart(api: Api) -> None:
    path = f"/api/projects/{api.own.project_id}/secrets"
    store(api)
    assert api.post(path, {"key_name": "openai_key", "value": OTHER}).status == 200
    assert api.get(path).json["data"][0]["project_id"] == api.own.project_id
    assert api.get("/api/secrets").json["data"][0]["project_id"] is None
    assert api.delete(f"{path}/openai_key").status == 200
    assert api.get("/api/secrets").json["total"] == 1
    other = {"key": api.other.key, "organization": api.other.organization_id}
    assert api.get("/api/secrets", **other).json["total"] == 0
    assert api.get(path, **other).status == 404
    assert api.post(path, {"key_name": "k", "value": "v"}, **other).status == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"key_name": "a b", "value": "v"}, "key_name"),
        ({"key_name": "", "value": "v"}, "key_name"),
        ({"key_name": "a/b", "value": "v"}, "key_name"),
        ({"key_name": "k\n", "value": "v"}, "key_name"),
        ({"key_name": "k" * 65, "value": "v"}, "key_name"),
        ({"key_name": "k", "value": ""}, "value"),
        ({"key_name": "k", "value": "a b"}, "value"),
        ({"key_name": "k", "value": "a\r\nb"}, "value"),
        ({"key_name": "k", "value": "x" * 4097}, "value"),
        ({"key_name": "k", "value": "{{vault:other}}"}, "value"),
        ({"key_name": "k", "value": "v", "base_url": "ftp://host"}, "base_url"),
        ({"key_name": "k", "value": "v", "project_id": "p"}, "project_id"),
    ],
)
def test_invalid_secret_is_rejected_by_field(
    shared_api: Api, body: dict[str, Any], field: str
) -> None:
    assert shared_api.post("/api/secrets", body).fields_at_fault == [["body", field]]
    assert shared_api.get("/api/secrets").json["total"] == 0


def test_credential_follows_the_secret_that_it_refers_to(api: Api) -> None:
    clear_platform(api)
    store(api)
    made = api.post("/api/credentials", REFERENCE)
    assert made.status == 201, made.text
    path = f"/api/credentials/{made.json['credential_id']}"
    assert take(api).secret == VALUE.encode()
    store(api, OTHER)
    assert take(api).secret == OTHER.encode()
    assert take(api).headers == [(b"authorization", b"Bearer " + OTHER.encode())]
    masked = api.get(f"{path}?include_masked=true").json
    assert masked["auth_data_masked"] == "{{vault:openai_key}}"
    api.delete("/api/secrets/openai_key")
    with pytest.raises(
        UnusableCredentialError, match="the secret 'openai_key', which does not exist"
    ):
        take(api, made.json["credential_id"])
    with pytest.raises(NoCredentialError, match="the secret 'openai_key', which does not exist"):
        take(api)
    tried = api.post(f"{path}/test").json
    assert not tried["is_valid"]
    assert "'openai_key'" in tried["message"]
    own = api.post("/api/credentials", {**REFERENCE, "auth_data": {"api_key": OTHER}}).json
    assert take(api).id == own["credential_id"]


def test_secret_is_sent_only_where_who_stored_it_allows(api: Api) -> None:
    """Who may refer to a secret could otherwise fetch it with an address of their own (N4)."""
    clear_platform(api)
    store(api)
    elsewhere = {"api_key": "{{vault:openai_key}}", "base_url": "https://evil.example/v1"}
    for path in ("/api/credentials", "/api/credentials/test-temporary"):
        refused = api.post(path, {**REFERENCE, "auth_data": elsewhere})
        assert refused.fields_at_fault == [["body", "auth_data", "api_key"]]
        assert "https://api.openai.com:443 only" in refused.text
    proxy = {"api_key": "{{vault:openai_key}}", "base_url": "https://proxy.example/v1"}
    store(api, base_url="https://proxy.example/v1")
    assert api.post("/api/credentials", {**REFERENCE, "auth_data": proxy}).status == 201
    assert take(api).origin.host == "proxy.example"
    store(api)
    with pytest.raises(NoCredentialError, match=r"https://api\.openai\.com:443 only"):
        take(api)


def test_reference_is_checked_as_the_secret_itself_would_be(api: Api) -> None:
    store(api, "not-a-key-of-openai-0123456789")
    refused = api.post("/api/credentials", REFERENCE)
    assert refused.fields_at_fault == [["body", "auth_data", "api_key"]]
    store(api)
    spaced = {**REFERENCE, "auth_data": {"token": "{{ vault:openai_key }}"}}
    assert api.post("/api/credentials", spaced).status == 201
    custom = {"header": "api-key", "value": "{{vault:openai_key}}"}
    assert api.post("/api/credentials", {**REFERENCE, "auth_data": custom}).status == 201
    assert take(api).headers == [(b"api-key", VALUE.encode())]


def test_secrets_of_others_are_not_referred_to(api: Api) -> None:
    other = {"key": api.other.key, "organization": api.other.organization_id}
    sent = {"key_name": "openai_key", "value": VALUE}
    assert api.post("/api/secrets", sent, **other).status == 200
    path = f"/api/projects/{api.own.project_id}/secrets"
    assert api.post(path, sent).status == 200
    refused = api.post("/api/credentials", REFERENCE)
    assert refused.fields_at_fault == [["body", "auth_data", "api_key"]]
    assert "does not exist" in refused.text


def test_broken_own_credential_spends_no_credits(api: Api) -> None:
    assert take(api).managed
    store(api)
    assert api.post("/api/credentials", REFERENCE).status == 201
    assert not take(api).managed
    api.delete("/api/secrets/openai_key")
    with pytest.raises(NoCredentialError, match="the secret 'openai_key', which does not exist"):
        take(api)
