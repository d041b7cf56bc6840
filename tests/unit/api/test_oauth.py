"""Applications are connected by clicking: the whole way, and what must fail on it."""

from __future__ import annotations

import base64
import concurrent.futures
import html
import itertools
import re
import urllib.parse
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from headgate.accounts.model import Role
from headgate.audit.model import SYSTEM
from headgate.kit.db.async_database import AsyncDatabase
from headgate.oauth.jobs import OAuthPruner
from headgate.oauth.model.challenge import build_challenge
from headgate.oauth.model.errors import RefusedAccessTokenError
from headgate.oauth.model.grant import OAuthGrant
from headgate.oauth.service import AccessTokens
from tests.fakes.api import NOBODY, Answer, Api, Props, running_api
from tests.fakes.connecting import (
    BASE_URL,
    CHALLENGE,
    REDIRECT,
    RESOURCE,
    VERIFIER,
    AgentClient,
    read_answer,
    read_form,
    register,
    send_form,
)
from tests.fakes.people import PASSWORD, Browser, add_person, open_browser
from tests.fakes.pipeline import ManualClock

count = itertools.count()


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, clock: ManualClock) -> Generator[Api]:
    """Shared: each test has a person of its own."""
    with running_api(tmp_path_factory.mktemp("oauth") / "data", Props(clock=clock)) as running:
        yield running


@pytest.fixture
def agent(api: Api) -> AgentClient:
    return make_agent(api)


def make_agent(api: Api, role: Role = Role.ADMIN) -> AgentClient:
    person = add_person(api, f"ada-{next(count)}@example.com", role)
    return AgentClient(api, open_browser(api, person))


class Tokens:
    """Ask what access tokens allow, as the faces do."""

    def __init__(self, api: Api, clock: ManualClock) -> None:
        storage = AsyncDatabase(api.application.database, api.writer, reload=lambda: None)
        application = api.application
        self._found = AccessTokens(storage, application.people, application.key_index, clock)
        self._api = api

    def find(self, token: str, resource: str = RESOURCE) -> OAuthGrant:
        return self._api.portal.call(self._found.find, token, resource)

    def refuses(self, token: str, resource: str = RESOURCE) -> bool:
        try:
            self.find(token, resource)
        except RefusedAccessTokenError:
            return True
        return False


@pytest.fixture
def tokens(api: Api, clock: ManualClock) -> Tokens:
    return Tokens(api, clock)


def read_error(answer: Answer) -> str:
    return answer.json["error"]


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


def find_application(api: Api, grant: OAuthGrant) -> dict[str, Any]:
    listed = api.get("/api/connected-applications").json["applications"]
    [found] = [each for each in listed if each["key_id"] == grant.key_id]
    return found


def test_nothing_of_a_code_or_a_token_is_in_the_database(
    api: Api, agent: AgentClient, tmp_path: Path
) -> None:
    issued = agent.connect()
    refreshed = agent.refresh().json

    def dump(connection: Any) -> str:
        tables = ("oauth_codes", "oauth_access_tokens", "oauth_refresh_tokens", "oauth_grants")
        rows = [connection.exec_driver_sql(f"SELECT * FROM {each}").all() for each in tables]
        return repr(rows)

    stored = api.read(dump)
    for token in (issued, refreshed):
        for name in ("access_token", "refresh_token"):
            assert token[name] not in stored
            assert token[name].removeprefix("hg_ort_") not in stored


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
    person = add_person(api, f"ada-{next(count)}@example.com", Role.ADMIN)
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


def test_member_and_stranger_can_connect_nothing(api: Api) -> None:
    for agent in (
        make_agent(api, Role.MEMBER),
        AgentClient(api, open_browser(api, add_person(api, "s@example.com"))),
    ):
        agent.client_id = register(api).json["client_id"]
        page = agent.ask()
        assert "you cannot connect applications" in page.text
        told = read_answer(agent.decide(page, project_id=api.own.project_id, access="mcp:read"))
        assert told["error"] == "access_denied"


def test_resource_defaults_to_this_server_and_may_be_spelled_with_a_slash(
    api: Api, agent: AgentClient
) -> None:
    for resource in (None, f"{RESOURCE}/", BASE_URL, f"{BASE_URL}/", "HTTP://Gate.example/mcp"):
        assert agent.connect(resource=resource)["access_token"]


