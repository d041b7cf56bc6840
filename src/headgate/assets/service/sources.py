"""Read the file of an upload from its one source."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote

import msgspec

from headgate.assets.model.asset import AssetUpload, make_slug
from headgate.assets.model.errors import (
    AssetTooLargeError,
    InvalidAssetError,
    SourceNotReadableError,
)
from headgate.assets.model.media_type import BYTES_MAX, PLAIN, find_by_name, is_text, read_header
from headgate.assets.model.owner import Owner
from headgate.assets.service.handles import Handles
from headgate.kit.http.errors import EgressError, ForbiddenAddressError, ResponseTooLargeError
from headgate.kit.http.message import Client, Headers, Request, Response, Timeouts
from headgate.relay.content import PURPOSE, Address, UnsafeOutboundUrlError, parse_address

TIMEOUTS = Timeouts(
    connect_seconds=5.0, first_byte_seconds=15.0, idle_seconds=10.0, total_seconds=60.0
)
HEADERS: Headers = [
    (b"accept", b"*/*"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"headgate"),
]
_BASE64_HEAD = re.compile(r"data:([^;,]{0,128})(?:;[^,;]{0,64}){0,4};base64,", re.IGNORECASE)
_SPACE = re.compile(r"\s+")


class SourceFile(msgspec.Struct, frozen=True):
    """Hold the file of an upload. `name` and `claimed` are what its source calls it."""

    content: bytes
    name: str = ""
    claimed: str = ""


class SourceReader:
    """Read sources; addresses over the egress client, as what any caller may name."""

    def __init__(self, client: Client, handles: Handles) -> None:
        self._client = client
        self._handles = handles

    async def read(self, owner: Owner, upload: AssetUpload) -> SourceFile:
        """Return the file.

        Raise `InvalidAssetError`, `AssetTooLargeError`, `UnsafeOutboundUrlError`,
        `SourceNotReadableError` and `HandleNotFoundError`.
        """
        source = upload.find_source()
        if source == "source_url":
            return await self._fetch(upload.source_url or "")
        if source == "handle":
            found = await self._handles.read(owner, upload.handle or "", 0, BYTES_MAX + 1)
            check_size(found.info.bytes, BYTES_MAX)
            return SourceFile(found.content, found.info.name, found.info.media_type)
        if source == "content":
            return decode_base64(upload.content or "")
        return SourceFile((upload.content_text or "").encode())

    async def _fetch(self, url: str) -> SourceFile:
        parsed = parse_address(Address(url, "source_url", is_picture=False))
        if parsed is None:
            raise _refuse("it is too long")
        origin, target = parsed
        if origin.scheme != "https":
            raise _refuse("only https:// addresses are fetched")
        request = Request(origin, b"GET", target, HEADERS, b"", TIMEOUTS, purpose=PURPOSE)
        try:
            response = await self._client.send(request)
            content = await _read(response)
        except ForbiddenAddressError as error:
            raise _refuse(error.reason.rstrip(".")) from None
        except ResponseTooLargeError:
            raise AssetTooLargeError(
                f"The file at source_url is larger than {BYTES_MAX} bytes.", param="source_url"
            ) from None
        except EgressError as error:
            raise _unreadable(str(error)) from None
        path = target.partition(b"?")[0].decode("ascii")
        name = make_slug(unquote(path.rpartition("/")[2]))
        claimed = read_header(_find(response, b"content-type"), content)
        if claimed in ("", PLAIN) and is_text(content):
            # Of text, the name of the file tells more than most servers.
            claimed = find_by_name(name) or claimed
        return SourceFile(content, name, claimed)


async def _read(response: Response) -> bytes:
    if response.status != 200:
        response.abort()
        location = _find(response, b"location")[:500]
        moved = f" It leads to {location!r}; name that address." if location else ""
        raise _unreadable(f"the server answered {response.status}.{moved}")
    if _find(response, b"content-encoding").strip().lower() not in ("", "identity"):
        response.abort()
        raise _unreadable("the server compressed the file although it was asked not to")
    length = _find(response, b"content-length")
    if length.isdigit() and int(length) > BYTES_MAX:
        response.abort()
        check_size(int(length), BYTES_MAX)
    return await response.read(BYTES_MAX)


def decode_base64(text: str) -> SourceFile:
    """Decode base64, also of a `data:` address. Raise `InvalidAssetError` and
    `AssetTooLargeError`."""
    head = _BASE64_HEAD.match(text)
    claimed = head[1] if head else ""
    data = _SPACE.sub("", text[head.end() :] if head else text)
    check_size(len(data) // 4 * 3 - 2, BYTES_MAX)
    data += "=" * (-len(data) % 4)
    is_url_safe = "-" in data or "_" in data
    try:
        content = base64.b64decode(data, b"-_" if is_url_safe else None, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidAssetError(
            "`content` is not base64. Text goes into `content_text`.", param="content"
        ) from None
    return SourceFile(content, claimed=claimed)


def check_size(size: int, bytes_max: int, what: str = "A file") -> None:
    """Raise `AssetTooLargeError`."""
    if size > bytes_max:
        raise AssetTooLargeError(f"{what} may have {bytes_max} bytes, and this one has {size}.")


def _find(response: Response, name: bytes) -> str:
    return next((value.decode("latin-1") for each, value in response.headers if each == name), "")


def _refuse(reason: str) -> UnsafeOutboundUrlError:
    return UnsafeOutboundUrlError(
        f"source_url: the gateway may not fetch this address: {reason}. Name a public https "
        "address, or send the content itself.",
        param="source_url",
        should_retry=False,
    )


def _unreadable(reason: str) -> SourceNotReadableError:
    return SourceNotReadableError(
        f"source_url cannot be read: {reason.rstrip('.')}.", param="source_url"
    )
