from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
import sqlalchemy as sa

from headgate.accounts.model import Role
from headgate.accounts.service import PasswordCheck, PasswordHasher
from headgate.api.access import Audience
from headgate.api.operation import Operation
from headgate.api.routes import ALL
from headgate.audit.model import SYSTEM
from tests.fakes.api import NOBODY, Api, Props, running_api
from tests.fakes.people import COOKIE, PASSWORD, Browser, add_person, open_browser
from tests.fakes.pipeline import ManualClock

ADA = "ada@example.com"
SESSION = "/api/session"
NEXT_PASSWORD = "another sentence, just as long"
CHANGES = [
    operation
    for operations in ALL
    for operation in operations.all
    if operation.changes and operation.access.audience is not Audience.ANYONE
]


class DayClock(ManualClock):
    """Moves only when it is told."""


@pytest.fixture
def clock() -> DayClock:
    return DayClock()


@pytest.fixture
def timed(tmp_path: Path, clock: DayClock) -> Generator[Api]:
    with running_api(tmp_path / "timed", Props(clock=clock)) as running:
        yield running


def test_password_opens_a_session_with_all_that_a_page_needs(api: Api) -> None:
    ada, browser = add_person(api, ADA, Role.ADMIN), Browser(api)
    answer = browser.sign_in("  ADA@example.com ")
    assert answer.status == 201
    shown = answer.json
    assert shown["person"] == {
        "id": ada.id,
        "email": ADA,
        "name": "Ada",
        "is_operator": False,
    }
    [organization] = shown["organizations"]
    assert organization["id"] == api.organization_id
    assert (organization["role"], organization["is_suspended"]) == ("admin", False)
    assert browser.csrf == shown["csrf_token"]
    assert browser.get(SESSION).json == shown
    assert browser.get("/api/projects", organization=api.organization_id).status == 200
    assert ("session.created", shown["session_id"]) in api.audited()


def test_token_of_a_session_is_nowhere_in_the_database(api: Api) -> None:
    add_person(api, ADA)
    browser = Browser(api)
    browser.sign_in(ADA)
    dump = api.read(
        lambda connection: "\n".join(
            str(row)
            for table in ("sessions", "people", "audit", "invitations")
            for row in connection.execute(sa.text(f"SELECT * FROM {table}"))
        )
    )
    assert PASSWORD not in dump
    assert browser.token not in dump
    assert browser.csrf not in dump
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in dump


def test_cookie_is_out_of_reach_of_scripts_and_other_sites(timed: Api) -> None:
    add_person(timed, ADA)
    [cookie] = Browser(timed).sign_in(ADA).headers.get_list("set-cookie")
    parts = cookie.split("; ")
    assert parts[0].startswith(f"{COOKIE}=")
    assert parts[1:] == ["Path=/", "Max-Age=604800", "HttpOnly", "SameSite=Lax"]


