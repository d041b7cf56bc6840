"""K4: an orderly stop with long streams under way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import msgspec

from rigs.torture.clients import MESSAGES, read_head, read_piece
from rigs.torture.harness import Result, TortureHarness, running_harness
from rigs.torture.oracle import Answer, Finding, judge_file
from rigs.torture.provider import DONE, MODEL

STOP_SLACK_SECONDS = 2.0
WORD = b'"content": "word "'
BYTES_PER_TOKEN = 4
WORD_BYTES = 5


class Stream(msgspec.Struct):
    """Hold what a client received of a stream."""

    request_id: str = ""
    text: bytes = b""

    @property
    def answer(self) -> Answer:
        data = json.loads(self.text[6 : self.text.index(b"\n")])
        return Answer(self.request_id, data["id"])


async def read_stream(
    harness: TortureHarness, number: int, *, events: int, pause_seconds: float
) -> Stream:
    """Request a stream and read it to its end, whichever that is."""
    body = json.dumps(
        {
            "model": MODEL,
            "messages": MESSAGES,
            "max_completion_tokens": 5_000,
            "stream": True,
            "events": events,
            "pause_seconds": pause_seconds,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer "
        f"{harness.gateway.key}\r\nx-headgate-credential: {('managed', 'own')[number % 2]}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", harness.gateway.port)
    stream = Stream()
    try:
        writer.write(head.encode() + body)
        _, fields = await read_head(reader)
        stream.request_id = fields["x-headgate-request-id"]
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
            while piece := await read_piece(reader):
                stream.text += piece
    finally:
        writer.close()
    return stream


async def stop_with_streams(
    *, streams: int, report: Callable[[str], None], grace_seconds: float = 3.0
) -> Result:
    """Run K4: streams that end within the grace are whole; others end in an error, and are billed
    for what was delivered."""
    findings: list[Finding] = []
    figures: list[str] = []
    for name, events in (("short", 20), ("long", 10_000)):
        grace = 30.0 if name == "short" else grace_seconds
        with running_harness(grace_seconds=grace) as harness:
            took, read = await _stop(harness, streams, events=events)
            found = _judge_whole(read) if name == "short" else _judge_cut(harness, read)
            if name == "long" and took > grace + STOP_SLACK_SECONDS:
                found.append(Finding("L1", f"the stop took {took:.1f} s"))
            whole = [stream.answer for stream in read if stream.text.endswith(DONE)]
            findings += found + judge_file(harness.database, whole, harness.provider.charges)
        figures.append(f"{name}: {len(whole)}/{streams} whole, exit {took:.1f} s (grace {grace})")
        report(f"K4 {figures[-1]}, {len(findings)} findings")
    return Result("K4", "SIGTERM with streams", 2 * streams, findings, "; ".join(figures))


async def _stop(
    harness: TortureHarness, streams: int, *, events: int
) -> tuple[float, list[Stream]]:
    """Return the seconds from the signal to the exit, and what the clients received."""
    reading = [
        asyncio.create_task(read_stream(harness, number, events=events, pause_seconds=0.1))
        for number in range(streams)
    ]
    while len(harness.provider.charges) < streams:  # noqa: ASYNC110 - another thread counts
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)
    started = time.monotonic()
    harness.gateway.process.terminate()
    read = await asyncio.gather(*reading)
    await asyncio.to_thread(harness.gateway.process.wait, 60)
    return time.monotonic() - started, read


def _judge_whole(read: list[Stream]) -> list[Finding]:
    return [
        Finding("L1", f"{stream.request_id} was cut within the grace")
        for stream in read
        if not stream.text.endswith(DONE)
    ]


def _judge_cut(harness: TortureHarness, read: list[Stream]) -> list[Finding]:
    found: list[Finding] = []
    with closing(sqlite3.connect(harness.database)) as connection:
        query = "SELECT request_id, outcome, json_extract(usage, '$.output_tokens') FROM receipts"
        receipts = {row[0]: row[1:] for row in connection.execute(query)}
    for stream in read:
        if b"gateway_stopping" not in stream.text:
            found.append(Finding("L1", f"{stream.request_id} got no error event"))
        tokens = -(-stream.text.count(WORD) * WORD_BYTES // BYTES_PER_TOKEN)
        if receipts.get(stream.request_id) != ("cancelled", tokens):
            text = f"{stream.request_id}: {receipts.get(stream.request_id)}, delivered {tokens}"
            found.append(Finding("L2", text))
    return found
