"""Connectors over REST: what they show, who may run them, and what a plain HTTP one sends."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import jsonschema_rs
import pytest

from headgate.accounts.model import Role
from headgate.api.openapi import build_document
from headgate.api.routes import ALL
from headgate.audit.model import SYSTEM
from headgate.credentials.model.credential import CredentialRequest
from headgate.keys.model import KeyKind, KeyRequest
from headgate.metering import store as metering
from headgate.relay.ports import Receipt
from tests.fakes.api import Answer, Api
from tests.fakes.people import add_person, open_browser
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream
from tests.fakes.waiting import wait_until

SEARCH = "/api/connectors/brave_search/actions/web-search"
ENDPOINT = "/api/integrations/brave_search/web-search"
SECRET = "BSA0123456789abcdefghijklmnop"
FOUND = {"type": "search", "web": {"results": [{"title": "A", "url": "https://a.example/"}]}}
DATA = {"query": "x", "results": [{"title": "A", "url": "https://a.example/"}]}


@pytest.fixture(scope="module")
def upstream() -> Generator[FakeUpstream]:
    with running_upstream() as fake:
        yield fake


@pytest.fixture(autouse=True)
def answering(upstream: FakeUpstream) -> None:
    upstream.forget()
    upstream.script = lambda received: received.answer(json.dumps(FOUND).encode())


def configure(api: Api, base_url: str | None = None, **more: Any) -> str:
    request = CredentialRequest(
        organization_id=api.organization_id,
        integration="brave_search",
        secret=SECRET,
        base_url=base_url,
        **more,
    )
    application = api.application
    with application.database.transaction() as connection:
        made = application.credentials.add(connection, request, by=SYSTEM)
    with application.database.reading() as connection:
        application.load(connection, frozenset({"credentials"}))
    return made.id


def run(api: Api, path: str = SEARCH, body: Any = None, **more: Any) -> Answer:
    given = {"query": "x"} if body is None else body
    return api.post(path, given, key=more.pop("key", api.own.live_key), organization="", **more)


def find_receipts(api: Api) -> list[Receipt]:
    recent = api.read(
        lambda connection: metering.list_recent(connection, api.organization_id, rows_max=50)
    )
    return [receipt for receipt in recent if receipt.endpoint == "connector.http"]


def test_catalog_of_connectors_tells_what_is_configured(shared_api: Api) -> None:
    api = shared_api
    listed = api.get("/api/connectors", key=api.own.live_key, organization="").json
    by_name = {each["name"]: each for each in listed["connectors"]}
    assert listed["total"] == len(by_name) == len(listed["connectors"])
    brave, openai = by_name["brave_search"], by_name["openai"]
    # The platform's own credential serves everybody.
    assert (brave["configured"], openai["configured"]) == (False, True)
    assert brave["actions"] == [
        {
            "name": "web-search",
            "title": "Web search",
            "description": "Search the web and return titles, addresses and excerpts of the pages "
            "that fit best.",
            "tool_name": "brave_search_web_search",
            "is_read_only": True,
        }
    ]
    assert openai["data_sources"][0]["name"] == "list-models"
    assert api.get("/api/connectors/brave_search", key=api.own.live_key).json == brave


def test_action_shows_its_schema_and_form(shared_api: Api) -> None:
    action = shared_api.get(SEARCH).json
    assert (action["connector"], action["timeout"]) == ("brave_search", 10_000)
    jsonschema_rs.validate(action["input_schema"], {"query": "x", "count": 5, "timeout": 100})
    jsonschema_rs.validate(action["output_schema"], DATA)
    assert [each["name"] for each in action["form"]] == list(action["input_schema"]["properties"])


def test_both_addresses_run_the_action(api: Api, upstream: FakeUpstream) -> None:
    credential_id = configure(api, upstream.base_url)
    plain = run(api)
    assert (plain.status, plain.json) == (200, {"data": DATA})
    enveloped = run(api, ENDPOINT)
    assert (enveloped.status, enveloped.json) == (200, {"success": True, "data": DATA})
    read = api.get(f"{ENDPOINT}?query=x&count=5", key=api.own.live_key, organization="")
    assert read.json == {"success": True, "data": DATA}
    sent = upstream.received
    assert [each.method for each in sent] == ["GET"] * 3
    assert sent[2].target.startswith("/v1/web/search?q=x&count=5&")
    assert sent[0].headers["x-subscription-token"] == SECRET
    assert "authorization" not in sent[0].headers
    receipts = find_receipts(api)
    assert len(receipts) == 3
    for receipt in receipts:
        assert receipt.organization_id == api.organization_id
        assert receipt.project_id == api.own.project_id
        assert receipt.key_id == "key_" + api.own.live_key.split("_")[2]
        assert (receipt.provider, receipt.credential_id) == ("brave_search", credential_id)
        assert (receipt.outcome, receipt.status, receipt.pricing) == ("completed", 200, "free")
        assert json.loads(receipt.metadata) == {"tool": "brave_search_web_search"}


def test_integration_that_is_not_set_up_says_how_to_do_it(shared_api: Api) -> None:
    plain, enveloped = run(shared_api), run(shared_api, ENDPOINT)
    assert (plain.status, plain.code) == (409, "integration_not_configured")
    error = enveloped.json["error_object"]
    assert enveloped.json["success"] is False
    assert (enveloped.status, error["type"]) == (409, "conflict")
    assert "`setup_integration`" in error["recovery"] == plain.json["recovery"]


def test_input_is_cleaned_and_what_is_wrong_is_named(api: Api, upstream: FakeUpstream) -> None:
    configure(api, upstream.base_url)
    assert (
        run(api, body={"query": "x", "count": "7", "offset": "", "timeout": "9000"}).status == 200
    )
    assert "count=7&offset=0" in upstream.received[0].target
    for field, value in (("count", "many"), ("count", 21), ("colour", 1), ("timeout", 0)):
        plain = run(api, body={"query": "x", field: value})
        assert plain.fields_at_fault == [["body", field]]
        error = run(api, ENDPOINT, {"query": "x", field: value})
        assert (error.status, error.json["error_object"]["field"]) == (422, field)
    assert run(api, body=["x"]).status == 422
    assert run(api, ENDPOINT, "x").json["error_object"]["code"] == "invalid"
    assert run(api, content=b"{").code == "malformed_json"
    assert len(upstream.received) == 1


def test_unknown_names_tell_what_there_is(shared_api: Api) -> None:
    answer = run(shared_api, "/api/integrations/nobody/web-search")
    assert (answer.status, answer.code) == (404, "integration_not_found")
    assert "brave_search, openai" in answer.json["error_object"]["message"]
    answer = run(shared_api, "/api/integrations/brave_search/nothing")
    assert (answer.status, answer.code) == (404, "endpoint_not_found")


def test_endpoint_that_acts_is_not_run_by_get(shared_api: Api) -> None:
    answer = shared_api.get("/api/integrations/openai/generate-image", key=shared_api.own.live_key)
    assert (answer.status, answer.code) == (405, "action_not_read_only")


def wait_for_ever(received: ReceivedRequest) -> None:
    received.wait_closed(5)


def test_refusal_and_silence_of_the_service_are_told_apart(
    api: Api, upstream: FakeUpstream
) -> None:
    configure(api, upstream.base_url)
    refused = {"error": {"detail": f"The token {SECRET} is over its rate."}}
    headers = {"retry-after": "3"}
    upstream.script = lambda received: received.answer(
        json.dumps(refused).encode(), status=429, headers=headers
    )
    plain = run(api)
    assert (plain.status, plain.code, plain.json["status"]) == (502, "provider_error", 429)
    assert SECRET not in plain.text
    assert "over its rate" in plain.json["detail"]
    assert plain.headers["retry-after"] == "3"
    upstream.script = lambda received: received.reset()
    assert run(api).code == "service_unreachable"
    upstream.script = wait_for_ever
    slow = run(api, body={"query": "x", "timeout": 300})
    assert (slow.status, slow.code) == (504, "action_timed_out")
    wait_until(lambda: len(find_receipts(api)) == 3)
    assert {(each.status, each.outcome, each.error_code) for each in find_receipts(api)} == {
        (429, "upstream_error", "provider_error"),
        (502, "unknown", "provider_unreachable"),
        (504, "unknown", "provider_timeout"),
    }


def test_connection_is_chosen_by_name_and_never_replaced(api: Api, upstream: FakeUpstream) -> None:
    configure(api, upstream.base_url, name="main")
    configure(api, "http://127.0.0.1:12001/v1", name="broken", is_default=True)
    assert run(api, body={"query": "x", "connection": "main"}).status == 200
    assert run(api).code == "service_unreachable"
    unknown = run(api, body={"query": "x", "connection": "other"})
    assert unknown.code == "credential_unusable"


def make_key(api: Api, kind: KeyKind = KeyKind.LIVE, **limits: Any) -> str:
    request = KeyRequest(
        name="k",
        organization_id=api.organization_id,
        project_id=api.own.project_id,
        kind=kind,
        **limits,
    )
    application = api.application
    with application.database.transaction() as connection:
        token = application.keys.create(connection, request, by=SYSTEM).token
    with application.database.reading() as connection:
        application.load(connection, frozenset({"keys"}))
    return token


def test_rate_counts_each_action_once_and_reading_counts_too(
    api: Api, upstream: FakeUpstream
) -> None:
    configure(api, upstream.base_url)
    token = make_key(api, requests_per_minute=2)
    assert [run(api, key=token).status for _ in range(3)] == [200, 200, 429]
    assert api.get("/api/connectors", key=token).status == 429


def test_who_may_run_what(api: Api, upstream: FakeUpstream) -> None:
    configure(api, upstream.base_url)
    # A management key runs what calls no model, and sees nothing else.
    assert run(api, key=api.key).status == 200
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    refused = run(api, "/api/integrations/openai/chat-completion", chat, key=api.key)
    assert (refused.status, refused.code) == (403, "tool_forbidden")
    seen = api.get("/api/connectors").json["connectors"]
    actions = {each["name"]: len(each["actions"]) for each in seen}
    assert (actions["brave_search"], actions["openai"]) == (1, 0)
    narrow = make_key(api, endpoints=("embeddings",))
    refused = run(api, "/api/connectors/openai/actions/chat-completion", chat, key=narrow)
    assert (refused.status, refused.code) == (403, "tool_forbidden")
    reader = make_key(api, KeyKind.ADMIN, permissions=("connectors:read",))
    assert api.get("/api/connectors", key=reader).status == 200
    assert run(api, key=reader).status == 403
    assert api.get(f"{ENDPOINT}?query=x", key=reader).status == 200
    elsewhere = make_key(api, networks=("198.51.100.0/24",))
    assert run(api, key=elsewhere).code == "address_out_of_scope"
    # People see everything, and run nothing yet.
    person = add_person(api, "m@example.com", Role.MEMBER, organization_id=api.organization_id)
    browser = {**open_browser(api, person).identity, "x-organization-id": api.organization_id}
    seen = api.get("/api/connectors", key="", headers=browser).json["connectors"]
    assert all(each["actions"] for each in seen)
    assert run(api, key="", headers=browser).status == 403


def test_every_action_stands_in_the_document_with_its_own_types() -> None:
    paths = build_document(ALL)["paths"]
    for path in (SEARCH, ENDPOINT):
        run = paths[path]["post"]
        assert run["x-tool-name"] == "brave_search_web_search"
        schema = run["requestBody"]["content"]["application/json"]["schema"]
        jsonschema_rs.validate(schema, {"query": "x", "timeout": 1})
        assert not jsonschema_rs.is_valid(schema, {"query": "x", "colour": 1})
        assert not any(each["in"] == "path" for each in run["parameters"])
    answer = paths[SEARCH]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema_rs.validate(answer, {"data": DATA})
    parameters = paths[ENDPOINT]["get"]["parameters"]
    assert {"query", "count", "timeout"} <= {each["name"] for each in parameters}
    assert "get" not in paths["/api/integrations/openai/chat-completion"]
