"""An application that is connected as agents do it, and the person who agrees."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import re
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

from headgate.accounts.model import Role
from headgate.kit.db.async_database import AsyncDatabase
from headgate.oauth.model.errors import RefusedAccessTokenError
from headgate.oauth.model.grant import OAuthGrant
from headgate.oauth.service import AccessTokens
from tests.fakes.api import Answer, Api
from tests.fakes.people import Browser, add_person, open_browser
from tests.fakes.pipeline import ManualClock

BASE_URL = "http://gate.example"
RESOURCE = f"{BASE_URL}/mcp"
REDIRECT = "http://127.0.0.1:33418/callback"
VERIFIER = "a-verifier-of-at-least-43-characters-0123456789"
CHALLENGE = (
    base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
)
_count = itertools.count()
_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')
_PROJECT = re.compile(r'<option value="([^"]+)">')
_CHECKED = re.compile(r'name="access" value="([^"]+)" checked')


def send_form(api: Api, path: str, fields: dict[str, str], **headers: Any) -> Answer:
    return api.request(
        "POST",
        path,
        key="",
        organization="",
        content=urllib.parse.urlencode(fields).encode(),
        headers={"content-type": "application/x-www-form-urlencoded", **headers},
    )


def register(api: Api, **members: Any) -> Answer:
    body = {"redirect_uris": [REDIRECT], "client_name": "Agent", **members}
    return api.post("/oauth/register", body, key="", organization="")


@dataclass
class AgentClient:
    """Connect to the API with a person's browser, and hold what came of it."""

    api: Api
    browser: Browser
    client_id: str = ""
    redirect_uri: str = REDIRECT
    base_url: str = BASE_URL
    tokens: dict[str, Any] = field(default_factory=dict[str, Any])

    def ask(self, **changed: str | None) -> Answer:
        """Open the page of the authorization endpoint. None leaves a parameter out."""
        given: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "state": "the state",
            "scope": "mcp:read mcp:write",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "resource": f"{self.base_url}/mcp",
            **changed,
        }
        query = {name: value for name, value in given.items() if value is not None}
        return self.browser.get(f"/oauth/authorize?{urllib.parse.urlencode(query)}")

    def decide(self, page: Answer, **changed: str) -> Answer:
        """Send the form of the consent."""
        fields = read_form(page) | {"decision": "allow", **changed}
        return send_form(self.api, "/oauth/authorize", fields, **self.browser.identity)

    def agree(self, page: Answer, **changed: str) -> str:
        """Agree, and return the code."""
        return read_answer(self.decide(page, **changed))["code"]

    def connect(self, **changed: str | None) -> dict[str, Any]:
        """Register if needed, let the person agree, and exchange the code."""
        if not self.client_id:
            self.client_id = register(self.api, redirect_uris=[self.redirect_uri]).json["client_id"]
        answer = self.redeem(self.agree(self.ask(**changed)))
        assert answer.status == 200, answer.text
        self.tokens = answer.json
        return self.tokens

    def redeem(self, code: str, **changed: str) -> Answer:
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "code_verifier": VERIFIER,
            "resource": f"{self.base_url}/mcp",
        }
        return send_form(self.api, "/oauth/token", {**fields, **changed})

    def refresh(self, token: str | None = None, **changed: str) -> Answer:
        fields = {
            "grant_type": "refresh_token",
            "refresh_token": token or self.tokens["refresh_token"],
            "client_id": self.client_id,
        }
        return send_form(self.api, "/oauth/token", {**fields, **changed})


def read_form(page: Answer) -> dict[str, str]:
    """Return the fields of a page's form, as a browser sends them without a change."""
    assert page.status == 200, page.text
    fields = {name: html.unescape(value) for name, value in _HIDDEN.findall(page.text)}
    if (projects := _PROJECT.findall(page.text)) and (access := _CHECKED.search(page.text)):
        fields |= {"project_id": projects[0], "access": access[1]}
    return fields


def read_answer(answer: Answer) -> dict[str, str]:
    """Return what the application is told by a redirect."""
    assert answer.status == 303, answer.text
    query = urllib.parse.urlsplit(answer.headers["location"]).query
    return dict(urllib.parse.parse_qsl(query))


class Tokens:
    """Ask what access tokens allow, as the faces do."""

    def __init__(self, api: Api, clock: ManualClock) -> None:
        storage = AsyncDatabase(api.application.database, api.writer, reload=lambda: None)
        application = api.application
        self._found = AccessTokens(storage, application.people, application.key_index, clock)
        self._api = api

    def find(self, token: str, resource: str = RESOURCE) -> OAuthGrant:
        grant, _ = self._api.portal.call(self._found.find, token, resource)
        return grant

    def refuses(self, token: str, resource: str = RESOURCE) -> bool:
        try:
            self.find(token, resource)
        except RefusedAccessTokenError:
            return True
        return False


def make_agent(api: Api, role: Role = Role.ADMIN) -> AgentClient:
    person = add_person(api, f"ada-{next(_count)}@example.com", role)
    return AgentClient(api, open_browser(api, person))


def read_error(answer: Answer) -> str:
    return answer.json["error"]


def find_application(api: Api, grant: OAuthGrant) -> dict[str, Any]:
    listed = api.get("/api/connected-applications").json["applications"]
    [found] = [each for each in listed if each["key_id"] == grant.key_id]
    return found
