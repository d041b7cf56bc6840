"""A management key that is limited to some projects reaches nothing of the whole organization."""

from __future__ import annotations

import pytest

from tests.fakes.api import Api

ORGANIZATION_WIDE = [
    ("GET", "/api/audit"),
    ("GET", "/api/dashboard/logs"),
    ("GET", "/api/dashboard/users"),
    ("GET", "/api/dashboard/analytics/overview"),
    ("GET", "/api/wallet"),
    ("GET", "/api/invoices"),
    ("GET", "/api/subscriptions/organization-billing"),
    ("PUT", "/api/subscriptions/overage"),
    ("GET", "/api/webhooks/endpoints"),
    ("POST", "/api/webhooks/endpoints"),
]
BODIES = {
    "/api/subscriptions/overage": {"enabled": True},
    "/api/webhooks/endpoints": {"url": "https://example.com/hook", "enabled_events": ["*"]},
}


@pytest.mark.parametrize(("method", "path"), ORGANIZATION_WIDE)
def test_key_of_some_projects_is_refused(api: Api, method: str, path: str) -> None:
    body = {"name": "of one", "kind": "admin", "projects": [api.own.project_id]}
    key = api.post("/api/api-keys", body).json["key"]
    if method == "GET":
        answer = api.get(path, key=key)
    else:
        send = api.put if method == "PUT" else api.post
        answer = send(path, BODIES[path], key=key)
    assert answer.status == 403
    assert "limited to some projects" in answer.json["detail"]
