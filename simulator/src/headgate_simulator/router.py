"""The routing of a method and a path to its handler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headgate_simulator.memory import Memory
from headgate_simulator.messages import ApiError, ApiRequest, ApiResponse, EventStream

Handler = Callable[[ApiRequest, Memory], ApiResponse | EventStream]


class Router:
    """Match routes such as `GET /v1/files/*/content`, where `*` is one segment, given as an id."""

    def __init__(self, routes: dict[str, Handler]) -> None:
        self._root: dict[str | None, Any] = {}
        for route, handler in routes.items():
            method, _, path = route.partition(" ")
            node = self._root
            for segment in path.strip("/").split("/"):
                node = node.setdefault(segment, {})
            node.setdefault(None, {})[method] = handler

    def find(self, method: str, path: str) -> tuple[Handler, list[str]]:
        """Return the handler and the ids in the path. Raise OpenAI's 404 and 405."""
        node: dict[str | None, Any] = self._root
        ids: list[str] = []
        for segment in path.strip("/").split("/"):
            below = node.get(segment)
            if below is None:
                below = node.get("*", {})
                ids.append(segment)
            node = below
        handlers: dict[str, Handler] = node.get(None, {})
        if not handlers:
            raise ApiError(404, f"Invalid URL ({method} {path})")
        if method not in handlers:
            hint = "(HINT: Perhaps you meant to use a different HTTP method?)"
            message = f"Not allowed to {method} on {path}. {hint}"
            raise ApiError(405, message, code="method_not_supported")
        return handlers[method], ids