@pytest.mark.parametrize(
    "variables",
    [{"public_url": "https://gate.example"}, {"allow_public_without_tls": "true"}],
    ids=["public address", "proxy in front"],
)
def test_behind_tls_the_cookie_is_bound_to_this_host_and_no_other_counts(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    with running_api(tmp_path / "data", **variables) as api:
        add_person(api, ADA)
        answer = Browser(api).sign_in(ADA)
        [cookie] = answer.headers.get_list("set-cookie")
        assert cookie.startswith(f"__Host-{COOKIE}=")
        assert cookie.endswith("; HttpOnly; SameSite=Lax; Secure")
        token = cookie.partition("=")[2].partition(";")[0]
        plain = {"cookie": f"{COOKIE}={token}"}
        assert api.get(SESSION, key=NOBODY, headers=plain).status == 401
        bound = {"cookie": f"__Host-{COOKIE}={token}"}
        assert api.get(SESSION, key=NOBODY, headers=bound).status == 200


class Watched(PasswordHasher):
    """Remembers whether there was a password to check against."""

    def __init__(self) -> None:
        super().__init__()
        self.verified: list[bool] = []

    async def verify(self, stored: str | None, password: str) -> PasswordCheck:
        self.verified.append(stored is not None)
        return await super().verify(stored, password)


def test_unknown_person_takes_the_same_work_and_gets_the_same_bytes(tmp_path: Path) -> None:
    watched = Watched()
    seen: set[tuple[int, str]] = set()
    with running_api(tmp_path / "data", Props(hasher=watched)) as api:
        add_person(api, ADA)
        add_person(api, "issuer-only@example.com", password=None)
        disabled = add_person(api, "disabled@example.com")
        with api.application.database.transaction() as connection:
            api.application.people.disable(connection, disabled, by=SYSTEM)
        for email, password in (
            (ADA, "not the right sentence"),
            ("nobody@example.com", PASSWORD),
            ("issuer-only@example.com", PASSWORD),
            ("disabled@example.com", PASSWORD),
            ("no address at all", PASSWORD),
        ):
            answer = Browser(api).sign_in(email, password)
            seen.add((answer.status, answer.text))
            assert "set-cookie" not in answer.headers
    [(status, text)] = seen
    assert (status, "sign_in_refused" in text) == (401, True)
    assert watched.verified == [True, False, False, False, False]


def test_sign_in_replaces_the_session_of_the_browser(api: Api) -> None:
    add_person(api, ADA)
    planted = Browser(api, token="planted-by-somebody-else", csrf="x")
    first = planted.sign_in(ADA)
    assert first.status == 201
    assert planted.token != "planted-by-somebody-else"
    old = Browser(api, planted.token, planted.csrf)
    assert planted.sign_in(ADA).status == 201
    assert planted.token != old.token
    assert old.get(SESSION).status == 401
    assert planted.get(SESSION).status == 200


def test_signing_out_ends_the_session_and_the_cookie(api: Api) -> None:
    browser = open_browser(api, add_person(api, ADA))
    kept = Browser(api, browser.token, browser.csrf)
    answer = browser.delete(SESSION)
    assert answer.status == 204
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert browser.token == ""
    again = kept.get(SESSION)
    assert (again.status, again.json["code"]) == (401, "not_authenticated")


def test_sessions_are_listed_and_ended_one_by_one_by_their_own_person(api: Api) -> None:
    ada, eve = add_person(api, ADA), add_person(api, "eve@example.com")
    here, there, other = (open_browser(api, who) for who in (ada, ada, eve))
    listed = here.get("/api/sessions").json
    assert listed["total"] == 2
    [current] = [each for each in listed["sessions"] if each["current"]]
    assert current["id"] == here.get(SESSION).json["session_id"]
    [remote] = [each for each in listed["sessions"] if not each["current"]]
    assert other.delete(f"/api/sessions/{remote['id']}").status == 404
    assert here.delete(f"/api/sessions/{remote['id']}").status == 204
    assert there.get(SESSION).status == 401
    assert here.get(SESSION).status == 200


def test_session_ends_when_it_is_not_used_and_when_its_time_is_over(
    timed: Api, clock: DayClock
) -> None:
    ada = add_person(timed, ADA)
    idle, busy = open_browser(timed, ada), open_browser(timed, ada)
    for _ in range(13):
        clock.seconds += 3600.0
        assert busy.get(SESSION).status == 200
    assert idle.get(SESSION).status == 401
    for _ in range(7 * 24 - 14):
        clock.seconds += 3600.0
        assert busy.get(SESSION).status == 200
    clock.seconds += 3601.0
    assert busy.get(SESSION).status == 401


def test_use_of_a_session_is_noted_at_most_once_a_minute(timed: Api, clock: DayClock) -> None:
    browser = open_browser(timed, add_person(timed, ADA))

    def last_seen() -> str:
        return browser.get("/api/sessions").json["sessions"][0]["last_seen_at"]

    first = last_seen()
    clock.seconds += 59.0
    assert last_seen() == first
    clock.seconds += 1.0
    assert last_seen() > first


def test_changed_password_ends_every_other_session_and_renews_this_one(api: Api) -> None:
    ada = add_person(api, ADA)
    here, there = open_browser(api, ada), open_browser(api, ada)
    old = Browser(api, here.token, here.csrf)
    body = {"old_password": PASSWORD, "new_password": NEXT_PASSWORD}
    answer = here.post("/api/session/password", body)
    assert answer.status == 200
    assert here.token != old.token
    assert [each.get(SESSION).status for each in (here, old, there)] == [200, 401, 401]
    assert Browser(api).sign_in(ADA).status == 401
    assert Browser(api).sign_in(ADA, NEXT_PASSWORD).status == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"old_password": "not it, but long", "new_password": NEXT_PASSWORD}, "old_password"),
        ({"old_password": PASSWORD, "new_password": "eleven char"}, "new_password"),
        ({"old_password": PASSWORD, "new_password": "Password1234"}, "new_password"),
        ({"old_password": PASSWORD, "new_password": "aaaaaaaaaaaaaaa"}, "new_password"),
        ({"old_password": PASSWORD, "new_password": "ü" * 600}, "new_password"),
        ({"old_password": PASSWORD, "new_password": "x" * 1025}, "new_password"),
    ],
)
def test_wrong_and_weak_passwords_name_their_field(
    api: Api, body: dict[str, str], field: str
) -> None:
    browser = open_browser(api, add_person(api, ADA))
    answer = browser.post("/api/session/password", body)
    assert answer.fields_at_fault == [["body", field]]
    assert not any(text in answer.text for text in body.values())
    assert Browser(api).sign_in(ADA).status == 201