def test_code_is_used_once_by_who_asked_for_it(agent: AgentClient, tokens: Tokens) -> None:
    agent.connect()
    code = agent.agree(agent.ask())
    for changed in (
        {"code_verifier": VERIFIER + "x"},
        {"code_verifier": CHALLENGE},
        {"client_id": "hg_client_another"},
        {"redirect_uri": "http://127.0.0.1:1/callback"},
    ):
        answer = agent.redeem(code, **changed)
        assert (answer.status, read_error(answer)) == (400, "invalid_grant")
    assert read_error(agent.redeem(code + "x")) == "invalid_grant"
    issued = agent.redeem(code).json
    assert not tokens.refuses(issued["access_token"])
    again = agent.redeem(code)
    assert read_error(again) == "invalid_grant"
    # Whoever used it twice: what it gave has ended.
    assert Tokens(agent.api, ManualClock()).refuses(issued["access_token"])
    assert read_error(agent.refresh(issued["refresh_token"])) == "invalid_grant"


def test_code_expires_within_a_minute(agent: AgentClient, clock: ManualClock) -> None:
    agent.connect()
    code = agent.agree(agent.ask())
    clock.seconds += 61
    assert read_error(agent.redeem(code)) == "invalid_grant"


def test_token_of_another_audience_is_refused(agent: AgentClient, tokens: Tokens) -> None:
    issued = agent.connect()
    for resource in ("http://localhost:4600/mcp", "https://gate.example/mcp", BASE_URL, ""):
        assert tokens.refuses(issued["access_token"], resource)
    assert not tokens.refuses(issued["access_token"])
    # Nor can it be refreshed at another address.
    elsewhere = send_form(
        agent.api,
        "/oauth/token",
        {
            "grant_type": "refresh_token",
            "refresh_token": issued["refresh_token"],
            "client_id": agent.client_id,
        },
        **{"x-forwarded-proto": "https"},
    )
    assert read_error(elsewhere) == "invalid_grant"


def test_token_that_is_no_access_token_is_refused(agent: AgentClient, tokens: Tokens) -> None:
    issued = agent.connect()
    for token in (
        "",
        "x",
        "hg_oat_",
        issued["refresh_token"],
        issued["access_token"] + "x",
        "hg_oat_" + "x" * 500,
    ):
        assert tokens.refuses(token)


def test_access_token_ends_after_an_hour_and_is_renewed(
    agent: AgentClient, tokens: Tokens, clock: ManualClock
) -> None:
    issued = agent.connect()
    clock.seconds += 3_599
    assert not tokens.refuses(issued["access_token"])
    clock.seconds += 2
    assert tokens.refuses(issued["access_token"])
    renewed = agent.refresh().json
    assert renewed["refresh_token"] != issued["refresh_token"]
    assert not tokens.refuses(renewed["access_token"])


def test_twenty_refreshes_at_once_log_nobody_out(
    agent: AgentClient, tokens: Tokens, clock: ManualClock
) -> None:
    issued = agent.connect()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(agent.refresh, [issued["refresh_token"]] * 20))
    assert [answer.status for answer in answers] == [200] * 20
    [successor] = {answer.json["refresh_token"] for answer in answers}
    assert not any(tokens.refuses(answer.json["access_token"]) for answer in answers)
    # The next one works, and an answer that was lost is given again.
    assert agent.refresh(successor).status == 200
    clock.seconds += 59
    assert agent.refresh(issued["refresh_token"]).json["refresh_token"] == successor


def test_refresh_token_that_is_used_later_ends_the_family(
    api: Api, agent: AgentClient, clock: ManualClock
) -> None:
    issued = agent.connect()
    renewed = agent.refresh().json
    clock.seconds += 61
    assert read_error(agent.refresh(issued["refresh_token"])) == "invalid_grant"
    assert read_error(agent.refresh(renewed["refresh_token"])) == "invalid_grant"
    assert Tokens(api, clock).refuses(renewed["access_token"])
    assert "application.token_reused" in [action for action, _ in api.audited()]
    # The application is still connected, so the person need only agree again.
    assert agent.connect()["access_token"]


def test_refresh_is_for_its_application_and_never_widens(agent: AgentClient) -> None:
    agent.connect()
    assert read_error(agent.refresh(client_id="hg_client_another")) == "invalid_grant"
    assert read_error(agent.refresh(scope="mcp:full")) == "invalid_scope"
    assert read_error(agent.refresh("hg_ort_unknown")) == "invalid_grant"
    assert read_error(agent.refresh(resource="https://a.example/mcp")) == "invalid_target"
    narrowed = agent.refresh(scope="mcp:read").json
    assert narrowed["scope"] == "mcp:read"
    assert agent.refresh(narrowed["refresh_token"]).json["scope"] == "mcp:read mcp:write"


def test_unused_connection_ends_after_a_month(agent: AgentClient, clock: ManualClock) -> None:
    agent.connect()
    clock.seconds += 30 * 86_400 + 1
    assert read_error(agent.refresh()) == "invalid_grant"


