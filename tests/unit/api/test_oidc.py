"""Against a real local issuer (`oidc-provider-mock`), through the real egress client."""

from __future__ import annotations

import contextlib
import re
import urllib.parse
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from headgate.accounts.model import Role
from tests.fakes.api import NOBODY, Answer, Api, running_api
from tests.fakes.people import COOKIE, PASSWORD, Browser, add_person, open_browser

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the mock is built on a module that its library retires
    import oidc_provider_mock

pytestmark = pytest.mark.filterwarnings("ignore")

START, CALLBACK = "/api/session/oidc/start", "/api/session/oidc/callback"
PUBLIC = "http://localhost:4600"
ADA = "ada@example.com"


def user(subject: str, email: str, *, verified: bool = True, **more: Any) -> Any:
    claims: dict[str, object] = {
        "email": email,
        "email_verified": verified,
        "name": "Ada Lovelace",
        **more,
    }
    return oidc_provider_mock.User(sub=subject, claims=claims)


USERS = (
    user("ada-1", ADA),
    user("ada-2", ADA),
    user("eve-1", ADA, verified=False),
    user("guest-1", "guest@example.com"),
    user("bob-1", "bob@trusted.example"),
)


@pytest.fixture(scope="module")
def issuer() -> Generator[str]:
    with oidc_provider_mock.run_server_in_thread(require_nonce=True, user_claims=USERS) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@contextlib.contextmanager
def running(tmp_path: Path, issuer: str, **more: str) -> Generator[Api]:
    with running_api(
        tmp_path / "data",
        public_url=PUBLIC,
        oidc_issuer=issuer,
        oidc_client_id="headgate",
        oidc_client_secret="a secret: with / signs",
        **more,
    ) as api:
        yield api


@pytest.fixture
def api(tmp_path: Path, issuer: str) -> Generator[Api]:
    with running(tmp_path, issuer) as running_one:
        yield running_one


class Traveller(Browser):
    """A browser that also keeps the cookie of a sign-in under way."""

    def start(self) -> str:
        answer = self.get(START)
        assert answer.status == 302, answer.text
        [cookie] = answer.headers.get_list("set-cookie")
        assert cookie.endswith("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax")
        self.headers["cookie"] = cookie.partition(";")[0]
        return answer.headers["location"]

    def approve(self, address: str, subject: str) -> str:
        """At the issuer: where it sends the browser back to."""
        with httpx2.Client() as client:
            sent = client.post(address, data={"sub": subject})
        assert sent.status_code == 302, sent.text
        return sent.headers["location"]

    def come_back(self, location: str) -> Answer:
        assert location.startswith(PUBLIC + CALLBACK + "?")
        return self.get(location.removeprefix(PUBLIC))

    def sign_in_at_issuer(self, subject: str) -> Answer:
        return self.come_back(self.approve(self.start(), subject))


def own_session(answer: Answer) -> dict[str, str]:
    """The headers of the session that an answer opened."""
    for cookie in answer.headers.get_list("set-cookie"):
        if cookie.startswith(f"{COOKIE}=") and "Max-Age=0" not in cookie:
            return {"cookie": cookie.partition(";")[0]}
    return {}


def test_existing_person_signs_in_by_verified_email_and_then_by_subject(api: Api) -> None:
    ada = add_person(api, ADA, Role.ADMIN)
    answer = Traveller(api).sign_in_at_issuer("ada-1")
    assert (answer.status, answer.headers["location"]) == (302, f"{PUBLIC}/")
    assert "headgate_sign_in=; Path=/; Max-Age=0" in answer.headers["set-cookie"]
    shown = api.get("/api/session", key=NOBODY, headers=own_session(answer)).json
    assert shown["person"]["id"] == ada.id
    assert ("person.linked", ada.id) in api.audited()
    again = Traveller(api).sign_in_at_issuer("ada-1")
    assert own_session(again)
    assert api.audited().count(("person.linked", ada.id)) == 1
    # The same address under another subject is somebody else's now.
    other = Traveller(api).sign_in_at_issuer("ada-2")
    assert (other.status, own_session(other)) == (401, {})


def test_request_to_the_issuer_has_state_nonce_and_a_hashed_verifier(api: Api, issuer: str) -> None:
    address = Traveller(api).start()
    assert address.startswith(f"{issuer}/oauth2/authorize?")
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(address).query))
    assert query["response_type"] == "code"
    assert query["redirect_uri"] == PUBLIC + CALLBACK
    assert query["code_challenge_method"] == "S256"
    assert query["scope"] == "openid email profile"
    for name in ("state", "nonce", "code_challenge"):
        assert re.fullmatch(r"[\w-]{43}", query[name])
    assert len({query[name] for name in ("state", "nonce", "code_challenge")}) == 3


