"""Sending of answers over ASGI, with the faults of timing and of the connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import msgspec
from starlette.types import Receive, Scope, Send

from headgate_simulator import faults
from headgate_simulator.faults import FaultSpec
from headgate_simulator.messages import ApiResponse, EventStream, Frame

CUT = "headgate_simulator.cut"
"""Scope entry: a function that closes the client's connection at once."""

RawHeaders = list[tuple[bytes, bytes]]


class ResponseWriter:
    """Write one answer to the client; `is_gone` once the client or the connection is gone."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self.is_gone = False

    async def send_head(self, status: int, headers: RawHeaders) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send_body(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def pause(self, milliseconds: float) -> None:
        """Wait, but no longer than the client is connected."""
        if milliseconds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(milliseconds / 1000):
                    await self.stall()

    async def stall(self) -> None:
        """Send nothing until the client disconnects."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True

    async def cut(self) -> None:
        """Close the connection. Needs the protocol of `server`; other servers see an answer that
        does not end.
        """
        close = self._scope.get(CUT)
        if close is not None:
            close()
            # Wait for the disconnect: returning earlier would make the server complain.
            await self.stall()
        self.is_gone = True


async def send_response(
    writer: ResponseWriter, response: ApiResponse, headers: RawHeaders, *, fault: FaultSpec
) -> None:
    """Send a whole answer. Faults of the body act in its middle, which stands for event 0."""
    payload = faults.remove_usage(response.payload) if fault.no_usage else response.payload
    data = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    if fault.malformed:
        data = data[: len(data) // 2]
    media, length = response.media.encode(), str(len(data)).encode()
    await writer.pause(fault.first_chunk)
    if writer.is_gone:
        return
    await writer.send_head(200, [*headers, (b"content-type", media), (b"content-length", length)])
    if fault.stall is not None or fault.cut is not None or fault.cut_mid is not None:
        await writer.send_body(data[: len(data) // 2], more=True)
        await (writer.stall() if fault.stall is not None else writer.cut())
        return
    await writer.send_body(data, more=False)


async def send_stream(
    writer: ResponseWriter,
    events: EventStream,
    headers: RawHeaders,
    *,
    fault: FaultSpec,
    chunk_delay_seconds: float,
) -> None:
    """Send the events one by one, each after its pause."""
    media = b"text/event-stream; charset=utf-8"
    await writer.send_head(
        200, [*headers, (b"content-type", media), (b"cache-control", b"no-cache")]
    )
    await writer.pause(fault.first_chunk)
    for number, data in enumerate(_encode(faults.apply_faults(events.frames, fault), fault)):
        await writer.pause(fault.chunk + chunk_delay_seconds * 1000)
        if fault.stall == number:
            await writer.stall()
        elif fault.cut == number:
            await writer.cut()
        elif fault.cut_mid == number:
            await writer.send_body(data[: len(data) // 2], more=True)
            await writer.cut()
        if writer.is_gone:
            return
        await writer.send_body(data, more=True)
    await writer.send_body(b"", more=False)


def _encode(frames: Iterator[Frame], fault: FaultSpec) -> Iterator[bytes]:
    for number, (name, payload) in enumerate(frames):
        data = payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload)
        if fault.malformed and number == 1:
            data = data[: len(data) // 2]
        event = f"event: {name}\n".encode() if name else b""
        yield event + b"data: " + data + b"\n\n"
