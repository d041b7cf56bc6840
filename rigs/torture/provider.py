"""A provider that records what it charges: each answer has an id and a usage of its own.

The request says how it wants to be answered: `events` pieces of text, `pause_seconds` between, a
`usage` such as `20/100` (tokens in and out), and whether it fails: `status` answers 500, `cut`
closes the connection, `part` does so within a stream.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from typing import Any

MODEL = "gpt-5.4-mini"
INPUT_NANO, OUTPUT_NANO = 750, 4_500
"""Nano-dollars per token, at $0.75 and $4.50 per million."""
DONE = b"data: [DONE]\n\n"
CHAT_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
FAILED = b'{"error": {"message": "The provider fails.", "type": "server_error"}}'
FAILED_HEAD = (
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n"
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


class RecordingProvider:
    """Serve on a thread. `charges` are nano-dollars by the id of the answer; an answer is in it
    before its first byte, so the last ones may never have left.
    """

    def __init__(self) -> None:
        self.charges: dict[str, int] = {}
        self.tags: dict[str, str] = {}
        """The `tag` of the request, by the id of the answer; of requests that have one."""
        self.port = 0
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._listening = threading.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> RecordingProvider:
        self._thread.start()
        self._listening.wait(10)
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._serve_connection, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stopping.wait()
        server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.sleep(0)

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        self._connections.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
                await self._answer(json.loads(await reader.readexactly(length) or b"{}"), writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        number = next(self._numbers)
        if (fails := asked.get("fails")) in ("status", "cut"):
            if fails == "cut":
                raise ConnectionAbortedError
            writer.write(FAILED_HEAD % len(FAILED) + FAILED)
            await writer.drain()
            return
        tokens = asked.get("usage") or f"{20 + number % 97}/{10 + number % 31}"
        tokens_in, tokens_out = map(int, tokens.split("/"))
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
        facts = {"id": f"chatcmpl-{number}", "object": "chat.completion", "model": MODEL}
        pause_seconds = asked.get("pause_seconds", 0.0)
        self.charges[f"chatcmpl-{number}"] = (
            usage["prompt_tokens"] * INPUT_NANO + usage["completion_tokens"] * OUTPUT_NANO
        )
        if tag := asked.get("tag"):
            self.tags[f"chatcmpl-{number}"] = tag
        if not asked.get("stream"):
            if pause_seconds:
                await asyncio.sleep(pause_seconds)
            choice = {"index": 0, "message": {"role": "assistant", "content": "words"}}
            body = json.dumps({**facts, "choices": [choice], "usage": usage}).encode()
            writer.write(CHAT_HEAD % len(body) + body)
            await writer.drain()
            return
        writer.write(STREAM_HEAD)
        delta = {"index": 0, "delta": {"content": "word "}}
        for _ in range(asked.get("events", 4)):
            self._send(writer, {**facts, "choices": [delta]})
            await writer.drain()
            if pause_seconds:
                await asyncio.sleep(pause_seconds)
            if fails == "part":
                raise ConnectionAbortedError
        self._send(writer, {**facts, "choices": [], "usage": usage})
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(DONE), DONE))
        await writer.drain()

    def _send(self, writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
        data = b"data: %b\n\n" % json.dumps(event).encode()
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
