"""Finds applications by their `client_id`: registered ones, and metadata documents.

A document is fetched over the egress client, so the guard decides whether its address may be asked
(law 6), and only for a person who is signed in.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict

import msgspec

from headgate.kit.clock import Clock
from headgate.kit.errors import drop_trace
from headgate.kit.http.errors import EgressError
from headgate.kit.http.message import Client, Headers, Request, Timeouts
from headgate.kit.http.url import parse_url
from headgate.oauth.model.client import (
    CLIENT_ID_CHARACTERS_MAX,
    REGISTERED_PREFIX,
    OAuthClient,
    check_document_address,
    is_document_address,
    parse_registered_client,
    read_document,
)
from headgate.oauth.model.errors import UnknownOAuthClientError

PURPOSE = "oauth_client"
"""The egress rule, without the allow-list: a link of anybody may choose these addresses."""
TIMEOUTS = Timeouts(
    connect_seconds=5.0, first_byte_seconds=5.0, idle_seconds=5.0, total_seconds=10.0
)
HEADERS: Headers = [(b"accept", b"application/json"), (b"user-agent", b"headgate")]
DOCUMENT_BYTES_MAX = 32 * 1024
FETCHES_MAX = 8
"""How many documents are fetched at once."""
DOCUMENTS_MAX = 256
FRESH_SECONDS_MIN = 60.0
FRESH_SECONDS_MAX = 86_400.0
FRESH_SECONDS_DEFAULT = 3_600.0
FAILURE_SECONDS = 10.0
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?([0-9]{1,9})")
_UNCACHED = re.compile(r"(?:^|[\s,])no-(?:store|cache)(?:$|[\s,=])")


class CachedDocument(msgspec.Struct, frozen=True):
    found: OAuthClient | UnknownOAuthClientError
    until: float


class Clients:
    """Find applications. Documents are cached as long as HTTP says, within bounds."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._now = clock.monotonic
        self._documents: OrderedDict[str, CachedDocument] = OrderedDict()
        self._places = asyncio.Semaphore(FETCHES_MAX)

    async def find(self, client_id: str) -> OAuthClient:
        """Return the application. Raise `UnknownOAuthClientError`."""
        if len(client_id) > CLIENT_ID_CHARACTERS_MAX or not client_id:
            raise UnknownOAuthClientError("The client_id is missing or too long.")
        if client_id.startswith(REGISTERED_PREFIX):
            return parse_registered_client(client_id)
        if not is_document_address(client_id):
            raise UnknownOAuthClientError(
                f"The client_id {client_id[:80]!r} was not issued here, and it is no https address "
                "of a metadata document. Register the application.",
                param="client_id",
            )
        check_document_address(client_id)
        known = self._find_cached(client_id)
        if known is None:
            async with self._places:
                known = self._find_cached(client_id) or await self._fetch_cached(client_id)
        if isinstance(known.found, UnknownOAuthClientError):
            raise UnknownOAuthClientError(known.found.message, param="client_id")
        return known.found

    def _find_cached(self, client_id: str) -> CachedDocument | None:
        known = self._documents.get(client_id)
        return None if known is None or known.until <= self._now() else known

    async def _fetch_cached(self, client_id: str) -> CachedDocument:
        try:
            found, seconds = await self._fetch(client_id)
            known = CachedDocument(found, self._now() + seconds)
        except UnknownOAuthClientError as error:
            known = CachedDocument(drop_trace(error), self._now() + FAILURE_SECONDS)
        self._documents[client_id] = known
        self._documents.move_to_end(client_id)
        if len(self._documents) > DOCUMENTS_MAX:
            self._documents.popitem(last=False)
        return known

    async def _fetch(self, client_id: str) -> tuple[OAuthClient, float]:
        origin, target = parse_url(client_id)
        request = Request(origin, b"GET", target, HEADERS, b"", TIMEOUTS, purpose=PURPOSE)
        try:
            response = await self._client.send(request)
            headers = dict(response.headers)
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            is_json = kind == b"application/json" or kind.endswith(b"+json")
            if response.status != 200 or not is_json:
                response.abort()
                reason = f"status {response.status}, {kind.decode('latin-1') or 'no media type'}"
                raise UnknownOAuthClientError(
                    f"The metadata document {client_id!r} cannot be read: {reason}."
                )
            body = await response.read(DOCUMENT_BYTES_MAX)
        except EgressError as error:
            raise UnknownOAuthClientError(
                f"The metadata document {client_id!r} cannot be fetched: {error}"
            ) from error
        return read_document(client_id, body), find_freshness(headers.get(b"cache-control", b""))


def find_freshness(cache_control: bytes) -> float:
    """Return for how many seconds an answer with this header may be used, within our bounds."""
    text = cache_control.decode("latin-1").lower()
    if _UNCACHED.search(text):
        return FRESH_SECONDS_MIN
    found = _MAX_AGE.search(text)
    seconds = FRESH_SECONDS_DEFAULT if found is None else float(found[1])
    return min(max(seconds, FRESH_SECONDS_MIN), FRESH_SECONDS_MAX)
