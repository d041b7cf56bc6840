from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Generator
from typing import Any

import msgspec
import pytest

from headgate.audit.model import SYSTEM
from headgate.credentials.model.credential import CredentialRequest
from headgate.credentials.service.tester import ENDPOINT
from headgate.metering import store as metering
from headgate.relay.ports import Deadlines, Receipt
from tests.fakes.api import Answer, Api
from tests.fakes.upstream import FakeUpstream, running_upstream

KEY = "sk-proj-0123456789abcdefghijWXYZ"
OTHER_KEY = "sk-proj-zyxwvutsrqponmlkjihg9876"
USAGE = b'"usage":{"prompt_tokens":9,"completion_tokens":3}'
GOOD = b'{"id":"c1","choices":[],"model":"gpt-5.4-mini",%b}' % USAGE
SHOWN = {
    *("credential_id", "integration_name", "integration_type", "display_name", "auth_type"),
    *("is_default", "created_at", "updated_at", "last_used_at", "expires_at"),
    *("credentials_metadata", "first_byte_seconds", "idle_seconds", "total_seconds", "version"),
}


@pytest.fixture
def provider() -> Generator[FakeUpstream]:
    with running_upstream() as fake:
        fake.script = lambda asked: asked.answer(GOOD)
        yield fake


def create(api: Api, key: str = KEY, **more: Any) -> Answer:
    data = {"api_key": key, **more.pop("auth_data", {})}
    return api.post("/api/credentials", {"integration_name": "openai", "auth_data": data, **more})


def add(api: Api, key: str = KEY, **more: Any) -> str:
    answer = create(api, key, **more)
    assert answer.status == 201, answer.text
    return answer.json["credential_id"]


def taken(api: Api, name: str | None = None) -> str:
    resolver = api.application.credential_resolver
    return resolver.resolve(api.organization_id, integration="openai", name=name).id


def events(api: Api, credential_id: str) -> list[str]:
    listed = api.get(f"/api/credentials/{credential_id}/audit").json
    return [entry["event_type"] for entry in reversed(listed)]


def receipts(api: Api) -> list[Receipt]:
    return list(
        api.read(
            lambda connection: metering.list_recent(connection, api.organization_id, rows_max=99)
        )
    )


def test_new_credential_is_shown_without_its_secret(api: Api) -> None:
    answer = create(api, metadata={"team": "search"}, make_default=True)
    assert answer.status == 201
    assert set(answer.json) == SHOWN
    shown = answer.json
    assert (shown["integration_name"], shown["integration_type"]) == ("openai", "llm_provider")
    assert (shown["display_name"], shown["auth_type"]) == ("OpenAI", "api_key")
    assert (shown["is_default"], shown["last_used_at"], shown["expires_at"]) == (True, None, None)
    assert shown["credentials_metadata"] == {"team": "search"}
    assert taken(api) == shown["credential_id"]
    detail = api.get(f"/api/credentials/{shown['credential_id']}").json
    assert set(detail) - SHOWN == {"organization_id", "base_url", "created_by", "created_by_email"}
    assert (detail["organization_id"], detail["created_by"]) == (
        api.organization_id,
        api.own.key_id,
    )
    masked = api.get(f"/api/credentials/{shown['credential_id']}?include_masked=true").json
    assert masked["auth_data_masked"] == "sk-proj-…WXYZ"
    assert KEY not in answer.text + json.dumps(detail) + json.dumps(masked)


