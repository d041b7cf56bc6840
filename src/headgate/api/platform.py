"""Builds the routes of the platform API: every declared operation behind the one gate."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from headgate.api import asset_files, reference
from headgate.api.gate import Gate, Identify
from headgate.api.large_bodies import LargeBodies
from headgate.api.oauth.requests import find_application
from headgate.api.oauth.routes import build_routes as build_oauth_routes
from headgate.api.openapi import build_document
from headgate.api.operation import Operations
from headgate.api.operation_handler import OperationHandler
from headgate.api.routes import ALL
from headgate.api.routing import PathTable
from headgate.api.services import Services


def build_routes(
    services: Services, identify: Identify, *, modules: Sequence[Operations] = ALL
) -> list[BaseRoute]:
    """Return the routes of all operations, of the OpenAPI document, of the API reference, and
    of the authorization server."""
    public_url = services.authentication.public_url
    gate = Gate(
        services.key_index,
        services.rate_limiter,
        identify,
        services.signatures,
        services.workspaces,
        public_url=public_url,
        find_application=functools.partial(find_application, services),
    )
    large_bodies = LargeBodies()
    paths: dict[str, dict[str, OperationHandler]] = {}
    for operations in modules:
        for operation in operations.all:
            handler = OperationHandler(operation, services, gate, large_bodies)
            paths.setdefault(operation.path, {})[operation.method] = handler
    routes = [_route(path, handlers) for path, handlers in paths.items()]
    described: list[bytes] = []

    async def describe(_request: Request) -> Response:
        if not described:
            described.append(encode_document(build_document(modules)))
        return Response(described[0], media_type="application/json")

    document = Route("/openapi.json", describe)
    files = asset_files.build_routes(services.asset_files, services.clock)
    others = (document, *files, *reference.build_routes(), *build_oauth_routes(services))
    return [PathTable([*routes, *others])]


def _route(path: str, handlers: Mapping[str, OperationHandler]) -> Route:

    async def serve(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await handlers[method].serve(request)

    # One route for all methods of a path: the 405 of any other method lists them.
    return Route(path, serve, methods=list(handlers))


def encode_document(document: dict[str, Any]) -> bytes:
    """Return the document as indented JSON, in the order of declaration."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
