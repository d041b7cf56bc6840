from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from headgate.accounts.model import Role
from headgate.audit.model import SYSTEM
from tests.fakes.api import NOBODY, Api, Props, running_api
from tests.fakes.people import PASSWORD, Browser, add_person, open_browser
from tests.fakes.pipeline import ManualClock

INVITATIONS = "/api/invitations"
ACCEPT = "/api/invitations/accept"
GUEST = "guest@example.com"


@pytest.fixture
def owner(api: Api) -> Browser:
    return open_browser(api, add_person(api, "owner@example.com", Role.OWNER))


def invite(owner: Browser, email: str = GUEST, role: str = "admin") -> str:
    answer = owner.post(INVITATIONS, {"email": email, "role": role})
    assert answer.status == 201, answer.text
    return answer.json["token"]


def test_link_makes_a_new_person_a_member_once_and_signs_them_in(api: Api, owner: Browser) -> None:
    token, guest = invite(owner, " GUEST@example.com "), Browser(api)
    assert owner.get(INVITATIONS).json["invitations"][0]["email"] == GUEST
    body = {"token": token, "name": "Guest", "password": PASSWORD}
    answer = guest.post(ACCEPT, body)
    assert answer.status == 201
    assert [each["role"] for each in answer.json["organizations"]] == ["admin"]
    assert guest.get("/api/projects", organization=api.organization_id).status == 200
    again = Browser(api).post(ACCEPT, {**body, "name": "Other"})
    assert (again.status, again.json) == (404, {"detail": "Not found.", "code": "not_found"})
    assert owner.get(INVITATIONS).json["total"] == 0
    assert Browser(api).sign_in(GUEST).status == 201


def test_new_person_needs_a_name_and_a_strong_password(api: Api, owner: Browser) -> None:
    token = invite(owner)
    for body, field in (
        ({"password": PASSWORD}, "name"),
        ({"name": "Guest"}, "password"),
        ({"name": "Guest", "password": "password1234"}, "password"),
        ({"name": "Guest", "password": PASSWORD, "email": "other@example.com"}, "email"),
    ):
        answer = Browser(api).post(ACCEPT, {"token": token, **body})
        assert answer.fields_at_fault == [["body", field]]
    assert owner.get(INVITATIONS).json["total"] == 1


def test_invitation_link_does_not_open_an_existing_account(api: Api, owner: Browser) -> None:
    victim = add_person(api, "victim@example.com", password=PASSWORD)
    token = invite(owner, victim.email)
    thief = Browser(api)
    mine = {"token": token, "name": "Mine", "password": "the thief's own sentence"}
    assert thief.post(ACCEPT, mine).status == 401
    assert thief.post(ACCEPT, {"token": token}).status == 401
    assert Browser(api).sign_in(victim.email).status == 201
    known = Browser(api).post(ACCEPT, {"token": token, "password": PASSWORD})
    assert known.status == 201
    assert known.json["person"]["id"] == victim.id


def test_signed_in_person_gets_the_role_and_a_new_session(api: Api, owner: Browser) -> None:
    ada = add_person(api, "ada@example.com", Role.MEMBER)
    browser, stranger = open_browser(api, ada), open_browser(api, add_person(api, "b@example.com"))
    token = invite(owner, ada.email)
    refused = stranger.post(ACCEPT, {"token": token})
    assert (refused.status, refused.json["code"]) == (409, "signed_in_as_somebody_else")
    old = Browser(api, browser.token, browser.csrf)
    without = Browser(api, browser.token, "")
    assert without.post(ACCEPT, {"token": token}).json["code"] == "csrf_token_wrong"
    answer = browser.post(ACCEPT, {"token": token})
    assert [each["role"] for each in answer.json["organizations"]] == ["admin"]
    assert browser.token != old.token
    assert old.get("/api/session").status == 401


def test_invitation_does_not_lower_an_existing_role(api: Api, owner: Browser) -> None:
    add_person(api, "second@example.com", Role.OWNER)
    token = invite(owner, "second@example.com")
    answer = Browser(api).post(ACCEPT, {"token": token, "password": PASSWORD})
    assert [each["role"] for each in answer.json["organizations"]] == ["owner"]


def test_revoked_unknown_and_expired_links_look_the_same(tmp_path: Path) -> None:
    clock = ManualClock()
    with running_api(tmp_path / "data", Props(clock=clock)) as api:
        owner = open_browser(api, add_person(api, "owner@example.com", Role.OWNER))
        revoked = invite(owner)
        [listed] = owner.get(INVITATIONS).json["invitations"]
        assert owner.delete(f"{INVITATIONS}/{listed['id']}").status == 204
        overdue = invite(owner)
        clock.seconds += 7 * 86_400
        answers = {
            api.post(ACCEPT, {"token": token, "name": "G", "password": PASSWORD}, key=NOBODY).text
            for token in (revoked, overdue, "hg_invite_unknown", "x")
        }
        assert answers == {'{"detail":"Not found.","code":"not_found"}'}


def test_repeated_request_issues_one_invitation_and_shows_its_token_again(
    api: Api, owner: Browser
) -> None:
    sent = {"idempotency-key": "invite-1"}
    body = {"email": GUEST, "role": "admin"}
    first, second = (owner.post(INVITATIONS, body, headers=sent) for _ in range(2))
    assert first.text == second.text
    assert owner.get(INVITATIONS).json["total"] == 1


def test_token_is_not_stored(api: Api, owner: Browser) -> None:
    token = invite(owner)
    for table in ("invitations", "audit"):
        query = f"SELECT * FROM {table}"
        rows = api.read(lambda connection, query=query: connection.exec_driver_sql(query).all())
        assert rows
        assert token not in str(rows)


@pytest.fixture
def fresh(tmp_path: Path) -> Generator[Api]:
    with running_api(tmp_path / "fresh", public_url="https://gate.example") as running:
        yield running


def test_link_leads_to_the_console_and_its_token_to_no_log(fresh: Api) -> None:
    answer = fresh.post(INVITATIONS, {"email": GUEST})
    assert answer.json["link"] == f"https://gate.example/invitation#{answer.json['token']}"


def test_first_owner_names_their_own_address_and_is_the_operator(api: Api) -> None:
    application = api.application
    with application.database.transaction() as connection:
        issued = application.invitations.create_for_operator(
            connection, api.organization_id, by=SYSTEM
        )
    browser = Browser(api, organization_id=api.organization_id)
    body = {"token": issued.token, "name": "First", "password": PASSWORD}
    assert browser.post(ACCEPT, body).fields_at_fault == [["body", "email"]]
    answer = browser.post(ACCEPT, {**body, "email": "first@example.com"})
    assert answer.json["person"]["is_operator"]
    assert browser.get("/api/platform/people").status == 200
    assert browser.post(ACCEPT, {**body, "email": "second@example.com"}).status == 404