@pytest.mark.parametrize(
    ("data", "more", "auth_type"),
    [
        ({"api_key": KEY}, {}, "api_key"),
        ({"api_key": KEY}, {"auth_type": "api_key"}, "api_key"),
        ({"token": "tok-1"}, {}, "bearer_token"),
        ({"bearer_token": "tok-1"}, {"auth_type": "bearer"}, "bearer_token"),
        ({"access_token": "at-1"}, {"oauth_config": {"client_id": "c"}}, "oauth2"),
        ({"header": "api-key", "value": "v-1"}, {"auth_type": "custom"}, "custom"),
    ],
)
def test_type_is_inferred_from_the_secret(
    api: Api, data: dict[str, str], more: dict[str, Any], auth_type: str
) -> None:
    body = {"integration_name": "openai", "auth_data": data, **more}
    answer = api.post("/api/credentials", body)
    assert (answer.status, answer.json.get("auth_type")) == (201, auth_type), answer.text
    credential = api.application.credential_resolver.resolve(
        api.organization_id, integration="openai", name=answer.json["credential_id"]
    )
    [secret] = [value for name, value in data.items() if name != "header"]
    expected = (b"authorization", f"Bearer {secret}".encode())
    if auth_type == "custom":
        expected = (b"api-key", secret.encode())
    assert credential.headers == [expected]
    assert credential.secret == secret.encode()


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"auth_data": {}}, ["auth_data"]),
        ({"auth_data": {"base_url": "https://host/v1"}}, ["auth_data"]),
        ({"auth_data": {"api_key": KEY, "token": "t"}}, ["auth_data"]),
        ({"auth_data": {"api_key": KEY}, "auth_type": "oauth2"}, ["auth_type"]),
        ({"auth_data": {"api_key": KEY}, "auth_type": "modulex_key"}, ["auth_type"]),
        ({"auth_data": {"access_token": "t"}}, ["oauth_config"]),
        ({"auth_data": {"value": "t"}}, ["auth_data", "header"]),
        ({"auth_data": {"api_key": KEY, "header": "x"}}, ["auth_data", "header"]),
        ({"auth_data": {"header": "Host", "value": "t"}}, ["auth_data", "header"]),
        ({"auth_data": {"header": "x\r\ny", "value": "t"}}, ["auth_data", "header"]),
        ({"auth_data": {"api_key": "pk-0123456789abcdefghijkl"}}, ["auth_data", "api_key"]),
        ({"auth_data": {"api_key": "sk-short"}}, ["auth_data", "api_key"]),
        ({"auth_data": {"token": "a b"}}, ["auth_data", "token"]),
        ({"auth_data": {"api_key": KEY, "base_url": "ftp://host"}}, ["auth_data", "base_url"]),
        ({"auth_data": {"api_key": KEY, "base_url": "http://10.0.0.1"}}, ["auth_data", "base_url"]),
        ({"auth_data": {"api_key": KEY, "organization": "a b"}}, ["auth_data", "organization"]),
        ({"auth_data": {"api_key": KEY, "password": "x"}}, ["auth_data", "password"]),
        ({"auth_data": {"api_key": KEY}, "integration_name": "nothing"}, ["integration_name"]),
        ({"auth_data": {"api_key": KEY}, "display_name": " "}, ["display_name"]),
        ({"auth_data": {"api_key": KEY}, "expires_at": "2001-01-01T00:00:00Z"}, ["expires_at"]),
        ({"auth_data": {"api_key": KEY}, "expires_at": "soon"}, ["expires_at"]),
        ({"auth_data": {"api_key": KEY}, "metadata": {"a": "x" * 513}}, ["metadata", "a"]),
        ({"auth_data": {"api_key": KEY}, "metadata": {"k" * 65: "x"}}, ["metadata", "k" * 65]),
        (
            {"auth_data": {"api_key": KEY}, "metadata": {str(n): "" for n in range(33)}},
            ["metadata"],
        ),
        ({"auth_data": {"api_key": "{{vault:nothing}}"}}, ["auth_data", "api_key"]),
        ({"auth_data": {"api_key": "x{{vault:nothing}}"}}, ["auth_data", "api_key"]),
    ],
)
def test_invalid_credential_is_rejected_by_field_and_not_stored(
    shared_api: Api, body: dict[str, Any], loc: list[str]
) -> None:
    answer = shared_api.post("/api/credentials", {"integration_name": "openai", **body})
    assert answer.fields_at_fault == [["body", *loc]]
    assert shared_api.get("/api/credentials").json["total_credentials"] == 0
    for name, secret in body["auth_data"].items():
        assert name == "base_url" or len(secret) < 12 or secret[8:] not in answer.text


def test_secret_in_the_place_of_a_name_is_not_repeated(shared_api: Api) -> None:
    for body in (
        {"integration_name": KEY, "auth_data": {"api_key": KEY}},
        {"integration_name": "openai", "auth_data": {KEY: "api_key"}},
        {"integration_name": "openai", "auth_data": {"api_key": KEY}, "auth_type": KEY},
        {"integration_name": "openai", "auth_data": {"header": KEY, "value": KEY}},
    ):
        answer = shared_api.post("/api/credentials", body)
        assert answer.status == 422
        assert KEY[8:] not in answer.text


