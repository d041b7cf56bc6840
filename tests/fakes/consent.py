"""A browser that connects an application: it signs in, agrees, and stops where it is sent away."""

from __future__ import annotations

import html.parser
import secrets
import urllib.parse
from dataclasses import dataclass, field

import httpx2

from tests.fakes.gateway import Gateway

STEPS_MAX = 10


@dataclass(frozen=True)
class Owner:
    email: str
    password: str


def sign_up(gateway: Gateway) -> Owner:
    """Accept the invitation that the first start of a server wrote for its owner."""
    owner = Owner("owner@example.com", secrets.token_urlsafe(24))
    body = {"token": gateway.keys["owner_invitation"], "email": owner.email, "name": "Owner"}
    answer = httpx2.post(
        f"{gateway.url}/api/invitations/accept", json={**body, "password": owner.password}
    )
    assert answer.is_success, answer.text
    return owner


@dataclass
class Form:
    """Hold a form: where it is sent, what it sends, and what its fields are for."""

    action: str = ""
    fields: dict[str, str] = field(default_factory=dict[str, str])
    kinds: dict[str, str] = field(default_factory=dict[str, str])


class FormReader(html.parser.HTMLParser):
    """Read the first form of a page as a person fills it who changes nothing and agrees."""

    def __init__(self) -> None:
        super().__init__()
        self.form: Form | None = None
        self._select = ""
        self._is_decided = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and self.form is None:
            self.form = Form(given.get("action", ""))
        if self.form is None:
            return
        name, value = given.get("name", ""), given.get("value", "")
        if tag == "select":
            self._select = name
        elif tag == "option" and self._select:
            self.form.fields[self._select] = value
            self._select = ""
        elif tag == "button" and name and not self._is_decided:
            self.form.fields[name] = value
            self._is_decided = True
        elif tag == "input" and name:
            self._take(given, name, value)

    def _take(self, given: dict[str, str], name: str, value: str) -> None:
        assert self.form is not None
        kind = given.get("type", "text")
        self.form.kinds[name] = kind
        if kind != "radio" or "checked" in given:
            self.form.fields[name] = value


def agree(url: str, *, email: str, password: str) -> str:
    """Open the address of an authorization request, sign in and agree. Return the address to which
    the browser is sent in the end: the callback of the application."""
    own = urllib.parse.urlsplit(url)
    with httpx2.Client(follow_redirects=False, timeout=30) as browser:
        answer = browser.get(url)
        for _ in range(STEPS_MAX):
            if answer.is_redirect:
                target = urllib.parse.urljoin(str(answer.url), answer.headers["location"])
                if urllib.parse.urlsplit(target)[:2] != own[:2]:
                    return target
                answer = browser.get(target)
                continue
            form = read_form(answer)
            for name, kind in form.kinds.items():
                form.fields[name] = {"email": email, "password": password}.get(
                    kind, form.fields[name]
                )
            sent_from = {"origin": f"{own.scheme}://{own.netloc}"}
            target = urllib.parse.urljoin(str(answer.url), form.action)
            answer = browser.post(target, data=form.fields, headers=sent_from)
    raise AssertionError(f"the pages do not end: {answer.text[:500]}")


def read_form(page: httpx2.Response) -> Form:
    reader = FormReader()
    reader.feed(page.text)
    assert reader.form is not None, f"{page.status_code}: {page.text[-500:]}"
    assert "<script" not in page.text
    return reader.form
