"""Applications are connected by clicking: the whole way, and what must fail on it."""

from __future__ import annotations

import html
import re
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from headgate.accounts.model import Role
from headgate.oauth.model.challenge import build_challenge
from tests.fakes.api import NOBODY, Api, running_api
from tests.fakes.connecting import (
    BASE_URL,
    REDIRECT,
    RESOURCE,
    AgentClient,
    Tokens,
    find_application,
    read_answer,
    read_error,
    read_form,
    register,
    send_form,
)
from tests.fakes.people import PASSWORD, Browser, add_person


def test_both_documents_name_one_issuer_and_the_same_scopes(api: Api) -> None:
    given: dict[str, Any] = {"key": NOBODY, "organization": ""}
    found = [
        api.get(f"/.well-known/oauth-protected-resource{form}", **given).json
        for form in ("", "/mcp")
    ]
    assert found[0] == found[1]
    server = api.get("/.well-known/oauth-authorization-server", **given)
    assert found[0]["resource"] == RESOURCE
    assert found[0]["authorization_servers"] == [server.json["issuer"]] == [BASE_URL]
    assert found[0]["scopes_supported"] == server.json["scopes_supported"]
    assert server.json["code_challenge_methods_supported"] == ["S256"]
    assert server.json["client_id_metadata_document_supported"] is True
    assert server.json["authorization_response_iss_parameter_supported"] is True
    assert server.headers["access-control-allow-origin"] == "*"
    assert build_challenge(BASE_URL, ["mcp:write", "mcp:read"], "invalid_token") == (
        'Bearer error="invalid_token", scope="mcp:read mcp:write", resource_metadata='
        f'"{BASE_URL}/.well-known/oauth-protected-resource/mcp"'
    )


def test_issuer_is_the_public_url_or_what_the_proxy_was_called_by(tmp_path: Path) -> None:
    path = "/.well-known/oauth-authorization-server"
    with running_api(tmp_path / "data", public_url="https://Gate.example.com/") as api:
        found = api.get(path, key=NOBODY).json
        assert found["issuer"] == "https://gate.example.com"
        assert found["token_endpoint"] == "https://gate.example.com/oauth/token"
        options = api.request("OPTIONS", path, key=NOBODY)
        assert (options.status, options.headers["access-control-allow-origin"]) == (204, "*")


def test_proxy_that_ends_tls_is_believed_about_the_scheme(api: Api) -> None:
    path = "/.well-known/oauth-authorization-server"
    found = api.get(path, key=NOBODY, headers={"x-forwarded-proto": "https"}).json
    assert found["issuer"] == "https://gate.example"


def test_agent_is_connected_by_clicking(api: Api, agent: AgentClient, tokens: Tokens) -> None:
    agent.client_id = register(api).json["client_id"]
    page = agent.ask()
    assert "127.0.0.1 (a program on this computer)" in page.text
    answer = agent.decide(page)
    assert answer.headers["location"].startswith(f"{REDIRECT}?")
    told = read_answer(answer)
    assert (told["state"], told["iss"]) == ("the state", BASE_URL)
    issued = agent.redeem(told["code"])
    assert issued.headers["cache-control"] == "no-store"
    assert {**issued.json, "access_token": "", "refresh_token": ""} == {
        "access_token": "",
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token": "",
        "scope": "mcp:read mcp:write",
    }
    grant = tokens.find(issued.json["access_token"])
    assert (grant.organization_id, grant.project_id) == (
        api.own.organization_id,
        api.own.project_id,
    )
    assert (grant.scopes, grant.client_name) == (("mcp:read", "mcp:write"), "Agent")
    key = api.get(f"/api/api-keys/{grant.key_id}").json
    assert key["name"].startswith("Agent (ada-")
    assert ("application.connected", find_application(api, grant)["id"]) in api.audited()


def test_registration_stores_nothing_and_takes_what_clients_send(api: Api) -> None:
    before = api.audited()
    body = {
        "redirect_uris": ["cursor://anysphere.cursor-mcp/oauth/callback", REDIRECT],
        "client_name": "Cursor",
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "client_secret_basic",
        "scope": "openid whatever",
        "a_member_of_tomorrow": {"x": 1},
    }
    answer = register(api, **body)
    assert answer.status == 201
    assert answer.json["redirect_uris"] == body["redirect_uris"]
    assert answer.json["token_endpoint_auth_method"] == "none"
    assert "client_secret" not in answer.json
    # The same application is the same again, whichever port is free.
    ports = [f"http://127.0.0.1:{port}/callback" for port in (5000, 6000)]
    same = {register(api, redirect_uris=[each]).json["client_id"] for each in ports}
    assert len(same) == 1
    assert api.audited() == before
    assert register(api, client_name=None, scope=None).status == 201
    assert answer.json["scope"] == "openid whatever"
    strange = f'{{"redirect_uris": ["{REDIRECT}"], "scope": 1e999, "contacts": [[1]]}}'
    answer = api.request("POST", "/register", key=NOBODY, content=strange.encode())
    assert (answer.status, answer.json.keys() & {"scope", "contacts"}) == (201, set())