def test_list_is_grouped_or_flat(api: Api) -> None:
    ids = [add(api, display_name=f"c{number}") for number in range(3)]
    api.post("/api/credentials", {"integration_name": "openai", "auth_data": {"token": "t"}})
    api.post(
        "/api/credentials",
        {"integration_name": "openai", "auth_data": {"api_key": KEY}},
        key=api.other.key,
        organization=api.other.organization_id,
    )
    grouped = api.get("/api/credentials?limit=2").json
    assert set(grouped) == {"integrations", "total_credentials", "total_integrations", "filters"}
    assert (grouped["total_credentials"], grouped["total_integrations"]) == (4, 1)
    group = grouped["integrations"]["openai"]
    assert set(group) == {
        *("integration_name", "integration_type", "total_count", "auth_types", "credentials"),
    }
    assert (group["total_count"], group["auth_types"]) == (4, ["api_key", "bearer_token"])
    assert [each["auth_type"] for each in group["credentials"]] == ["bearer_token", "api_key"]
    flat = api.get("/api/credentials?integration_name=openai&auth_type=api_key&offset=1").json
    assert set(flat) == {"credentials", "total_count", "integration_name", "filters"}
    assert [each["credential_id"] for each in flat["credentials"]] == [ids[1], ids[0]]
    assert flat["total_count"] == 3
    assert flat["filters"] == {
        **{"integration_name": "openai", "auth_type": "api_key", "limit": 100, "offset": 1},
    }
    assert api.get("/api/credentials?integration_name=none").json["credentials"] == []


@pytest.mark.parametrize("limit", ["0", "501", "x"])
def test_page_size_has_its_bounds(shared_api: Api, limit: str) -> None:
    answer = shared_api.get(f"/api/credentials?limit={limit}")
    assert answer.fields_at_fault == [["query", "limit"]]


def test_deadlines_of_a_credential_change_and_are_shown(api: Api) -> None:
    made = create(api, idle_seconds=900).json
    path = f"/api/credentials/{made['credential_id']}"
    assert (made["first_byte_seconds"], made["idle_seconds"], made["total_seconds"]) == (
        *(None, 900, None),
    )
    changed = api.put(path, {"idle_seconds": None, "total_seconds": 7_200})
    assert (changed.json["idle_seconds"], changed.json["total_seconds"]) == (None, 7_200)
    assert api.get(path).json["total_seconds"] == 7_200
    credential = api.application.credential_resolver.resolve(
        api.organization_id, integration="openai", name=None
    )
    assert credential.deadlines == Deadlines(total_seconds=7_200)
    assert api.put(path, {"total_seconds": 0}).fields_at_fault == [["body", "total_seconds"]]
    assert create(api, idle_seconds=86_401).fields_at_fault == [["body", "idle_seconds"]]


def test_name_and_metadata_change_and_nothing_else(api: Api) -> None:
    credential_id = add(api)
    path = f"/api/credentials/{credential_id}"
    for body in ({"auth_data": {"api_key": OTHER_KEY}}, {"base_url": "https://host"}):
        assert api.put(path, body).status == 422
    changed = api.put(path, {"display_name": "Mine", "metadata": {"a": "b"}})
    assert (changed.status, changed.headers["etag"]) == (200, '"2"')
    assert (changed.json["display_name"], changed.json["credentials_metadata"]) == (
        "Mine",
        {"a": "b"},
    )
    credential = api.application.credential_resolver.resolve(
        api.organization_id, integration="openai", name="Mine"
    )
    assert (credential.id, credential.secret) == (credential_id, KEY.encode())
    assert api.put(path, {"display_name": "x"}, headers={"if-match": '"1"'}).status == 412
    assert api.put(path, {"display_name": "Mine"}).json["version"] == 2


