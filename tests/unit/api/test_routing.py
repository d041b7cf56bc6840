"""Which route a path leads to."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from headgate.api.routing import PathTable

PATHS = (
    "/api/keys",
    "/api/keys/{key_id}",
    "/api/keys/{key_id}/rotate",
    "/api/keys/newest",
    "/api/{kind}/newest/first",
    "/api/projects/{project_id}/secrets/{name}",
)


async def answer(_request: Request) -> Response:
    return Response()


TABLE = PathTable([Route(path, answer) for path in PATHS])


def find(path: str, method: str = "GET") -> tuple[str, dict[str, str]] | None:
    """The path of the route that was chosen, and the values of its parameters."""
    scope: dict[str, Any] = {"type": "http", "path": path, "method": method}
    match, child = TABLE.matches(scope)
    if match is Match.NONE:
        return None
    return child["headgate.route"].path, child["path_params"]


@pytest.mark.parametrize(
    ("path", "route", "parameters"),
    [
        ("/api/keys", "/api/keys", {}),
        ("/api/keys/key_1", "/api/keys/{key_id}", {"key_id": "key_1"}),
        ("/api/keys/newest", "/api/keys/newest", {}),
        ("/api/keys/newest/rotate", "/api/keys/{key_id}/rotate", {"key_id": "newest"}),
        ("/api/keys/newest/first", "/api/{kind}/newest/first", {"kind": "keys"}),
        (
            "/api/projects/p 1/secrets/ä",
            "/api/projects/{project_id}/secrets/{name}",
            {"project_id": "p 1", "name": "ä"},
        ),
    ],
)
def test_literal_segment_comes_before_a_parameter(
    path: str, route: str, parameters: dict[str, str]
) -> None:
    assert find(path) == (route, parameters)
    assert find(path, "DELETE") == (route, parameters)


@pytest.mark.parametrize(
    "path", ["", "/", "/api", "/api/keys/", "/api//keys", "/api/keys/key_1/rotate/", "/API/keys"]
)
def test_other_paths_have_no_route(path: str) -> None:
    assert find(path) is None


def test_only_requests_of_http_are_routed() -> None:
    assert TABLE.matches({"type": "websocket", "path": "/api/keys"})[0] is Match.NONE