@pytest.mark.parametrize(
    "uri",
    [
        *("javascript:alert(1)", "data:text/html,x", "http://evil.example/cb", "//evil.example"),
        *(
            "https://user@good.example/cb",
            "https://good.example/cb#x",
            "https://a b/",
            "https:///x",
        ),
        *("http://localhost.evil.example/cb", "http://127.0.0.1@evil.example/", "", "file:///etc"),
        *("https://good.example\\@evil.example/", "app://[", "app://[x]/", "app:["),
        *("feed:javascript:alert(1)", "microsoft-edge:https://evil.example", "app:"),
    ],
)
def test_dangerous_address_cannot_be_registered(api: Api, uri: str) -> None:
    answer = register(api, redirect_uris=[uri])
    assert (answer.status, read_error(answer)) == (400, "invalid_redirect_uri")


def test_body_that_is_no_description_is_refused(api: Api) -> None:
    for content in (b"[]", b"{", b'{"redirect_uris": []}', b'{"client_name": "x"}'):
        answer = api.request("POST", "/register", key=NOBODY, content=content)
        assert (answer.status, read_error(answer)) == (400, "invalid_client_metadata")
    answer = api.request("POST", "/register", key=NOBODY, content=b" " * 70_000)
    assert answer.status == 413


@pytest.mark.parametrize(
    "uri",
    [
        "https://claude.ai/api/mcp/auth_callback",
        "https://claude.com/api/mcp/auth_callback",
        "https://chatgpt.com/connector_platform_oauth_redirect",
        "https://chatgpt.com/connector/oauth/abcDEF123",
        "https://vscode.dev/redirect",
        "http://127.0.0.1:33418/",
        "http://localhost:8787/callback",
        "http://[::1]:9000/callback",
        "cursor://anysphere.cursor-mcp/oauth/callback",
        "vscode://vscode.github-authentication/did-authenticate",
        "com.example.agent:/oauth",
    ],
)
def test_published_callbacks_work(api: Api, agent: AgentClient, uri: str) -> None:
    agent.redirect_uri = uri
    assert agent.connect()["access_token"]


def test_program_comes_back_on_any_port_and_nowhere_else(api: Api, agent: AgentClient) -> None:
    agent.client_id = register(api).json["client_id"]
    for uri, is_good in {
        "http://127.0.0.1:5/callback": True,
        "http://127.0.0.1/callback": True,
        "http://localhost:33418/callback": False,
        "http://127.0.0.1:33418/other": False,
        "http://127.0.0.1:33418/callback?x=1": False,
        "https://evil.example/callback": False,
    }.items():
        page = agent.ask(redirect_uri=uri)
        assert page.status == (200 if is_good else 400), uri
        assert "location" not in page.headers


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"resource": "https://another.example/mcp"}, "invalid_target"),
        ({"state": "x" * 3_000}, "invalid_request"),
    ],
)
def test_wrong_request_is_shown_and_the_browser_goes_nowhere_by_itself(
    api: Api, agent: AgentClient, changed: dict[str, str | None], code: str
) -> None:
    agent.client_id = register(api).json["client_id"]
    page = agent.ask(**changed)
    assert page.status == 400
    assert "location" not in page.headers
    [link] = re.findall(r'<a href="(http://127[^"]+)">', page.text)
    told = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(html.unescape(link)).query))
    assert (told["error"], told["iss"]) == (code, BASE_URL)


def test_unknown_application_gets_no_link_back(agent: AgentClient) -> None:
    for client_id in (
        "",
        "nobody",
        "hg_client_AAAA",
        "hg_client_",
        "https://x.example/?a",
        "x" * 9999,
    ):
        page = agent.ask(client_id=client_id)
        assert page.status in (400, 401)
        assert "127.0.0.1" not in page.text