@pytest.mark.parametrize("subject", ["eve-1", "guest-1", "bob-1"])
def test_unknown_person_is_rejected_and_not_added(api: Api, subject: str) -> None:
    add_person(api, ADA)
    answer = Traveller(api).sign_in_at_issuer(subject)
    assert (answer.status, own_session(answer)) == (401, {})
    assert api.read(api.application.people.count) == 1


def test_invited_person_is_added_with_the_role_of_the_invitation(api: Api) -> None:
    owner = open_browser(api, add_person(api, "owner@example.com", Role.OWNER))
    assert owner.post("/api/invitations", {"email": "guest@example.com"}).status == 201
    answer = Traveller(api).sign_in_at_issuer("guest-1")
    shown = api.get("/api/session", key=NOBODY, headers=own_session(answer)).json
    assert shown["person"]["name"] == "Ada Lovelace"
    assert [each["role"] for each in shown["organizations"]] == ["admin"]
    assert owner.get("/api/invitations").json["total"] == 0


def test_people_of_a_trusted_domain_are_added_and_others_of_no_allowed_one_refused(
    tmp_path: Path, issuer: str
) -> None:
    domains = {"oidc_domains": "trusted.example", "oidc_trusted_domains": "trusted.example"}
    with running(tmp_path, issuer, **domains) as api:
        add_person(api, ADA)
        assert own_session(Traveller(api).sign_in_at_issuer("bob-1"))
        assert Traveller(api).sign_in_at_issuer("ada-1").status == 401


def test_callback_works_only_once_and_in_the_browser_that_started(api: Api) -> None:
    add_person(api, ADA)
    traveller, other = Traveller(api), Traveller(api)
    location = traveller.approve(traveller.start(), "ada-1")
    assert Traveller(api).come_back(location).status == 401
    other.start()
    assert other.come_back(location).status == 401
    changed = re.sub(r"state=[^&]+", "state=x", location)
    assert traveller.come_back(changed).status == 401
    assert traveller.come_back(location + "&iss=https://evil.example").status == 401
    assert traveller.come_back(location + "&session_state=of-its-own").status == 302
    assert own_session(traveller.come_back(location)) == {}


def test_declined_sign_in_opens_no_session(api: Api) -> None:
    traveller = Traveller(api)
    state = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(traveller.start()).query))["state"]
    answer = traveller.get(f"{CALLBACK}?error=access_denied&state={state}")
    assert (answer.status, answer.json["code"]) == (401, "sign_in_refused")


def test_password_that_somebody_set_before_the_address_was_proven_is_dropped(api: Api) -> None:
    add_person(api, ADA, Role.ADMIN, is_verified=False)
    squatter = Browser(api)
    assert squatter.sign_in(ADA).status == 201
    assert own_session(Traveller(api).sign_in_at_issuer("ada-1"))
    assert squatter.get("/api/session").status == 401
    assert Browser(api).sign_in(ADA, PASSWORD).status == 401


def test_without_an_issuer_there_is_no_such_address(shared_api: Api) -> None:
    for path in (START, CALLBACK):
        assert shared_api.get(path, key=NOBODY).status == 404


def test_unreachable_issuer_is_reported(tmp_path: Path) -> None:
    with running(tmp_path, "http://127.0.0.1:9") as api:
        answer = api.get(START, key=NOBODY)
        assert (answer.status, answer.json["code"]) == (502, "issuer_unreachable")


def test_person_who_connects_an_application_comes_back_to_it(api: Api) -> None:
    add_person(api, ADA, Role.ADMIN)
    traveller = Traveller(api)
    query = "client_id=hg_client_x&state=a%3Bb"
    page = traveller.get(f"/oauth/authorize?{query}")
    assert f'href="/oauth/sso?{query.replace("&", "&amp;")}"' in page.text
    sent = traveller.get(f"/oauth/sso?{query}")
    assert sent.status == 303
    kept = [each.partition(";")[0] for each in sent.headers.get_list("set-cookie")]
    traveller.headers["cookie"] = "; ".join(kept)
    location = traveller.approve(sent.headers["location"], "ada-1")
    answer = traveller.come_back(location)
    assert answer.headers["location"] == f"{PUBLIC}/oauth/authorize?{query}"
    assert "headgate_return=; Path=/; Max-Age=0" in answer.headers["set-cookie"]
    # No other address is taken from the cookie.
    traveller.headers["cookie"] = kept[0] + "; headgate_return=//evil.example/oauth/authorize?x"
    forged = traveller.come_back(traveller.approve(sent.headers["location"], "ada-1"))
    assert "evil" not in forged.headers.get("location", "")
