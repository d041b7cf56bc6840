"""Find the route of a request by its path in a table, however many routes there are."""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from headgate.api.error_format import V1_PREFIX
from headgate.kit.path_tree import PathTree

PARAMETER = re.compile(r"\{(\w+)\}")


class PathTable(BaseRoute):
    """Serve requests by the one route of their path.

    Paths without parameters come first, and a literal segment before a parameter. The method does
    not take part in the choice, so that a path is answered with 405 for a method it does not have.
    Below `/v1`, a path has one spelling.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, Route] = {}
        self._tree: PathTree[Route] = PathTree()
        for route in routes:
            if "{" in route.path:
                self._tree.setdefault(route.path, route)
            else:
                self._exact[route.path] = route

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        path: str = scope["path"]
        route = self._exact.get(path)
        parameters: dict[str, str] = {}
        if route is None:
            segments = path.split("/")
            route = self._tree.find(segments)
            if route is None:
                return Match.NONE, {}
            parameters = {
                found[1]: value
                for template, value in zip(route.path.split("/"), segments, strict=True)
                if (found := PARAMETER.fullmatch(template))
            }
        if path.startswith(V1_PREFIX) and not is_plain(route.path, scope["raw_path"]):
            return Match.NONE, {}
        child = {"endpoint": route.endpoint, "path_params": parameters, "headgate.route": route}
        return Match.FULL, child

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the route that `matches` found; it raises 405 for a method that it does not have."""
        await scope["headgate.route"].handle(scope, receive, send)


def is_plain(template: str, raw_path: bytes) -> bool:
    """Return whether a path spells the literal segments of a template without escapes.

    Below `/v1`, another spelling of a path could be meant for a provider.
    """
    segments, literals = raw_path.decode("latin-1").split("/"), template.split("/")
    return len(segments) == len(literals) and all(
        literal == segment or PARAMETER.fullmatch(literal)
        for literal, segment in zip(literals, segments, strict=True)
    )
