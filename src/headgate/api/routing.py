"""Finds the route of a request by its path in a table, however many routes there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

PARAMETER = re.compile(r"\{(\w+)\}")


class _Segment:
    """A segment of the paths with parameters."""

    def __init__(self) -> None:
        self.literals: dict[str, _Segment] = {}
        self.parameter: _Segment | None = None
        self.route: Route | None = None


class PathTable(BaseRoute):
    """Serve requests by the one route of their path.

    Paths without parameters come first, and a literal segment before a parameter. The method does
    not take part in the choice, so that a path is answered with 405 for a method it does not have.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, Route] = {}
        self._root = _Segment()
        for route in routes:
            if "{" in route.path:
                self._add(route)
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
            route = _find(self._root, segments, 0)
            if route is None:
                return Match.NONE, {}
            parameters = {
                found[1]: value
                for template, value in zip(route.path.split("/"), segments, strict=True)
                if (found := PARAMETER.fullmatch(template))
            }
        child = {"endpoint": route.endpoint, "path_params": parameters, "headgate.route": route}
        return Match.FULL, child

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the route that `matches` found; it raises 405 for a method that it does not have."""
        await scope["headgate.route"].handle(scope, receive, send)

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.path.split("/"):
            if PARAMETER.fullmatch(segment) is None:
                node = node.literals.setdefault(segment, _Segment())
            else:
                node.parameter = node.parameter or _Segment()
                node = node.parameter
        node.route = route


def _find(node: _Segment, segments: Sequence[str], index: int) -> Route | None:
    if index == len(segments):
        return node.route
    literal = node.literals.get(segments[index])
    found = None if literal is None else _find(literal, segments, index + 1)
    if found is None and node.parameter is not None and segments[index]:
        found = _find(node.parameter, segments, index + 1)
    return found
