"""The reading of a request from its connection, and of the fault that it names."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from urllib.parse import unquote

import msgspec

from headgate_simulator.fault_server import catalogue, wires
from headgate_simulator.fault_server.steps import FaultRequest, Script

HEADER = "x-simulator-fault"
TAG_HEADER = "x-client-request-id"
USER_FIELDS = ("user", "safety_identifier")
HEAD_BYTES_MAX = 1 << 20
_WIRES = {
    "/chat/completions": wires.CHAT,
    "/responses": wires.RESPONSES,
    "/embeddings": wires.EMBEDDINGS,
}


class ReceivedRequest(msgspec.Struct):
    """Hold a request as it arrived; `body` is decoded where it is a JSON object."""

    method: str
    target: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def tag(self) -> str | None:
        """Return the client's own id of the call, which all its attempts share."""
        return self.headers.get(TAG_HEADER)

    @property
    def model(self) -> str:
        """Return the model without the fault behind it."""
        return str(self.body.get("model", "")).partition("@")[0]


async def read(reader: asyncio.StreamReader) -> ReceivedRequest | None:
    """Return the next request of a connection; None when it has ended, or is not HTTP."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        data = await _read_body(reader, headers)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, OSError):
        return None
    return ReceivedRequest(method, target, headers, _decode(data))


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = b""
    while (size := int(await reader.readline(), 16)) > 0:
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


def _decode(data: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def find_fault(request: ReceivedRequest) -> tuple[Script, FaultRequest]:
    """Return the script to play: the first that the header, the model, the user or the path names.

    Raise `ValueError` for an unknown fault.
    """
    script, options = catalogue.find(_find_spec(request))
    path = request.target.partition("?")[0]
    wire = next((wire for end, wire in _WIRES.items() if path.endswith(end)), wires.RAW)
    key = request.headers.get("authorization", "").partition(" ")[2].encode("latin-1")
    return script, FaultRequest(wire, request.body.get("stream") is True, key, options)


def _find_spec(request: ReceivedRequest) -> str:
    spec = request.headers.get(HEADER, "")
    if spec:
        return spec.removeprefix(catalogue.MARK)
    stated = [str(request.body.get("model", "")).partition("@")[2]]
    stated += [str(request.body.get(name, "")) for name in USER_FIELDS]
    stated += unquote(request.target.partition("?")[0]).split("/")
    for text in stated:
        if text.startswith(catalogue.MARK):
            return text.removeprefix(catalogue.MARK)
    return catalogue.GOOD.name
