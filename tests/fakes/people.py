"""People of the tests: created in the database, signed in with or without a password."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from headgate.accounts.model import Person, PersonRequest, Role
from headgate.accounts.service import PasswordHasher, derive_csrf_token
from headgate.audit.model import SYSTEM
from tests.fakes.api import Answer, Api

PASSWORD = "a long sentence of your own"
COOKIE = "headgate_session"


@functools.cache
def hash_password(password: str) -> str:
    """Hash once per process, since it is slow on purpose."""
    hasher = PasswordHasher()
    hashed = hasher.hash_blocking(password)
    hasher.close()
    return hashed


def add_person(
    api: Api,
    email: str,
    role: Role | None = None,
    *,
    organization_id: str | None = None,
    is_operator: bool = False,
    password: str | None = PASSWORD,
    is_verified: bool = True,
) -> Person:
    """Return the person of the e-mail, created if missing, with exactly this role."""
    application = api.application
    with application.database.transaction() as connection:
        person = application.people.find(connection, email)
        if person is None:
            request = PersonRequest(
                email=email,
                name=email.partition("@")[0].title(),
                password_hash=None if password is None else hash_password(password),
                is_operator=is_operator,
                is_verified=is_verified,
            )
            person = application.people.add(connection, request, by=SYSTEM)
        if role is not None:
            where = organization_id or api.organization_id
            application.people.join(connection, person, where, role=role, by=SYSTEM)
    return person


@dataclass
class Browser:
    """Hold the cookie and the CSRF token of a browser."""

    api: Api
    token: str = ""
    csrf: str = ""
    organization_id: str = ""
    headers: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def identity(self) -> dict[str, str]:
        """Return the headers that authenticate the browser."""
        sent = {"cookie": f"{COOKIE}={self.token}"} if self.token else {}
        return sent | ({"x-csrf-token": self.csrf} if self.csrf else {}) | self.headers

    def request(self, method: str, path: str, body: Any = None, **given: Any) -> Answer:
        more = given.pop("headers", {})
        answer = self.api.request(
            method,
            path,
            body,
            key="",
            organization=given.pop("organization", self.organization_id),
            headers={**self.identity, **more},
            **given,
        )
        self._keep(answer)
        return answer

    def _keep(self, answer: Answer) -> None:
        for cookie in answer.headers.get_list("set-cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            if name == COOKIE:
                self.token = value
                self.csrf = derive_csrf_token(value) if value else ""

    def get(self, path: str, **given: Any) -> Answer:
        return self.request("GET", path, **given)

    def post(self, path: str, body: Any = None, **given: Any) -> Answer:
        return self.request("POST", path, body, **given)

    def patch(self, path: str, body: Any = None, **given: Any) -> Answer:
        return self.request("PATCH", path, body, **given)

    def delete(self, path: str, **given: Any) -> Answer:
        return self.request("DELETE", path, **given)

    def sign_in(self, email: str, password: str = PASSWORD) -> Answer:
        return self.post("/api/session", {"email": email, "password": password})


def open_browser(api: Api, person: Person, organization_id: str | None = None) -> Browser:
    """Return a browser that is signed in."""
    application = api.application
    with application.database.transaction() as connection:
        login = application.sessions.open(connection, person, method="test", by=SYSTEM)
    where = api.organization_id if organization_id is None else organization_id
    return Browser(api, login.token, derive_csrf_token(login.token), where)
