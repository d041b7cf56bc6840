"""The roles that call the API."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.fakes.gateway import Gateway

OWNER = {"email": "owner@example.com", "password": "a long and winding password"}
LOCKING_OUT = (
    "revoke_key",
    "update_key",
    "rotate_key",
    "suspend_organization",
    "disable_person",
    "remove_member",
    "update_member",
    "sign_out",
    "end_session",
    "change_password",
)
"""Operations by which the caller can lock itself out: they run last, one at a time."""
LIMITED = {"name": "limited", "kind": "admin", "permissions": ["*:read", "projects:write"]}


def find_roles(gateway: Gateway) -> dict[str, dict[str, str]]:
    """Return the headers of each role."""
    organization = {"X-Organization-ID": gateway.keys["organization_id"]}
    operator = {"Authorization": f"Bearer {gateway.keys['admin_key']}", **organization}
    inference = {"Authorization": f"Bearer {gateway.key}", **organization}
    limits = {**LIMITED, "project_id": gateway.keys["project_id"]}
    limited, _ = call(gateway, "/api/api-keys", limits, operator)
    return {
        "operator's key": operator,
        "owner who is signed in": {**sign_in(gateway), **organization},
        "limited key": {"Authorization": f"Bearer {limited['key']}", **organization},
        "inference key": inference,
    }


def sign_in(gateway: Gateway) -> dict[str, str]:
    """Sign in as the first owner. Return the headers with the cookie and the CSRF token."""
    taken = {"token": gateway.keys["owner_invitation"], "name": "Owner", **OWNER}
    call(gateway, "/api/invitations/accept", taken, {})
    session, headers = call(gateway, "/api/session", OWNER, {})
    cookie = headers["set-cookie"].partition(";")[0]
    return {"Cookie": cookie, "X-CSRF-Token": session["csrf_token"]}


def call(
    gateway: Gateway, path: str, body: Any, headers: dict[str, str]
) -> tuple[Any, dict[str, str]]:
    """Send one JSON request. Return the body and the headers of the answer."""
    request = urllib.request.Request(
        gateway.url + path,
        data=json.dumps(body).encode(),
        headers={**headers, "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read()), {k.lower(): v for k, v in answer.headers.items()}
