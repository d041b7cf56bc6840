"""As whom the API is asked."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.fakes.gateway import Gateway


def find_roles(gateway: Gateway) -> dict[str, dict[str, str]]:
    """The headers of each role."""
    organization = {"X-Organization-ID": gateway.keys["organization_id"]}
    operator = {"Authorization": f"Bearer {gateway.keys['admin_key']}", **organization}
    inference = {"Authorization": f"Bearer {gateway.key}", **organization}
    return {"operator's key": operator, "inference key": inference}


def call(gateway: Gateway, path: str, body: Any, headers: dict[str, str]) -> Any:
    """One request with JSON."""
    request = urllib.request.Request(
        gateway.url + path,
        data=json.dumps(body).encode(),
        headers={**headers, "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())
