"""Secrets that are handed to the platform API in every way there is, right and wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fakes import http_connection
from tests.fakes.gateway import Gateway
from tests.fakes.http_connection import HttpResponse

KINDS = (
    *("credential of the API", "stored secret", "key of a connection", "renewed key"),
    *("secret that was tried", "refused secret"),
)
AT_PROVIDER = KINDS[:-1]


@dataclass
class PlantedSecrets:
    """Hold the planted secrets by the way in which they are sent."""

    credential: str
    stored: str
    connection: str
    renewed: str
    tried: str
    refused: str


def plant(make: Callable[..., str]) -> PlantedSecrets:
    """Plant one secret of each kind with `make`; `make` puts the public prefix before it."""
    return PlantedSecrets(
        *(make(kind, "pk-" if kind == KINDS[-1] else "sk-proj-") for kind in KINDS)
    )


class ManagementClient:
    """Call the platform API with the first management key; `put` receives every response."""

    def __init__(self, gateway: Gateway, put: Callable[[str, bytes], None]) -> None:
        self._gateway = gateway
        self._put = put

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        """Send `body`, a value or raw bytes."""
        keys = self._gateway.keys
        given = {
            "authorization": f"Bearer {keys['admin_key']}",
            "x-organization-id": keys["organization_id"],
            "content-type": "application/json",
            **headers,
        }
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        answered = http_connection.ask(self._gateway.port, method, path, given, data)
        self._put("answers of the API", repr(answered.fields).encode() + answered.body)
        return answered

    def post(self, path: str, body: Any, **headers: str) -> dict[str, Any]:
        """Send a request that must succeed."""
        answered = self.ask("POST", path, body, **headers)
        assert answered.status < 300, answered.body
        return answered.json


def store_secrets(manager: ManagementClient, handed: PlantedSecrets, base_url: str) -> None:
    """Store or test every secret, read it in every view, and send it to the provider."""

    def data(secret: str) -> dict[str, Any]:
        return {
            "integration_name": "openai",
            "auth_data": {"api_key": secret, "base_url": base_url},
        }

    again = {"idempotency-key": "once"}
    first = manager.post("/api/credentials", data(handed.credential), **again)
    manager.post("/api/credentials", data(handed.credential), **again)
    secret = {"key_name": "mine", "value": handed.stored, "base_url": base_url}
    manager.post("/api/secrets", secret)
    second = manager.post("/api/credentials", data("{{vault:mine}}"))
    config = {"api_key": handed.connection, "base_url": base_url}
    third = manager.post("/api/connections", {"name": "c", "config": config})
    manager.post("/api/credentials/test-temporary", data(handed.tried))
    ids = [first["credential_id"], second["credential_id"], third["id"]]
    for each in ids:
        manager.post(f"/api/credentials/{each}/test", None)
    renewed = {"config": {"api_key": handed.renewed}}
    assert manager.ask("PATCH", f"/api/connections/{third['id']}", renewed).status == 200
    manager.post(f"/api/credentials/{third['id']}/test", None)
    for each in ids:
        for path in ("", "?include_masked=true", "/usage", "/audit"):
            assert manager.ask("GET", f"/api/credentials/{each}{path}").status == 200
    for path in ("credentials", "secrets", "connections", "audit", "providers"):
        assert manager.ask("GET", f"/api/{path}").status == 200


def send_misplaced_secrets(manager: ManagementClient, secret: str) -> None:
    """Send secrets that are malformed or in the wrong place, all of which must be refused."""
    key = {"api_key": secret}
    named = f"sk-{secret}"
    credential = {"integration_name": "openai", "auth_data": key}
    refused: list[tuple[str, str, Any]] = [
        ("POST", "/api/credentials", credential),
        ("POST", "/api/credentials/test-temporary", credential),
        ("POST", "/api/credentials", {**credential, "auth_data": {"api_key": f"{secret} x"}}),
        ("POST", "/api/credentials", {**credential, "auth_data": {named: "api_key"}}),
        ("POST", "/api/credentials", {**credential, "auth_data": {"header": named, "value": "v"}}),
        ("POST", "/api/credentials", {**credential, "auth_data": {"api_key": [secret]}}),
        ("POST", "/api/credentials", {**credential, "auth_data": secret}),
        ("POST", "/api/credentials", {**credential, "auth_type": named}),
        ("POST", "/api/credentials", {**credential, "integration_name": named}),
        ("POST", "/api/credentials", {**credential, "expires_at": secret}),
        ("POST", "/api/credentials", {**credential, "oauth_config": secret}),
        ("POST", "/api/credentials", b'{"auth_data":{"api_key":"%b' % secret.encode()),
        ("POST", "/api/credentials", b'{"x":"%b","x":"%b"}' % (secret.encode(), secret.encode())),
        ("PUT", "/api/credentials/none", {"auth_data": key}),
        ("GET", f"/api/credentials?auth_type={secret}&limit=0", None),
        ("POST", "/api/secrets", {"key_name": f"{secret} x", "value": "v"}),
        ("POST", "/api/secrets", {"key_name": "k", "value": f"{secret} x"}),
        ("POST", "/api/connections", {"name": "x", "config": key}),
        ("POST", "/api/integrations/setup", {"service": "openai", "secrets": key}),
        ("POST", "/api/integrations/setup", {"service": named, "secrets": key}),
        ("POST", "/api/integrations/setup", {"service": "openai", "secrets": {named: "v"}}),
        ("PATCH", "/api/connections/none", {"config": key}),
    ]
    for method, path, body in refused:
        assert 400 <= manager.ask(method, path, body).status < 500, (method, path)
