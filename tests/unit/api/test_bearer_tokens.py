"""Tokens of a configured issuer (JWT) as a person's login (M6), its keys read over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from headgate.accounts.model import Role
from headgate.audit.model import SYSTEM
from tests.fakes.api import NOBODY, Api, running_api
from tests.fakes.issuer import FakeIssuer
from tests.fakes.people import add_person

ADA = "ada@example.com"
VERIFIED = {"email": ADA, "email_verified": True}


@pytest.fixture(scope="module")
def issuer() -> FakeIssuer:
    fake = FakeIssuer()
    fake.add_key("k1")
    return fake


@pytest.fixture
def api(tmp_path: Path, issuer: FakeIssuer) -> Generator[Api]:
    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys = [key.as_dict(private=False) for key in issuer.keys.values()]
            body = msgspec.json.encode({"keys": keys})
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with running_api(
                tmp_path / "data",
                jwt_issuer=issuer.url,
                jwt_audience="app",
                jwt_jwks_url=f"http://127.0.0.1:{server.server_port}/jwks.json",
            ) as running:
                yield running
        finally:
            server.shutdown()
            thread.join()


def test_token_is_a_person_with_their_roles_and_needs_no_csrf_token(
    api: Api, issuer: FakeIssuer
) -> None:
    ada = add_person(api, ADA, Role.ADMIN)
    token = issuer.sign("k1", claims=VERIFIED)
    shown = api.get("/api/session", key=token).json
    assert shown["person"]["id"] == ada.id
    assert (shown["session_id"], shown["csrf_token"]) == (None, None)
    made = api.post("/api/projects", {"name": "By token"}, key=token)
    assert made.status == 201
    [entry] = api.get("/api/audit?action=project.created&limit=1").json["entries"]
    assert (entry["actor_kind"], entry["actor_id"]) == ("person", ada.id)
    by_header = api.get("/api/session", key=NOBODY, headers={"x-api-key": token})
    assert by_header.status == 200


def test_person_is_found_by_subject_after_the_first_login_by_email(
    api: Api, issuer: FakeIssuer
) -> None:
    add_person(api, ADA)
    bare = issuer.sign("k1")
    assert api.get("/api/session", key=bare).status == 403
    assert api.get("/api/session", key=issuer.sign("k1", claims=VERIFIED)).status == 200
    assert api.get("/api/session", key=bare).status == 200
    other = issuer.sign("k1", claims={"sub": "ada-2", **VERIFIED})
    assert api.get("/api/session", key=other).status == 401


@pytest.mark.parametrize(
    "claims",
    [{"exp": 1_700_000_000}, {"aud": "other"}, {"iss": "https://other.example"}],
    ids=["expired", "for another", "of another issuer"],
)
def test_expired_and_foreign_tokens_are_refused(
    api: Api, issuer: FakeIssuer, claims: dict[str, object]
) -> None:
    add_person(api, ADA)
    answer = api.get("/api/session", key=issuer.sign("k1", claims={**VERIFIED, **claims}))
    assert (answer.status, answer.json["code"]) == (401, "invalid_token")
    assert "other" not in answer.json["detail"].replace("another", "")


def test_strangers_and_disabled_people_are_refused(api: Api, issuer: FakeIssuer) -> None:
    unverified = issuer.sign("k1", claims={"email": ADA, "email_verified": False})
    ada = add_person(api, ADA)
    assert api.get("/api/session", key=unverified).status == 403
    assert api.get("/api/session", key=issuer.sign("k1", claims=VERIFIED)).status == 200
    with api.application.database.transaction() as connection:
        api.application.people.disable(connection, ada, by=SYSTEM)
    assert api.get("/api/session", key=issuer.sign("k1", claims=VERIFIED)).status == 403
    assert api.get("/api/session", key="a.b.c").status == 401
