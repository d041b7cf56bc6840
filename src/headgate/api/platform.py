"""The platform API as routes: every declared operation behind the one gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from headgate.api.gate import Gate, Identify
from headgate.api.openapi import build_document
from headgate.api.operation_handler import OperationHandler
from headgate.api.routes import ALL
from headgate.api.services import Services


class FirstRoute(Route):
    """The first address that fits is the one that is meant, whatever the method: a literal one that
    is declared before one with a parameter is never taken for its value."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See Starlette, which would go on to look for another route that takes the method."""
        match, child = super().matches(scope)
        return (Match.FULL if match is Match.PARTIAL else match), child


def build_routes(services: Services, identify: Identify) -> list[Route]:
    """All operations, and the document that describes them."""
    public_url = services.authentication.public_url
    gate = Gate(services.key_index, services.rate_limiter, identify, public_url=public_url)
    paths: dict[str, dict[str, OperationHandler]] = {}
    for operations in ALL:
        for operation in operations.all:
            endpoint = OperationHandler(operation, services, gate)
            paths.setdefault(operation.path, {})[operation.method] = endpoint
    # An address without parameters comes before one whose parameter could be its last name.
    ordered = sorted(paths, key=lambda path: "{" in path)
    routes = [_route(path, paths[path]) for path in ordered]
    described: list[bytes] = []

    async def describe(_request: Request) -> Response:
        if not described:
            described.append(encode_document(build_document(ALL)))
        return Response(described[0], media_type="application/json")

    return [*routes, Route("/openapi.json", describe)]


def _route(path: str, endpoints: Mapping[str, OperationHandler]) -> Route:
    """All methods of one address, so that a further one is told which there are."""

    async def serve(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await endpoints[method].serve(request)

    return FirstRoute(path, serve, methods=list(endpoints))


def encode_document(document: dict[str, Any]) -> bytes:
    """As it is served and checked in: indented, in the order of declaration."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