def test_parameter_that_is_there_twice_is_refused(api: Api, agent: AgentClient) -> None:
    agent.client_id = register(api).json["client_id"]
    twice = f"/oauth/authorize?client_id={agent.client_id}&client_id={agent.client_id}"
    assert agent.browser.get(twice).status == 400
    content = "grant_type=refresh_token&client_id=a&client_id=b"
    answer = api.request(
        "POST",
        "/oauth/token",
        key=NOBODY,
        content=content.encode(),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert read_error(answer) == "invalid_request"


def test_person_signs_in_on_the_page_and_goes_on(api: Api) -> None:
    person = add_person(api, "grace@example.com", Role.ADMIN)
    agent = AgentClient(api, Browser(api), register(api).json["client_id"])
    page = agent.ask()
    assert "password" in page.text
    fields = read_form(page)
    wrong = send_form(
        api, "/oauth/sign-in", {**fields, "email": person.email, "password": "not it at all"}
    )
    assert wrong.status == 401
    assert 'role="alert"' in wrong.text
    right = send_form(
        api, "/oauth/sign-in", {**fields, "email": person.email, "password": PASSWORD}
    )
    assert right.status == 303
    agent.browser.headers["cookie"] = right.headers["set-cookie"].partition(";")[0]
    consent = agent.browser.get(right.headers["location"])
    assert person.email in consent.text
    assert agent.redeem(agent.agree(consent)).status == 200


def test_pages_run_nothing_and_are_shown_in_no_frame(api: Api, agent: AgentClient) -> None:
    agent.client_id = register(api, client_name='<script>alert("x")</script>').json["client_id"]
    page = agent.ask()
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert "form-action 'self' https: http://127.0.0.1:33418;" in policy
    assert page.headers["x-frame-options"] == "DENY"


def test_consent_needs_the_csrf_token_and_the_own_origin(api: Api, agent: AgentClient) -> None:
    agent.client_id = register(api).json["client_id"]
    fields = read_form(agent.ask()) | {"decision": "allow"}
    identity = agent.browser.identity
    forged = send_form(api, "/oauth/authorize", {**fields, "csrf_token": "x"}, **identity)
    foreign = send_form(api, "/oauth/authorize", fields, **identity, origin="https://evil.example")
    assert (forged.status, foreign.status) == (403, 403)
    # Without a session the person signs in first.
    anonymous = send_form(api, "/oauth/authorize", fields)
    assert "password" in anonymous.text
    assert agent.decide(agent.ask()).status == 303


def test_person_who_refuses_is_believed(api: Api, agent: AgentClient) -> None:
    agent.client_id = register(api).json["client_id"]
    told = read_answer(agent.decide(agent.ask(), decision="deny"))
    assert (told["error"], told["state"], told["iss"]) == ("access_denied", "the state", BASE_URL)
    foreign = read_answer(agent.decide(agent.ask(), project_id=api.other.project_id))
    assert foreign["error"] == "access_denied"


def test_person_gives_less_than_was_asked_and_never_more(
    agent: AgentClient, tokens: Tokens
) -> None:
    agent.connect()
    code = agent.agree(agent.ask(scope="mcp:full"), access="mcp:read")
    assert agent.redeem(code).json["scope"] == "mcp:read"
    code = agent.agree(agent.ask(scope="mcp:read"), access="mcp:full")
    assert agent.redeem(code).json["scope"] == "mcp:read"
    full = agent.redeem(agent.agree(agent.ask(scope="mcp:full"))).json
    assert tokens.find(full["access_token"]).scopes == ("mcp:read", "mcp:write", "mcp:full")


@pytest.mark.parametrize("scope", [None, "claudeai", "openid offline_access"])
def test_scopes_that_are_not_ours_give_the_default(agent: AgentClient, scope: str | None) -> None:
    assert agent.connect(scope=scope)["scope"] == "mcp:read mcp:write"


def test_resource_defaults_to_this_server_and_may_be_spelled_with_a_slash(
    api: Api, agent: AgentClient
) -> None:
    for resource in (None, f"{RESOURCE}/", BASE_URL, f"{BASE_URL}/", "HTTP://Gate.example/mcp"):
        assert agent.connect(resource=resource)["access_token"]


def test_flood_of_one_address_is_bounded(tmp_path: Path) -> None:
    with running_api(tmp_path / "data", oauth_requests_per_minute="3") as api:
        answers = [register(api) for _ in range(5)]
        assert [answer.status for answer in answers] == [201, 201, 201, 429, 429]
        assert answers[-1].headers["retry-after"]
        assert send_form(api, "/oauth/token", {}).status == 429


def test_person_may_sign_in_as_somebody_else(agent: AgentClient) -> None:
    agent.client_id = register(agent.api).json["client_id"]
    page = agent.ask()
    [link] = re.findall(r'<a href="(/oauth/authorize[^"]+)">', page.text)
    assert 'name="password"' in agent.browser.get(html.unescape(link)).text
