from __future__ import annotations

from headgate.accounts.model import Role
from headgate.accounts.service import find_inactive_accounts
from headgate.audit.model import SYSTEM
from headgate.keys.model import KeyKind, KeyRequest
from tests.fakes.api import Api
from tests.fakes.people import PASSWORD, Browser, add_person, open_browser

ORGANIZATIONS = "/api/organizations"


def test_operator_makes_an_organization_and_owns_it(api: Api) -> None:
    operator = open_browser(api, add_person(api, "op@example.com", is_operator=True))
    made = operator.post(ORGANIZATIONS, {"name": "Research", "slug": "research"})
    assert (made.status, made.json["owner_invitation_token"]) == (201, None)
    [own] = operator.get(ORGANIZATIONS).json["organizations"]
    assert (own["id"], own["role"]) == (made.json["id"], "owner")
    bad = operator.post(ORGANIZATIONS, {"name": "Research", "slug": "Re search"})
    assert bad.fields_at_fault == [["body", "slug"]]


def test_organization_with_an_owners_address_is_that_owners_alone(api: Api) -> None:
    operator = open_browser(api, add_person(api, "op@example.com", is_operator=True))
    made = operator.post(ORGANIZATIONS, {"name": "Research", "owner_email": "ada@example.com"})
    assert made.status == 201
    assert operator.get(ORGANIZATIONS).json["organizations"] == []
    headers = {"x-organization-id": made.json["id"]}
    assert operator.get("/api/projects", headers=headers).status == 403
    ada = Browser(api)
    token = made.json["owner_invitation_token"]
    body = {"token": token, "name": "Ada", "password": PASSWORD}
    assert ada.post("/api/invitations/accept", body).json["organizations"][0]["role"] == "owner"
    listed = operator.get("/api/platform/organizations").json
    assert made.json["id"] in [each["id"] for each in listed["organizations"]]
    bad = operator.post(ORGANIZATIONS, {"name": "Research", "owner_email": "not one"})
    assert bad.fields_at_fault == [["body", "owner_email"]]


def test_owner_alone_makes_no_organization(api: Api) -> None:
    owner = open_browser(api, add_person(api, "owner@example.com", Role.OWNER))
    assert owner.post(ORGANIZATIONS, {"name": "Mine"}).status == 403


def test_organization_of_the_header_is_renamed(api: Api) -> None:
    before = api.get("/api/organization")
    assert (before.json["name"], before.headers["etag"]) == ("Own", '"1"')
    renamed = api.patch("/api/organization", {"name": "New"}, headers={"if-match": '"1"'})
    assert (renamed.json["name"], renamed.json["version"]) == ("New", 2)
    stale = api.patch("/api/organization", {"name": "Old"}, headers={"if-match": '"1"'})
    assert stale.status == 412


def test_suspended_organization_rejects_everyone_until_it_is_resumed(api: Api) -> None:
    operator = open_browser(api, add_person(api, "op@example.com", is_operator=True))
    owner = open_browser(api, add_person(api, "owner@example.com", Role.OWNER))
    path = f"/api/platform/organizations/{api.organization_id}"
    assert operator.post(f"{path}/suspend").json["suspended_at"]
    answer = owner.get("/api/projects")
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert "suspended" in answer.json["detail"]
    assert owner.get(ORGANIZATIONS).json["organizations"][0]["is_suspended"]
    assert api.read(find_inactive_accounts).organizations == {api.organization_id}
    assert operator.post(f"{path}/resume").json["suspended_at"] is None
    assert owner.get("/api/projects").status == 200
    assert api.read(find_inactive_accounts).organizations == frozenset()


def test_change_that_affects_keys_bumps_the_revision(api: Api) -> None:
    def revision() -> int:
        query = "SELECT value FROM revisions WHERE topic = 'accounts'"
        return api.read(lambda connection: connection.exec_driver_sql(query).scalar() or 0)

    operator = open_browser(api, add_person(api, "op@example.com", is_operator=True))
    before = revision()
    operator.post(f"/api/platform/organizations/{api.organization_id}/suspend")
    assert revision() == before + 1
    operator.post(f"/api/platform/organizations/{api.organization_id}/resume")
    api.delete(f"/api/projects/{api.own.project_id}")
    assert revision() == before + 3
    assert api.read(find_inactive_accounts).projects == {api.own.project_id}


def test_organization_created_by_a_key_returns_an_owner_invitation(api: Api) -> None:
    with api.application.database.transaction() as connection:
        request = KeyRequest(
            name="operator",
            organization_id=api.organization_id,
            project_id=api.own.project_id,
            kind=KeyKind.ADMIN,
            permissions=("*",),
        )
        key = api.application.keys.create(connection, request, by=SYSTEM).token
    # A change takes the keys up.
    assert api.post("/api/projects", {"name": "Other"}).status == 201
    made = api.post(ORGANIZATIONS, {"name": "Research"}, key=key)
    assert made.status == 201
    body = {
        "token": made.json["owner_invitation_token"],
        "email": "ada@example.com",
        "name": "Ada",
        "password": PASSWORD,
    }
    ada = Browser(api)
    taken = ada.post("/api/invitations/accept", body)
    assert taken.status == 201
    assert [each["id"] for each in taken.json["organizations"]] == [made.json["id"]]
    assert taken.json["organizations"][0]["role"] == "owner"
    assert not taken.json["person"]["is_operator"]
    assert Browser(api).post("/api/invitations/accept", body).status == 404, "it is taken up once"