def test_other_grants_are_not_there(agent: AgentClient) -> None:
    api = agent.api
    for fields, code in (
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({}, "invalid_request"),
        ({"grant_type": "authorization_code"}, "invalid_request"),
        ({"grant_type": "refresh_token", "client_id": "x"}, "invalid_request"),
    ):
        answer = send_form(api, "/oauth/token", fields)
        assert (answer.status, read_error(answer)) == (400, code)
    answer = api.post("/token", {"grant_type": "refresh_token"}, key=NOBODY)
    assert read_error(answer) == "invalid_request"


def test_client_id_may_come_as_basic_with_an_empty_secret(api: Api, agent: AgentClient) -> None:
    agent.connect()
    encoded = urllib.parse.quote_plus(agent.client_id) + ":"
    basic = base64.b64encode(encoded.encode()).decode()
    fields = {"grant_type": "refresh_token", "refresh_token": agent.tokens["refresh_token"]}
    answer = send_form(api, "/oauth/token", fields, authorization=f"Basic {basic}")
    assert answer.status == 200
    for unreadable in ("é", "=", "w6k"):
        header = f"Basic {unreadable}".encode("latin-1")
        answer = send_form(api, "/oauth/token", fields, authorization=header)
        assert (answer.status, read_error(answer)) == (400, "invalid_request")


def test_revocation_ends_a_token_or_all_of_them(agent: AgentClient, tokens: Tokens) -> None:
    api = agent.api
    issued = agent.connect()
    others = send_form(api, "/oauth/revoke", {"token": issued["access_token"], "client_id": "x"})
    assert others.status == 200
    assert not tokens.refuses(issued["access_token"])
    client = {"client_id": agent.client_id}
    renewed = agent.refresh().json
    assert (
        send_form(api, "/oauth/revoke", {"token": issued["access_token"], **client}).status == 200
    )
    fresh = Tokens(api, ManualClock())
    assert fresh.refuses(issued["access_token"])
    assert not fresh.refuses(renewed["access_token"])
    assert (
        send_form(api, "/oauth/revoke", {"token": renewed["refresh_token"], **client}).status == 200
    )
    assert Tokens(api, ManualClock()).refuses(renewed["access_token"])
    assert send_form(api, "/oauth/revoke", {"token": "hg_ort_unknown"}).status == 200


def test_connecting_again_keeps_the_key_and_its_limits(agent: AgentClient, tokens: Tokens) -> None:
    first = tokens.find(agent.connect()["access_token"])
    api = agent.api
    changed = api.patch(f"/api/api-keys/{first.key_id}", {"requests_per_minute": 7})
    assert changed.status == 200
    second = tokens.find(agent.connect()["access_token"])
    assert (second.key_id, second.id != first.id) == (first.key_id, True)
    assert find_application(api, first)["open_grants"] == 2
    api.delete(f"/api/api-keys/{first.key_id}")
    assert tokens.find(agent.connect()["access_token"]).key_id != first.key_id


@pytest.mark.parametrize("way", ["application", "key", "disabled key", "signatures"])
def test_whatever_ends_the_key_ends_the_application_at_once(
    agent: AgentClient, tokens: Tokens, way: str
) -> None:
    api = agent.api
    issued = agent.connect()
    grant = tokens.find(issued["access_token"])
    path = f"/api/api-keys/{grant.key_id}"
    if way == "application":
        listed = find_application(api, grant)
        assert (listed["person_id"], listed["redirect_host"]) == (grant.person_id, "127.0.0.1")
        answer = api.delete(f"/api/connected-applications/{listed['id']}")
        assert answer.status == 204
        assert api.get(f"/api/connected-applications/{listed['id']}").status == 404
        assert ("application.revoked", listed["id"]) in api.audited()
        assert api.get(path).json["state"] == "revoked"
    elif way == "key":
        assert api.delete(path).status == 204
    elif way == "disabled key":
        assert api.patch(path, {"enabled": False}).status == 200
    else:
        assert api.post(f"{path}/signing-secret", {}).status == 200
        assert api.patch(path, {"requires_signature": True}).status == 200
        assert tokens.refuses(issued["access_token"])
        return
    # The same instance, which had the token in its cache.
    assert tokens.refuses(issued["access_token"])
    assert read_error(agent.refresh()) == "invalid_grant"


@pytest.mark.parametrize("way", ["role", "disabled"])
def test_person_who_may_not_any_more_ends_it_within_seconds(
    agent: AgentClient, tokens: Tokens, clock: ManualClock, way: str
) -> None:
    application = agent.api.application
    issued = agent.connect()
    person_id = tokens.find(issued["access_token"]).person_id
    with application.database.transaction() as connection:
        person = application.people.get(connection, person_id)
        if way == "role":
            own = agent.api.own.organization_id
            member = application.members.get(connection, own, person_id)
            application.members.remove(connection, own, member, by=SYSTEM, by_role=Role.OWNER)
        else:
            application.people.disable(connection, person, by=SYSTEM)
    clock.seconds += 5.1
    assert tokens.refuses(issued["access_token"])


