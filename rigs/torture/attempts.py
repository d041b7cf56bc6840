"""Clients that make a number of attempts as fast as they can, and keep what was answered."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from rigs.torture.clients import MESSAGES, TIMEOUT_SECONDS, read_head, read_piece
from rigs.torture.oracle import Answer
from rigs.torture.provider import DONE, MODEL

OUTPUT_TOKENS_MAX = 100
BODY_BYTES = 256


class Attempt(msgspec.Struct, frozen=True):
    """Describe one call. `usage` is what the provider reports, in a text of equal length for equal
    holds; `fails` is how the provider fails, empty for not at all."""

    usage: str = "000020/100"
    credential: str = "managed"
    streamed: bool = False
    fails: str = ""
    gives_up: bool = False
    """Whether the client closes the connection right after it has sent the request."""
    key: str = ""
    """The key to call with; empty for the one of the load."""
    tag: str = ""
    """The idempotency key, which the provider is told as well; empty for none."""
    pause_seconds: float = 0.0

    def render(self, key: str) -> bytes:
        """Return the whole request. All bodies have the same length, and so the same hold."""
        asked = {
            "model": MODEL,
            "messages": MESSAGES,
            "max_completion_tokens": OUTPUT_TOKENS_MAX,
            "usage": self.usage,
            "fails": self.fails,
        }
        if self.tag:
            asked |= {"tag": self.tag, "pause_seconds": self.pause_seconds}
        if self.streamed:
            # Otherwise the gateway adds it, and holds for its bytes.
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        body = json.dumps(asked).encode().ljust(BODY_BYTES)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer "
            f"{self.key or key}\r\nx-headgate-credential: {self.credential}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        )
        head += f"idempotency-key: {self.tag}\r\n\r\n" if self.tag else "\r\n"
        return head.encode() + body


class Outcome(msgspec.Struct, frozen=True):
    """Hold what a client received: status 0 where the connection died, and no answer where it is
    not whole."""

    attempt: Attempt
    status: int
    answer: Answer | None = None
    body: bytes = b""

    @property
    def error(self) -> dict[str, Any]:
        """Return the error object of a refusal."""
        found: dict[str, Any] = json.loads(self.body)
        return found.get("error", found)


class AttemptLog:
    """Keep what was answered; whole bodies of refusals only."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.answers: list[Answer] = []
        self.refusals: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        self.statuses[outcome.status] += 1
        if outcome.answer is not None:
            self.answers.append(outcome.answer)
        elif outcome.status not in (0, 200):
            self.refusals.append(outcome)

    def count_refusals(self) -> Counter[str]:
        """Count the refusals by the status and code of their errors."""
        return Counter(f"{each.status} {each.error.get('code')}" for each in self.refusals)


async def make_attempts(
    ports: Sequence[int],
    key: str,
    attempts: Iterator[Attempt],
    *,
    workers: int,
    seen: Callable[[Outcome], None] = lambda _outcome: None,
) -> AttemptLog:
    """Let so many workers, in turn on each of the ports, make the attempts; each waits for its
    answer before it makes the next."""
    log = AttemptLog()

    def note(outcome: Outcome) -> None:
        log.add(outcome)
        seen(outcome)

    await asyncio.gather(
        *(
            _work(ports[number % len(ports)], key, attempts, note)
            for number in range(min(workers, 10_000))
        )
    )
    return log


async def _work(
    port: int, key: str, attempts: Iterator[Attempt], note: Callable[[Outcome], None]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for attempt in attempts:
            outcome = await send(reader, writer, attempt, key)
            note(outcome)
            if outcome.status == 0 or (outcome.status == 200 and outcome.answer is None):
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
    finally:
        writer.close()


async def send(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, attempt: Attempt, key: str
) -> Outcome:
    """Make one attempt on a connection. Return status 0 where that died."""
    status = 0
    try:
        writer.write(attempt.render(key))
        if attempt.gives_up:
            await asyncio.sleep(0)
            return Outcome(attempt, 0)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            status, fields = await read_head(reader)
            if fields.get("transfer-encoding") != "chunked":
                body = await reader.readexactly(int(fields["content-length"]))
                answer = _find_answer(fields, body) if status == 200 else None
                return Outcome(attempt, status, answer, b"" if answer and not attempt.tag else body)
            return await _read_stream(reader, attempt, fields)
    except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError):
        return Outcome(attempt, status)


async def _read_stream(
    reader: asyncio.StreamReader, attempt: Attempt, fields: dict[str, str]
) -> Outcome:
    text = b""
    while piece := await read_piece(reader):
        text += piece
    if not text.endswith(DONE):
        return Outcome(attempt, 200, body=text)
    answer = _find_answer(fields, text[6 : text.index(b"\n")])
    return Outcome(attempt, 200, answer, text if attempt.tag else b"")


def _find_answer(fields: dict[str, str], document: bytes) -> Answer:
    return Answer(fields["x-headgate-request-id"], json.loads(document)["id"])
