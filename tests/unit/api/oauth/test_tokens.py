"""Codes and tokens: once, for whom they are, for their time, and never lost by a race."""

from __future__ import annotations

import base64
import concurrent.futures
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from headgate.audit.model import SYSTEM
from headgate.oauth.jobs import OAuthPruner
from tests.fakes.api import NOBODY, Api, running_api
from tests.fakes.connecting import (
    BASE_URL,
    CHALLENGE,
    VERIFIER,
    AgentClient,
    Tokens,
    make_agent,
    read_error,
    send_form,
)
from tests.fakes.pipeline import ManualClock


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


def test_what_has_ended_is_deleted(agent: AgentClient, clock: ManualClock) -> None:
    api = agent.api
    agent.connect()
    agent.agree(agent.ask())
    pruner = OAuthPruner(api.writer, api.application.connected_applications, clock)

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