def test_concurrent_changes_of_the_default_leave_one_default(api: Api) -> None:
    ids = [add(api, make_default=True) for _ in range(4)]
    threads = [
        threading.Thread(target=api.post, args=(f"/api/credentials/{each}/set-default",))
        for each in ids
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = api.get("/api/credentials?integration_name=openai").json["credentials"]
    [default] = [each["credential_id"] for each in listed if each["is_default"]]
    assert default == taken(api)


def test_deleted_credential_keeps_its_history(api: Api) -> None:
    credential_id = add(api)
    path = f"/api/credentials/{credential_id}"
    assert api.delete(path).status == 204
    for answer in (api.get(path), api.delete(path), api.post(f"{path}/set-default")):
        assert answer.status == 404
    assert events(api, credential_id) == ["credential.created", "credential.removed"]
    assert api.get(f"{path}/usage").json["total_calls"] == 0


def test_credential_is_tested_before_it_is_saved_by_the_call_of_the_manifest(
    api: Api, provider: FakeUpstream
) -> None:
    body = {
        "integration_name": "openai",
        "auth_type": "api_key",
        "auth_data": {"api_key": KEY, "base_url": provider.base_url},
    }
    answer = api.post("/api/credentials/test-temporary", body)
    assert answer.status == 200, answer.text
    tried = answer.json
    assert (tried["is_valid"], tried["status_code"], tried["test_method"]) == (
        True,
        200,
        "api_call",
    )
    assert (tried["integration_name"], tried["auth_type"]) == ("openai", "api_key")
    assert tried["test_endpoint"] == f"{provider.base_url}/chat/completions"
    assert tried["cost_level"] == "minimal"
    [asked] = provider.received
    assert (asked.method, asked.target) == ("POST", "/v1/chat/completions")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert (asked.json["model"], asked.json["max_tokens"]) == ("gpt-5.4-mini", 10)
    assert api.get("/api/credentials").json["total_credentials"] == 0
    [receipt] = receipts(api)
    assert (receipt.endpoint, receipt.outcome, receipt.status) == (ENDPOINT, "completed", 200)
    assert (receipt.managed, receipt.credential_id, receipt.pricing) == (False, None, "priced")
    assert receipt.cost_nano == 9 * 750 + 3 * 4500
    assert receipt.key_id == api.own.key_id


REFUSED = b'{"error":{"message":"Incorrect key ' + KEY.encode() + b'"}}'


@pytest.mark.parametrize(
    ("status", "body", "said", "is_valid", "outcome"),
    [
        (200, b'{"id":"c1","model":"m"}', "without choices", None, "completed"),
        (200, b"<html>", "not in JSON", None, "upstream_error"),
        (401, REFUSED, "Incorrect key", False, "upstream_error"),
    ],
)
def test_failed_test_is_an_answer(
    api: Api,
    provider: FakeUpstream,
    status: int,
    body: bytes,
    said: str,
    *,
    is_valid: bool | None,
    outcome: str,
) -> None:
    provider.script = lambda asked: asked.answer(body, status=status)
    credential_id = add(api, auth_data={"base_url": provider.base_url})
    answer = api.post(f"/api/credentials/{credential_id}/test")
    assert answer.status == 200
    assert set(answer.json) == {"credential_id", "is_valid", "message", "tested_at"}
    assert (answer.json["credential_id"], answer.json["is_valid"]) == (credential_id, is_valid)
    assert said in answer.json["message"]
    assert KEY[8:] not in answer.text
    [receipt] = receipts(api)
    assert receipt.credential_id == credential_id
    assert receipt.outcome == outcome
    assert events(api, credential_id)[-1] == "credential.tested"


def test_provider_that_cannot_be_reached_is_an_answer(api: Api) -> None:
    credential_id = add(api)
    answer = api.post(f"/api/credentials/{credential_id}/test")
    assert (answer.status, answer.json["is_valid"]) == (200, None)
    assert "did not answer" in answer.json["message"]
    [receipt] = receipts(api)
    assert (receipt.outcome, receipt.status, receipt.cost_nano) == ("upstream_error", 502, 0)


def test_expired_credential_is_not_sent_anywhere(api: Api, provider: FakeUpstream) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.3)
    credential_id = add(
        api, expires_at=later.isoformat(), auth_data={"base_url": provider.base_url}
    )
    while datetime.datetime.now(datetime.UTC) <= later:
        pass
    tried = api.post(f"/api/credentials/{credential_id}/test").json
    assert not tried["is_valid"]
    assert "has expired" in tried["message"]
    assert provider.received == []


def test_bad_key_is_refused_before_any_call(api: Api, provider: FakeUpstream) -> None:
    for data in ({"api_key": "no-key"}, {"api_key": KEY, "base_url": "ftp://host"}):
        body = {"integration_name": "openai", "auth_type": "api_key", "auth_data": data}
        assert api.post("/api/credentials/test-temporary", body).status == 422
    assert provider.received == []
    assert receipts(api) == []


