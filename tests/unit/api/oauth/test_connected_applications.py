"""A connected application is a key, and ends with it, or with the right of its person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headgate.accounts.model import Role
from headgate.audit.model import SYSTEM
from headgate.oauth.jobs import OAuthPruner
from tests.fakes.api import Api, running_api
from tests.fakes.connecting import (
    AgentClient,
    Tokens,
    find_application,
    make_agent,
    read_answer,
    read_error,
    register,
)
from tests.fakes.people import add_person, open_browser
from tests.fakes.pipeline import ManualClock


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


def test_application_that_never_comes_back_with_its_code_is_revoked(
    api: Api, tokens: Tokens, clock: ManualClock
) -> None:
    person = add_person(api, "lost@example.com", Role.ADMIN)
    agent = AgentClient(api, open_browser(api, person), register(api).json["client_id"])
    pruner = OAuthPruner(api.writer, api.application.connected_applications, clock)

    def consent_and_wait(seconds: float) -> list[dict[str, Any]]:
        agent.browser = open_browser(api, person)
        agent.agree(agent.ask())
        clock.seconds += seconds
        api.portal.call(pruner.run)
        path = f"/api/connected-applications?person_id={person.id}"
        return api.get(path).json["applications"]

    [lost] = consent_and_wait(400)
    # Consented to again before it ended, so it has ten minutes more.
    [again] = consent_and_wait(400)
    assert again["id"] == lost["id"]
    clock.seconds += 400
    api.portal.call(pruner.run)
    assert api.get(f"/api/connected-applications/{lost['id']}").status == 404
    assert api.get(f"/api/api-keys/{lost['key_id']}").json["state"] == "revoked"
    assert ("application.revoked", lost["id"]) in api.audited()
    # One that has been connected keeps its key, and works.
    grant = tokens.find(agent.connect()["access_token"])
    [kept] = consent_and_wait(700)
    assert (kept["key_id"], kept["open_grants"]) == (grant.key_id, 1)
    assert agent.refresh().status == 200
    # It keeps it also when it was not used for long.
    clock.seconds += 40 * 86_400
    api.portal.call(pruner.run)
    [kept] = consent_and_wait(700)
    assert (kept["key_id"], kept["open_grants"]) == (grant.key_id, 0)
    assert tokens.find(agent.connect()["access_token"]).key_id == grant.key_id


@pytest.mark.parametrize("way", ["role", "disabled"])
def test_person_who_may_not_any_more_ends_it_within_seconds(
    agent: AgentClient, tokens: Tokens, clock: ManualClock, way: str
) -> None:
    application = agent.api.application
    issued = agent.connect()
    unredeemed = agent.agree(agent.ask())
    person_id = tokens.find(issued["access_token"]).person_id
    with application.database.transaction() as connection:
        person = application.people.get(connection, person_id)
        if way == "role":
            own = agent.api.own.organization_id
            member = application.members.get(connection, own, person_id)
            application.members.remove(connection, own, member, by=SYSTEM, by_role=Role.OWNER)
        else:
            application.people.disable(connection, person, by=SYSTEM)
    code = agent.redeem(unredeemed)
    assert (read_error(code), read_error(agent.refresh())) == ("invalid_grant", "invalid_grant")
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
