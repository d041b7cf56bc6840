"""How people's clients connect: each from its first request without a token to its list of tools.

`tests/fakes/mcp_clients.py` has what they send. The browser is played as well, up to the callback.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import urllib.parse
from collections.abc import Generator
from typing import Any

import httpx2
import pytest

from tests.fakes.consent import Owner, agree, sign_up
from tests.fakes.gateway import Gateway
from tests.fakes.mcp_clients import CLIENTS, NEW, RecordedClient
from tests.fakes.simulated_gateway import SimulatedGateway

ACCEPT = "application/json, text/event-stream"


@pytest.fixture(scope="module")
def gateway(module_simulated_gateway: SimulatedGateway) -> Gateway:
    return module_simulated_gateway.gateway


@pytest.fixture(scope="module")
def owner(gateway: Gateway) -> Owner:
    return sign_up(gateway)


@pytest.fixture
def http(gateway: Gateway) -> Generator[httpx2.Client]:
    with httpx2.Client(base_url=gateway.url, timeout=30) as client:
        yield client


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_client_connects_by_clicking(
    client: RecordedClient, http: httpx2.Client, owner: Owner
) -> None:
    server = discover(client, http)
    registered = http.post(server["registration_endpoint"], json=client.registration)
    assert registered.status_code == 201, registered.text
    known = registered.json()
    assert known["redirect_uris"] == client.registration["redirect_uris"]
    assert known["token_endpoint_auth_method"] == "none"

    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    digest = hashlib.sha256(verifier.encode()).digest()
    asked = {
        "response_type": "code",
        "client_id": known["client_id"],
        "redirect_uri": client.callback,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        "state": state,
        "resource": f"{http.base_url}/mcp",
        **({"scope": client.scope} if client.scope else {}),
    }
    url = f"{server['authorization_endpoint']}?{urllib.parse.urlencode(asked)}"
    landed = agree(url, email=owner.email, password=owner.password)
    assert landed.startswith(f"{client.callback}?")
    answered = dict(urllib.parse.parse_qsl(landed.partition("?")[2]))
    assert (answered["state"], answered["iss"]) == (state, server["issuer"])

    given = {
        "grant_type": "authorization_code",
        "code": answered["code"],
        "redirect_uri": client.callback,
        "client_id": known["client_id"],
        "code_verifier": verifier,
        "resource": f"{http.base_url}/mcp",
    }
    tokens = http.post(server["token_endpoint"], data=given)
    assert tokens.status_code == 200, tokens.text
    assert tokens.headers["cache-control"] == "no-store"
    assert "openai_chat_completion" in list_tools(client, http, tokens.json()["access_token"])

    renewed = http.post(
        server["token_endpoint"],
        data={
            "grant_type": "refresh_token",
            "refresh_token": tokens.json()["refresh_token"],
            "client_id": known["client_id"],
        },
    )
    assert renewed.status_code == 200, renewed.text
    assert renewed.json()["refresh_token"] != tokens.json()["refresh_token"]
    assert list_tools(client, http, renewed.json()["access_token"])


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_client_connects_with_a_key(
    client: RecordedClient, http: httpx2.Client, gateway: Gateway
) -> None:
    assert "openai_chat_completion" in list_tools(client, http, gateway.key)


def discover(client: RecordedClient, http: httpx2.Client) -> dict[str, Any]:
    """Follow the answer to a request without a token to the authorization server."""
    first = client.calls[0] if client.probe == "POST" else None
    answer = send(client, http, first, token=None)
    assert answer.status_code == 401, answer.text
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith("Bearer ")
    found = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    assert found["scope"] == "mcp:read mcp:write"
    resource = http.get(found["resource_metadata"]).json()
    assert resource["resource"] == f"{http.base_url}/mcp"
    [issuer] = resource["authorization_servers"]
    server = http.get(f"{issuer}/.well-known/oauth-authorization-server").json()
    assert server["issuer"] == issuer
    assert server["code_challenge_methods_supported"] == ["S256"]
    assert server["scopes_supported"] == resource["scopes_supported"]
    return server


def send(
    client: RecordedClient, http: httpx2.Client, message: Any, *, token: str | None
) -> httpx2.Response:
    """Send a message as the client does; None is the stream that it opens first."""
    headers = {"accept": ACCEPT, **client.headers}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    if client.version == NEW or message is None or message["method"] != "initialize":
        headers["mcp-protocol-version"] = client.version
    if message is None:
        return http.get("/mcp", headers=headers)
    if client.version == NEW:
        headers["mcp-method"] = message["method"]
    return http.post("/mcp", headers=headers, json=message)


def list_tools(client: RecordedClient, http: httpx2.Client, token: str) -> list[str]:
    """Send everything that the client sends, and return the names of the tools that it gets."""
    found: list[str] = []
    for message in client.calls:
        answer = send(client, http, message, token=token)
        if "id" not in message:
            assert answer.status_code == 202, answer.text
            continue
        assert answer.status_code == 200, answer.text
        result = read_result(answer)
        assert result["id"] == message["id"]
        found += [tool["name"] for tool in result["result"].get("tools", ())]
    return found


def read_result(answer: httpx2.Response) -> dict[str, Any]:
    """Return the last message of an answer, which may be a stream."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return answer.json()
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    return json.loads(lines[-1])
