"""A login issuer with its own keys that answers from memory (a `message.Client`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from headgate.kit.http.errors import ConnectTimeoutError
from headgate.kit.http.message import Headers, HoldBytes, Request

URL = "https://login.example"
SIGNING = {"RS256": RSAKey, "ES256": ECKey, "EdDSA": OKPKey}


class FakeResponse:
    def __init__(self, status: int, body: bytes) -> None:
        self.headers: Headers = []
        self.status = status
        self.body = body

    async def read(self, bytes_max: int, hold: HoldBytes | None = None) -> bytes:
        return self.body


@dataclass
class FakeIssuer:
    """Sign tokens and serve the discovery document and the keys. `now` is its clock. `asked` has
    the requested URLs."""

    now: float = field(default_factory=time.time)
    url: str = URL
    keys: dict[str, Any] = field(default_factory=dict[str, Any])
    asked: list[str] = field(default_factory=list[str])
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    is_down: bool = False

    def add_key(self, kid: str, algorithm: str = "RS256") -> None:
        size: Any = {"RS256": 2048, "ES256": "P-256", "EdDSA": "Ed25519"}[algorithm]
        self.keys[kid] = SIGNING[algorithm].generate_key(size, {"kid": kid})

    def sign(
        self, kid: str, algorithm: str = "RS256", *, claims: Mapping[str, object] | None = None
    ) -> str:
        """Return a token for `app` and the subject `ada-1` that is valid for a minute. `claims`
        override its claims; None removes one."""
        whole = {
            "iss": self.url,
            "sub": "ada-1",
            "aud": "app",
            "iat": int(self.now),
            "exp": int(self.now) + 60,
            **(claims or {}),
        }
        left = {name: value for name, value in whole.items() if value is not None}
        header = {"alg": algorithm, "kid": kid}
        return jwt.encode(header, left, self.keys[kid], algorithms=[algorithm])

    async def send(self, request: Request) -> Any:
        address = f"{request.origin}{request.target.decode()}".replace(":443/", "/")
        self.asked.append(address)
        await asyncio.sleep(0)
        if self.is_down:
            raise ConnectTimeoutError("nobody is there")
        if address.endswith("/.well-known/openid-configuration"):
            document: Any = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.extra}
        elif address == f"{self.url}/keys":
            keys = [key.as_dict(private=False) for key in self.keys.values()]
            document = {"keys": keys}
        else:
            return FakeResponse(404, b"{}")
        return FakeResponse(200, msgspec.json.encode(document))