def test_disabled_person_loses_access_at_once_and_returns_only_by_a_new_sign_in(api: Api) -> None:
    operator = open_browser(api, add_person(api, "op@example.com", is_operator=True))
    ada = add_person(api, ADA, Role.OWNER)
    browser = open_browser(api, ada)
    assert operator.post(f"/api/platform/people/{ada.id}/disable").json["disabled_at"]
    assert browser.get(SESSION).status == 401
    assert Browser(api).sign_in(ADA).status == 401
    assert operator.post(f"/api/platform/people/{ada.id}/enable").json["disabled_at"] is None
    assert browser.get(SESSION).status == 401
    assert Browser(api).sign_in(ADA).status == 201


def test_too_many_attempts_are_rejected_with_the_time_to_wait(timed: Api, clock: DayClock) -> None:
    add_person(timed, ADA)
    for _ in range(10):
        assert Browser(timed).sign_in(ADA, "not the right sentence").status == 401
    refused = Browser(timed).sign_in(ADA)
    assert (refused.status, refused.json["code"]) == (429, "sign_in_too_often")
    assert refused.headers["retry-after"] == "6"
    clock.seconds += 6.0
    assert Browser(timed).sign_in(ADA).status == 201


def test_successful_sign_ins_are_not_counted(timed: Api) -> None:
    add_person(timed, ADA)
    assert {Browser(timed).sign_in(ADA).status for _ in range(12)} == {201}


@pytest.mark.parametrize("operation", CHANGES, ids=lambda operation: operation.id)
def test_change_by_cookie_needs_the_csrf_token(shared_api: Api, operation: Operation) -> None:
    person = add_person(shared_api, "op@example.com", Role.OWNER, is_operator=True)
    browser, other = open_browser(shared_api, person), open_browser(shared_api, person)
    path = operation.path.replace("{", "").replace("}", "")
    before = shared_api.audited()
    for csrf in ("", "wrong", other.csrf, browser.token):
        sent = Browser(shared_api, browser.token, csrf, shared_api.organization_id)
        answer = sent.request(operation.method, path, operation.example)
        assert (answer.status, answer.code) == (403, "csrf_token_wrong"), answer.text
    assert shared_api.audited() == before


@pytest.mark.parametrize("path", [SESSION, "/api/invitations/accept"])
def test_page_of_another_site_cannot_sign_in(api: Api, path: str) -> None:
    add_person(api, ADA)
    body = {"email": ADA, "password": PASSWORD}
    for origin in ("https://evil.example", "null", "http://gate.example.evil.example", ""):
        answer = api.post(path, body, key=NOBODY, headers={"origin": origin})
        assert (answer.status, answer.json["code"]) == (403, "origin_refused")
    own = {"origin": "http://gate.example"}
    assert api.post(SESSION, body, key=NOBODY, headers=own).status == 201


def test_key_is_not_a_person_and_a_cookie_does_not_replace_a_wrong_token(api: Api) -> None:
    browser = open_browser(api, add_person(api, ADA))
    assert api.get(SESSION).status == 403
    mixed = {"authorization": "Bearer something-else"}
    assert browser.get(SESSION, headers=mixed).status == 401
    bearer = {"authorization": f"Bearer {browser.token}"}
    assert api.get(SESSION, key=NOBODY, headers=bearer).status == 401


def test_responses_cannot_be_framed_or_run_as_pages(shared_api: Api) -> None:
    for path in ("/api/projects", "/api/nothing"):
        headers = shared_api.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["cache-control"] == "no-store"


def test_person_has_a_bounded_number_of_sessions(api: Api) -> None:
    ada = add_person(api, ADA)
    browsers = [open_browser(api, ada) for _ in range(51)]
    assert browsers[0].get(SESSION).status == 401
    assert browsers[1].get(SESSION).status == 200
    assert browsers[-1].get("/api/sessions").json["total"] == 50
