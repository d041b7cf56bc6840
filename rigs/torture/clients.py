"""Clients that call without end and record which answers they received whole.

Most speak through plain sockets, some are the official SDK with its retries; half of the calls are
streamed, half are paid from the wallet.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from typing import Any

import openai

from rigs.torture.oracle import Answer
from rigs.torture.provider import DONE, MODEL

TIMEOUT_SECONDS = 30.0
MESSAGES = [{"role": "user", "content": "hello"}]


class BrokenAnswerError(Exception):
    pass


class Clients:
    """Run `count` clients, every eighth of them an SDK, of one gateway on a port that stays."""

    def __init__(self, port: int, key: str, *, count: int, seed: int) -> None:
        self.port = port
        self.key = key
        self.answers: list[Answer] = []
        self.statuses: dict[int, int] = {}
        """The count of each status, 0 for a connection that died."""
        self.begun = 0
        self.in_flight = 0
        self.pause_seconds = 0.04
        self._count = count
        self._draw = random.Random(seed)
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._use_sdk() if number % 8 == 7 else self._use_socket())
            for number in range(self._count)
        ]

    async def stop(self) -> None:
        """End the clients, wherever they are."""
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _next_call(self) -> tuple[bool, str, float]:
        """Return whether it streams, its credential, its pause."""
        number = next(self._numbers)
        credential = "managed" if number % 4 < 2 else "own"
        return number % 2 == 0, credential, self._draw.uniform(0, 2 * self.pause_seconds)

    def _count_status(self, status: int) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1

    async def _use_socket(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            try:
                while True:
                    await self._call(reader, writer)
            except (OSError, BrokenAnswerError, asyncio.IncompleteReadError, TimeoutError):
                self._count_status(0)
            finally:
                writer.close()

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        streamed, credential, pause_seconds = self._next_call()
        body = json.dumps(
            {
                "model": MODEL,
                "messages": MESSAGES,
                "max_completion_tokens": 100,
                "stream": streamed,
                "pause_seconds": pause_seconds,
            }
        ).encode()
        lines = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer "
            f"{self.key}\r\nx-headgate-credential: {credential}\r\ncontent-type: application/json"
            f"\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.begun += 1
        self.in_flight += 1
        try:
            writer.write(lines.encode() + body)
            async with asyncio.timeout(TIMEOUT_SECONDS):
                status, answer = await read_answer(reader)
        finally:
            self.in_flight -= 1
        self._count_status(status)
        if answer is not None:
            self.answers.append(answer)
        elif status != 200:
            await asyncio.sleep(0.05)

    async def _use_sdk(self) -> None:
        base_url = f"http://127.0.0.1:{self.port}/v1"
        async with openai.AsyncOpenAI(api_key=self.key, base_url=base_url, max_retries=2) as sdk:
            while True:
                try:
                    await self._call_by_sdk(sdk)
                except openai.APIStatusError as error:
                    self._count_status(error.status_code)
                    await asyncio.sleep(0.05)
                except (openai.APIError, OSError):
                    self._count_status(0)
                    await asyncio.sleep(0.05)
                # A stream that breaks off raises what its transport raises.
                except Exception as error:
                    if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore"):
                        raise
                    self._count_status(0)

    async def _call_by_sdk(self, sdk: openai.AsyncOpenAI) -> None:
        streamed, credential, pause_seconds = self._next_call()
        self.begun += 1
        self.in_flight += 1
        try:
            given: dict[str, Any] = {
                "model": MODEL,
                "messages": MESSAGES,
                "max_completion_tokens": 100,
                "stream": streamed,
                "extra_body": {"pause_seconds": pause_seconds},
                "extra_headers": {"x-headgate-credential": credential},
                "timeout": TIMEOUT_SECONDS,
            }
            create: Any = sdk.chat.completions.with_raw_response.create
            raw = await create(**given)
            parsed = raw.parse()
            answer_id = ""
            if streamed:
                async for chunk in parsed:
                    answer_id = chunk.id
            else:
                answer_id = parsed.id
        finally:
            self.in_flight -= 1
        self._count_status(200)
        self.answers.append(Answer(raw.headers["x-headgate-request-id"], answer_id))


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of an answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return int(head[0].split(" ")[1]), fields


async def read_piece(reader: asyncio.StreamReader) -> bytes:
    """Return one chunk; empty at the end."""
    size = int(await reader.readline() or b"0", 16)
    return (await reader.readexactly(size + 2))[:-2]


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, Answer | None]:
    """Return the status, and the answer if it is whole: a stream is with its last event."""
    status, fields = await read_head(reader)
    if fields.get("transfer-encoding") != "chunked":
        body = await reader.readexactly(int(fields["content-length"]))
        if status != 200:
            return status, None
        return status, Answer(fields["x-headgate-request-id"], json.loads(body)["id"])
    text = b""
    while not text.endswith(DONE):
        piece = await read_piece(reader)
        text += piece
        if not piece:
            return status, None
    # It is whole here, for a client that acts on the last event; the rest keeps the connection.
    answer = Answer(fields["x-headgate-request-id"], json.loads(text[6 : text.index(b"\n")])["id"])
    with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
        await read_piece(reader)
    return status, answer
