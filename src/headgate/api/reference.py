"""Serves the API reference at /docs: Swagger UI, which shows the document at /openapi.json.

The files are read at each request and take no memory between requests.
`tools/viewer.py` takes those of Swagger UI from npm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "reference_page"
PAGE = "index.html"
MEDIA_TYPES = {
    PAGE: "text/html",
    "initializer.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
HEADERS = {
    # Browsers revalidate each time (304 by the ETag): an old script never runs in a new page.
    "cache-control": "no-cache",
    # Icons of Swagger UI are data: URLs in its style sheet.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def build_routes() -> list[Route]:
    """Return the routes of the page and of the files that it refers to."""
    files = [Route(f"/docs/{name}", _serve(name)) for name in MEDIA_TYPES if name != PAGE]
    return [Route("/docs", _serve(PAGE)), *files]


def _serve(name: str) -> Callable[[Request], Awaitable[Response]]:
    path = FOLDER / name

    async def serve(request: Request) -> Response:
        response = FileResponse(
            path, headers=HEADERS, media_type=MEDIA_TYPES[name], stat_result=path.stat()
        )
        etag = response.headers["etag"]
        # The field may be a list, and a proxy that compresses makes the ETag weak.
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers={**HEADERS, "etag": etag})
        return response

    return serve
