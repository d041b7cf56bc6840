from __future__ import annotations

import pytest

from headgate.accounts.model import Role
from tests.fakes.api import Api
from tests.fakes.people import add_person, open_browser

MEMBERS = "/api/members"


def test_owner_promotes_and_demotes_owners_and_their_sessions_end(api: Api) -> None:
    owner = open_browser(api, add_person(api, "owner@example.com", Role.OWNER))
    ada = add_person(api, "ada@example.com", Role.ADMIN)
    browser = open_browser(api, ada)
    answer = owner.patch(f"{MEMBERS}/{ada.id}", {"role": "owner"})
    assert (answer.status, answer.json["role"], answer.headers["etag"]) == (200, "owner", '"2"')
    assert browser.get("/api/session").status == 401
    assert owner.patch(f"{MEMBERS}/{ada.id}", {"role": "admin"}).json["role"] == "admin"
    stale = owner.patch(f"{MEMBERS}/{ada.id}", {"role": "owner"}, headers={"if-match": '"2"'})
    assert stale.status == 412


def test_admin_can_neither_change_nor_appoint_an_owner(api: Api) -> None:
    owner = add_person(api, "owner@example.com", Role.OWNER)
    eve = add_person(api, "eve@example.com", Role.ADMIN)
    admin = open_browser(api, eve)
    for path, body in ((owner.id, {"role": "admin"}), (eve.id, {"role": "owner"})):
        answer = admin.patch(f"{MEMBERS}/{path}", body)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert admin.delete(f"{MEMBERS}/{owner.id}").status == 403
    invited = admin.post("/api/invitations", {"email": "eve2@example.com", "role": "owner"})
    assert invited.status == 403
    by_key = api.patch(f"{MEMBERS}/{eve.id}", {"role": "owner"})
    assert by_key.status == 403


def test_last_owner_stays(api: Api) -> None:
    owner = add_person(api, "owner@example.com", Role.OWNER)
    browser = open_browser(api, owner)
    for answer in (
        browser.patch(f"{MEMBERS}/{owner.id}", {"role": "admin"}),
        browser.delete(f"{MEMBERS}/{owner.id}"),
    ):
        assert (answer.status, answer.json["code"]) == (409, "last_owner")
    add_person(api, "second@example.com", Role.OWNER)
    assert browser.patch(f"{MEMBERS}/{owner.id}", {"role": "admin"}).status == 200
    assert browser.patch(f"{MEMBERS}/{owner.id}", {"role": "owner"}).status == 403


def test_removed_member_loses_access_and_their_open_invitations(api: Api) -> None:
    owner = open_browser(api, add_person(api, "owner@example.com", Role.OWNER))
    eve = add_person(api, "eve@example.com", Role.ADMIN)
    browser = open_browser(api, eve)
    issued = browser.post("/api/invitations", {"email": "eve-too@example.com"})
    assert issued.status == 201
    assert owner.delete(f"{MEMBERS}/{eve.id}").status == 204
    assert browser.get("/api/session").status == 401
    assert owner.get("/api/invitations").json["total"] == 0
    assert owner.get(f"{MEMBERS}/{eve.id}").status == 404
    again = open_browser(api, eve)
    assert again.get(MEMBERS).status == 403
    assert again.get("/api/organizations").json["organizations"] == []


@pytest.mark.parametrize("path", ["/api/projects", "/api/members", "/api/audit"])
def test_retired_role_grants_nothing(api: Api, path: str) -> None:
    member = open_browser(api, add_person(api, "old@example.com", Role.MEMBER))
    assert member.get(path).status == 403
    [own] = member.get("/api/organizations").json["organizations"]
    assert own["role"] == "member"


def test_retired_role_cannot_be_assigned(api: Api) -> None:
    owner = open_browser(api, add_person(api, "owner@example.com", Role.OWNER))
    ada = add_person(api, "ada@example.com", Role.ADMIN)
    answer = owner.patch(f"{MEMBERS}/{ada.id}", {"role": "member"})
    assert answer.fields_at_fault == [["body", "role"]]