def test_keys_cannot_be_guessed_through_the_gate(api: Api, provider: FakeUpstream) -> None:
    allowed = api.application.settings.credential_tests_per_minute
    body = {
        "integration_name": "openai",
        "auth_data": {"api_key": KEY, "base_url": provider.base_url},
    }
    statuses = [
        api.post("/api/credentials/test-temporary", body).status for _ in range(allowed + 1)
    ]
    assert statuses == [200] * allowed + [429]
    credential_id = add(api, auth_data={"base_url": provider.base_url})
    refused = api.post(f"/api/credentials/{credential_id}/test")
    assert (refused.status, refused.json["code"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) >= 1
    assert len(provider.received) == allowed
    other = {"key": api.other.key, "organization": api.other.organization_id}
    assert api.post("/api/credentials/test-temporary", body, **other).status == 200


def test_every_action_leaves_one_audit_entry_with_who_and_from_where(
    api: Api, provider: FakeUpstream
) -> None:
    credential_id = add(api, auth_data={"base_url": provider.base_url})
    path = f"/api/credentials/{credential_id}"
    api.headers["user-agent"] = "browser/1"
    api.post(f"{path}/test")
    api.post(f"{path}/set-default")
    api.put(path, {"display_name": "Mine"})
    api.delete(path)
    assert events(api, credential_id) == [
        "credential.created",
        "credential.tested",
        "credential.made_default",
        "credential.updated",
        "credential.removed",
    ]
    newest = api.get(f"{path}/audit?limit=1").json[0]
    assert set(newest) == {
        *("id", "credential_id", "event_type", "user_id", "changes", "ip_address", "user_agent"),
        "timestamp",
    }
    assert (newest["credential_id"], newest["user_id"]) == (credential_id, api.own.key_id)
    assert (newest["ip_address"], newest["user_agent"]) == ("203.0.113.9", "browser/1")


def test_usage_counts_the_calls_of_the_period(api: Api, provider: FakeUpstream) -> None:
    credential_id = add(api, auth_data={"base_url": provider.base_url})
    api.post(f"/api/credentials/{credential_id}/test")
    [tried] = receipts(api)
    outcomes = ["completed", "completed", "completed", "upstream_error", "refused"]
    made = [
        msgspec.structs.replace(
            tried,
            request_id=f"req_{number}",
            endpoint="chat.completions" if number else "embeddings",
            outcome=outcome,
            attempts=0 if outcome == "refused" else 1,
        )
        for number, outcome in enumerate(outcomes)
    ]
    with api.application.database.transaction() as connection:
        metering.insert(connection, made)
    path = f"/api/credentials/{credential_id}/usage"
    usage = api.get(path).json
    assert (usage["total_calls"], usage["successful_calls"], usage["failed_calls"]) == (4, 3, 1)
    assert usage["success_rate"] == 0.75
    assert usage["action_breakdown"] == {"chat.completions": 3, "embeddings": 1}
    assert api.get(f"{path}?end_date=2001-01-31").json["total_calls"] == 0
    today = datetime.datetime.now(datetime.UTC).date()
    assert api.get(f"{path}?start_date={today}&end_date={today}").json["total_calls"] == 4


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("start_date=yesterday", "start_date"),
        ("start_date=2026-02-30", "start_date"),
        ("start_date=1700000000", "start_date"),
        ("end_date=2026-13-01T00:00:00Z", "end_date"),
        ("end_date=9999-12-31", "end_date"),
        ("end_date=9999-12-31T23:59:59-12:00", "end_date"),
        ("start_date=2026-02-02&end_date=2026-01-01", "end_date"),
        ("start_date=2026-01-01&end_date=2026-06-01", "start_date"),
    ],
)
def test_invalid_time_is_named(shared_api: Api, query: str, field: str) -> None:
    answer = shared_api.get(f"/api/credentials/any/usage?{query}")
    assert answer.fields_at_fault == [["query", field]]


def test_credentials_of_the_platform_are_not_listed(api: Api) -> None:
    with api.application.database.transaction() as connection:
        request = CredentialRequest(organization_id=None, integration="openai", secret=KEY)
        managed = api.application.credentials.add(connection, request, by=SYSTEM)
    assert api.get("/api/credentials").json["total_credentials"] == 0
    for path in ("", "/usage", "/audit"):
        assert api.get(f"/api/credentials/{managed.id}{path}").status == 404
    assert api.post(f"/api/credentials/{managed.id}/test").status == 404


def test_metadata_takes_texts_numbers_booleans_and_null(api: Api) -> None:
    given = {"team": "search", "cost_center": 4711, "share": 0.25, "shared": True, "note": None}
    made = create(api, metadata=given, expires_at="2199-01-31T10:00:00")
    assert (made.status, made.json["credentials_metadata"]) == (201, given)
    assert made.json["expires_at"] == "2199-01-31T10:00:00Z"
    path = f"/api/credentials/{made.json['credential_id']}"
    assert api.get(path).json["credentials_metadata"] == given
    changed = api.put(path, {"metadata": {"a": 1}})
    assert changed.json["credentials_metadata"] == {"a": 1}
    refused = api.put(path, {"metadata": {"a": 1, "b": ["x"]}})
    assert refused.fields_at_fault == [["body", "metadata", "b"]]