def test_key_sees_only_the_applications_of_its_organization_and_projects(
    agent: AgentClient, tokens: Tokens
) -> None:
    api = agent.api
    found = find_application(api, tokens.find(agent.connect()["access_token"]))
    foreign = {"key": api.other.key, "organization": api.other.organization_id}
    path = f"/api/connected-applications/{found['id']}"
    assert api.get("/api/connected-applications", **foreign).json["total"] == 0
    assert api.get(path, **foreign).status == api.delete(path, **foreign).status == 404
    mine = api.get(f"/api/connected-applications?person_id={found['person_id']}").json
    assert [each["id"] for each in mine["applications"]] == [found["id"]]


def test_flood_of_one_address_is_bounded(tmp_path: Path) -> None:
    with running_api(tmp_path / "data", oauth_requests_per_minute="3") as api:
        answers = [register(api) for _ in range(5)]
        assert [answer.status for answer in answers] == [201, 201, 201, 429, 429]
        assert answers[-1].headers["retry-after"]
        assert send_form(api, "/oauth/token", {}).status == 429


def test_what_has_ended_is_deleted(agent: AgentClient, clock: ManualClock) -> None:
    api = agent.api
    agent.connect()
    agent.agree(agent.ask())
    pruner = OAuthPruner(api.writer, clock)

    def count_rows() -> list[int]:
        tables = ("oauth_codes", "oauth_access_tokens", "oauth_refresh_tokens", "oauth_grants")
        return api.read(
            lambda connection: [
                connection.exec_driver_sql(f"SELECT count(*) FROM {each}").scalar_one()
                for each in tables
            ]
        )

    clock.seconds += 31 * 86_400
    api.portal.call(pruner.run)
    assert count_rows()[:3] == [0, 0, 0]
    clock.seconds += 31 * 86_400
    api.portal.call(pruner.run)
    assert count_rows() == [0, 0, 0, 0]


def test_token_runs_actions_and_nothing_else_of_the_api(agent: AgentClient) -> None:
    api = agent.api
    access = agent.connect(scope="mcp:read")["access_token"]
    own: dict[str, Any] = {"key": access, "organization": ""}
    assert api.get("/api/connectors", **own).status == 200
    assert api.get("/api/connectors", **own, headers={"x-forwarded-proto": "https"}).status == 401
    for path in ("/api/api-keys", "/api/connected-applications", "/api/session"):
        answer = api.get(path, key=access)
        assert answer.status == 401, path
    assert api.post("/api/integrations/setup", {}, **own).status == 401
    # A token that may only read runs nothing that costs.
    chat = api.post("/api/connectors/openai/actions/chat-completion", {"messages": []}, **own)
    assert chat.status == 403


def test_plan_limits_applications_as_it_limits_keys(tmp_path: Path) -> None:
    with running_api(tmp_path / "data") as api:
        agent = make_agent(api)
        agent.connect()
        with api.application.database.transaction() as connection:
            api.application.plans.assign(
                connection, api.organization_id, "free", overage=False, by=SYSTEM
            )
        while api.post("/api/api-keys", {"name": "one more"}).status == 201:
            pass
        # The key of a known application is there already.
        assert agent.connect()["access_token"]
        another = AgentClient(api, agent.browser, register(api, client_name="B").json["client_id"])
        refused = another.decide(another.ask())
        assert (refused.status, "location" in refused.headers) == (403, False)


def test_person_may_sign_in_as_somebody_else(agent: AgentClient) -> None:
    agent.client_id = register(agent.api).json["client_id"]
    page = agent.ask()
    [link] = re.findall(r'<a href="(/oauth/authorize[^"]+)">', page.text)
    assert 'name="password"' in agent.browser.get(html.unescape(link)).text


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "sqlite":
        return {}
    return {"database_url": request.getfixturevalue("postgres_url")}


def test_twenty_processes_refresh_with_one_token(tmp_path: Path, place: dict[str, str]) -> None:
    with running_api(tmp_path / "data", **place) as api:
        agent = make_agent(api)
        issued, service = agent.connect(), api.application.oauth_tokens

        def refresh(_: int) -> str:
            with api.application.database.transaction() as connection:
                renewed = service.refresh(
                    connection,
                    issued["refresh_token"],
                    client_id=agent.client_id,
                    scope=None,
                    base_url=BASE_URL,
                    by=SYSTEM,
                )
            assert not isinstance(renewed, Exception)
            return renewed.refresh_token

        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            successors = set(pool.map(refresh, range(20)))
        assert len(successors) == 1
        assert agent.refresh(successors.pop()).status == 200
