"""Fetch pictures and documents that a request names by their addresses, where the gateway itself
has to read them. The egress guard decides which addresses it may ask (law 6)."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Callable, Iterable, Mapping

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.errors import EgressError, ForbiddenAddressError
from headgate.kit.http.message import Client, Headers, Origin, Request, Timeouts
from headgate.kit.http.url import CHARACTERS_MAX, parse_url
from headgate.llm.pictures import PICTURE_HEAD_BYTES

PURPOSE = "content"
"""The egress rule, and the reason that these connections serve nothing else."""
TIMEOUTS = Timeouts(
    connect_seconds=5.0, first_byte_seconds=10.0, idle_seconds=10.0, total_seconds=20.0
)
HEADERS: Headers = [(b"accept", b"*/*"), (b"user-agent", b"headgate")]
ADDRESSES_MAX = 32
"""How many addresses of one request are fetched; the content of further ones is unknown."""
DOCUMENT_BYTES_MAX = 16 << 20
KEPT_CHARACTERS = "!$&'()*+,-./:;=?@_~%"


class UnsafeOutboundUrlError(HeadgateError):
    """The gateway would have to fetch content from an address that it may not connect to.

    Use a public https address, or send the content itself in base64.
    """

    kind = Kind.INVALID
    code = "unsafe_outbound_url"


class Address(msgspec.Struct, frozen=True):
    """Name what to fetch. `place` is where the request names it. Of a picture, only the beginning
    is read."""

    url: str
    place: str
    is_picture: bool


class ContentFetcher:
    """Fetch content over the egress client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def fetch_all(
        self, addresses: Iterable[Address], hold: Callable[[int], None]
    ) -> Mapping[str, bytes]:
        """Return what is at these addresses, as far as it could be read.

        `hold` is told of bytes before they are kept, and may raise. Raise
        `UnsafeOutboundUrlError` for an address that the guard forbids.
        """
        wanted = {each.url: each for each in addresses}
        listed = list(wanted.values())[:ADDRESSES_MAX]
        parsed = [(each, parse_address(each)) for each in listed]
        tasks = [
            asyncio.ensure_future(self._fetch(each, *target, hold))
            for each, target in parsed
            if target is not None
        ]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return {url: data for url, data in found if data is not None}

    async def _fetch(
        self, address: Address, origin: Origin, target: bytes, hold: Callable[[int], None]
    ) -> tuple[str, bytes | None]:
        request = Request(origin, b"GET", target, HEADERS, b"", TIMEOUTS, purpose=PURPOSE)
        try:
            response = await self._client.send(request)
            if response.status != 200:
                response.abort()
                return address.url, None
            if not address.is_picture:
                return address.url, await response.read(DOCUMENT_BYTES_MAX, hold)
            beginning = Beginning(PICTURE_HEAD_BYTES)
            response.stream(beginning)
            try:
                return address.url, await beginning.done
            finally:
                response.abort()
        except ForbiddenAddressError as error:
            raise refuse(address, error.reason) from None
        # It is as if the content were not known: whoever sends it on learns what is wrong with it.
        except EgressError:
            return address.url, None


class Beginning:
    """Collect the beginning of a body (`Sink`)."""

    def __init__(self, bytes_max: int) -> None:
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._bytes_max = bytes_max
        self._data = bytearray()

    def on_data(self, data: bytes) -> None:
        self._data += data[: self._bytes_max - len(self._data)]
        if len(self._data) >= self._bytes_max:
            self.on_end()

    def on_end(self) -> None:
        if not self.done.done():
            self.done.set_result(bytes(self._data))

    def on_failure(self, error: Exception) -> None:
        """Keep what has come: it may be enough."""
        self.on_end()


def parse_address(address: Address) -> tuple[Origin, bytes] | None:
    """Return origin and target of an address; None for one that is too long to be asked for.

    Raise `UnsafeOutboundUrlError` for what is no unambiguous http(s) address.
    """
    scheme, mark, rest = address.url.partition("://")
    text = urllib.parse.quote(
        scheme.lower() + mark + rest.partition("#")[0], safe=f"{KEPT_CHARACTERS}[]"
    )
    if len(text) > CHARACTERS_MAX:
        return None
    try:
        return parse_url(text)
    except ValueError as error:
        raise refuse(address, str(error)) from None


def refuse(address: Address, reason: str) -> UnsafeOutboundUrlError:
    return UnsafeOutboundUrlError(
        f"{address.place}: the gateway may not fetch this address: {reason.rstrip('.')}. "
        "Send the content itself, in base64",
        param=address.place,
        should_retry=False,
    )
