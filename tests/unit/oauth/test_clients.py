"""Metadata documents: fetched through the guard, exact, bounded, and cached by HTTP's rules."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from headgate.kit.http.client import HttpClient
from headgate.kit.http.errors import ForbiddenAddressError, ResponseTooLargeError
from headgate.kit.http.guard import Guard
from headgate.main.egress import build_rules
from headgate.oauth.model.client import OAuthClient
from headgate.oauth.model.errors import UnknownOAuthClientError
from headgate.oauth.service.clients import (
    DOCUMENTS_MAX,
    PURPOSE,
    Clients,
    find_freshness,
)
from headgate.settings import Settings
from tests.fakes.pipeline import FakeClient, FakeResponse, ManualClock

URL = "https://agent.example/oauth/client.json"
JSON = [(b"content-type", b"application/json")]


def describe(**changed: Any) -> bytes:
    document = {
        "client_id": URL,
        "client_name": "Agent",
        "redirect_uris": ["http://localhost/callback", "https://agent.example/cb"],
        "token_endpoint_auth_method": "none",
        "logo_uri": "https://agent.example/logo.png",
    }
    return json.dumps({**document, **changed}).encode()


def answer(body: bytes, *, status: int = 200, **headers: str) -> FakeResponse:
    more = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return FakeResponse(status, [*JSON, *more], body)


def find(client: FakeClient, url: str = URL, clock: ManualClock | None = None) -> OAuthClient:
    return asyncio.run(Clients(client, clock or ManualClock()).find(url))


def test_document_is_asked_once_under_a_rule_of_its_own() -> None:
    client = FakeClient(answer(describe()))
    found = find(client)
    assert (found.name, found.host) == ("Agent", "agent.example")
    assert found.find_redirect_uri("http://localhost:9/callback") == "http://localhost:9/callback"
    (request,) = client.sent
    assert (request.method, request.target) == (b"GET", b"/oauth/client.json")
    assert request.purpose == PURPOSE
    assert build_rules(Settings(egress_allow=("10.0.0.0/8",))).find(PURPOSE).networks == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": URL + "/"},
        {"client_id": None},
        {"redirect_uris": []},
        {"redirect_uris": ["http://evil.example/cb"]},
        {"redirect_uris": "https://agent.example/cb"},
        {"token_endpoint_auth_method": "client_secret_post"},
        {"token_endpoint_auth_method": "private_key_jwt"},
    ],
)
def test_document_that_says_something_else_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(UnknownOAuthClientError):
        find(FakeClient(answer(describe(**changed))))


def test_client_with_several_methods_may_use_none() -> None:
    methods = {"token_endpoint_auth_methods_supported": ["none", "private_key_jwt"]}
    document = describe(token_endpoint_auth_method="private_key_jwt", **methods)
    assert find(FakeClient(answer(document))).name == "Agent"


@pytest.mark.parametrize(
    "url",
    [
        *("https://agent.example", "https://agent.example/", "https://agent.example/a/"),
        *("https://agent.example/a/../b", "https://agent.example/./a", "https://agent.example/a?x"),
        *("https://agent.example/a#x", "https://u@agent.example/a", "https://Agent .example/a"),
        "http://agent.example/a",
    ],
)
def test_address_that_is_ambiguous_is_not_asked(url: str) -> None:
    client = FakeClient()
    with pytest.raises(UnknownOAuthClientError):
        find(client, url)
    assert client.sent == []


@pytest.mark.parametrize(
    "response",
    [
        answer(describe(), status=302, location="https://elsewhere.example/"),
        answer(b"no", status=404),
        FakeResponse(200, [(b"content-type", b"text/html")], describe()),
        answer(b"["),
        FakeResponse(200, JSON, ResponseTooLargeError("more than 32 KiB")),
        ForbiddenAddressError("10.0.0.1 is no public address"),
    ],
)
def test_answer_that_is_no_document_is_refused(response: Any) -> None:
    with pytest.raises(UnknownOAuthClientError):
        find(FakeClient(response))


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "10.0.0.1", "localhost"])
def test_local_address_is_refused_by_the_real_client(host: str) -> None:
    async def fetch() -> None:
        rules = build_rules(Settings(egress_allow=("127.0.0.1/32", "10.0.0.0/8")))
        client = HttpClient(resolver=Guard(rules))
        try:
            await Clients(client, ManualClock()).find(f"https://{host}:4433/client.json")
        finally:
            await client.close()

    with pytest.raises(UnknownOAuthClientError):
        asyncio.run(fetch())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 3_600.0),
        ("max-age=7200", 7_200.0),
        ("public, max-age=1", 60.0),
        ("max-age=99999999", 86_400.0),
        ("no-store, max-age=7200", 60.0),
        ("s-maxage=9", 3_600.0),
    ],
)
def test_freshness_is_what_http_says_within_bounds(header: str, seconds: float) -> None:
    assert find_freshness(header.encode()) == seconds


def test_document_is_kept_as_long_as_it_is_fresh_and_a_failure_for_seconds() -> None:
    async def run() -> None:
        clock = ManualClock()
        client = FakeClient(
            answer(b"", status=500),
            answer(describe(), cache_control="max-age=600"),
            answer(describe()),
        )
        clients = Clients(client, clock)
        for _ in range(3):
            with pytest.raises(UnknownOAuthClientError):
                await clients.find(URL)
        assert len(client.sent) == 1
        clock.seconds += 11
        await asyncio.gather(*(clients.find(URL) for _ in range(3)))
        clock.seconds += 599
        await clients.find(URL)
        assert len(client.sent) == 2
        clock.seconds += 2
        await clients.find(URL)
        assert len(client.sent) == 3

    asyncio.run(run())


def test_documents_are_bounded_in_number() -> None:
    async def run() -> None:
        urls = [f"{URL}{number}" for number in range(DOCUMENTS_MAX + 1)]
        client = FakeClient(*(answer(describe(client_id=url)) for url in [*urls, urls[0]]))
        clients = Clients(client, ManualClock())
        for url in [*urls, urls[-1], urls[0]]:
            await clients.find(url)
        assert len(client.sent) == DOCUMENTS_MAX + 2

    asyncio.run(run())
