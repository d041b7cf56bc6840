"""Serves the contents of assets to anybody who knows their addresses.

A file is never run: its type is the one that its bytes were checked against, browsers must not
guess another one, what is neither an image nor plain text is downloaded, and what is opened all the
same runs in a sandbox without scripts, apart from this origin.
"""

from __future__ import annotations

import functools
from email.utils import formatdate

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from headgate.api.byte_ranges import RangeNotSatisfiableError, choose_range, is_unchanged
from headgate.api.error_format import PLATFORM
from headgate.assets.model.asset import PATH_PREFIX, Asset
from headgate.assets.model.media_type import ACCEPTED
from headgate.assets.service import AssetFiles
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError

PATH = f"{PATH_PREFIX}{{asset_id}}/{{slug}}"
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "referrer-policy": "no-referrer",
    # Pages elsewhere may show them. No cookie and no login takes part, so nothing is given away.
    "cross-origin-resource-policy": "cross-origin",
    "access-control-allow-origin": "*",
}
FOREVER_SECONDS = 31_536_000
BRIEFLY_SECONDS = 300
NOT_FOUND = {"cache-control": "no-store"}


def build_routes(files: AssetFiles, clock: Clock) -> list[Route]:
    return [Route(PATH, functools.partial(serve, files, clock), methods=["GET"])]


async def serve(files: AssetFiles, clock: Clock, request: Request) -> Response:
    """Answer a request for a file, or for a part of it."""
    parameters = request.path_params
    try:
        asset = await files.find_public(parameters["asset_id"], parameters["slug"])
        return await _answer(files, asset, request, clock.now())
    except HeadgateError as error:
        response = PLATFORM.render(error)
        response.headers.update(SECURITY_HEADERS | NOT_FOUND)
        return response


async def _answer(files: AssetFiles, asset: Asset, request: Request, now: float) -> Response:
    is_versioned = request.query_params.get("v") == str(asset.version)
    headers = list_headers(asset, now, is_versioned=is_versioned)
    sent = request.headers
    if is_unchanged(headers["etag"], sent.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    try:
        part = choose_range(asset.bytes, headers["etag"], sent.get("range"), sent.get("if-range"))
    except RangeNotSatisfiableError:
        headers["content-range"] = f"bytes */{asset.bytes}"
        return Response(status_code=416, headers=headers)
    start, end = part or (0, asset.bytes)
    headers["content-length"] = str(end - start)
    if part is not None:
        headers["content-range"] = f"bytes {start}-{end - 1}/{asset.bytes}"
    status = 200 if part is None else 206
    media_type = describe_type(asset)
    if request.method == "HEAD":
        return Response(None, status, headers, media_type=media_type)
    pieces = await files.open(asset, part)
    return StreamingResponse(pieces, status, headers, media_type=media_type)


def list_headers(asset: Asset, now: float, *, is_versioned: bool) -> dict[str, str]:
    """Return the headers of the content."""
    is_inline = ACCEPTED[asset.media_type].is_inline
    disposition = "inline" if is_inline else "attachment"
    return {
        **SECURITY_HEADERS,
        "content-disposition": f'{disposition}; filename="{asset.slug}"',
        "cache-control": describe_caching(asset, now, is_versioned=is_versioned),
        "etag": f'"{asset.sha256[:32]}"',
        "last-modified": formatdate(asset.updated_at, usegmt=True),
        "accept-ranges": "bytes",
    }


def describe_caching(asset: Asset, now: float, *, is_versioned: bool) -> str:
    """Return how long caches may keep the content, which is never longer than the asset stays. An
    address that names the present version never has another content."""
    seconds = FOREVER_SECONDS if is_versioned else BRIEFLY_SECONDS
    if asset.expires_at is not None:
        seconds = min(seconds, max(int(asset.expires_at - now), 0))
    return f"public, max-age={seconds}, {'immutable' if is_versioned else 'must-revalidate'}"


def describe_type(asset: Asset) -> str:
    is_text = ACCEPTED[asset.media_type].is_text
    return f"{asset.media_type}; charset=utf-8" if is_text else asset.media_type
