"""An MCP server of either era whose every answer a test decides, on plain sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.upstream import FakeUpstream, ReceivedRequest

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
SEND: dict[str, Any] = {
    "name": "send",
    "description": "Send a message.",
    "inputSchema": {
        "type": "object",
        "properties": {"to": {"type": "string", "maxLength": 20}},
        "required": ["to"],
    },
}

CallTool = Callable[[dict[str, Any]], dict[str, Any]]


def say(text: str, **more: Any) -> dict[str, Any]:
    """Return a result of one block of text."""
    return {"content": [{"type": "text", "text": text}], **more}


@dataclass
class FakeMcpServer:
    """Answer JSON-RPC. `calls` are the arguments of tools, `methods` what was asked, in order."""

    upstream: FakeUpstream
    era: str = MODERN
    tools: list[dict[str, Any]] = field(default_factory=lambda: [SEND])
    page_size: int = 100
    call_tool: CallTool = field(default=lambda _given: say("sent"))
    token: str = ""
    """The bearer token that requests must have; empty for none."""
    streams: bool = False
    """Whether calls are answered as an event stream, after one event of progress."""
    progress_message: str = "half"
    intercept: Callable[[ReceivedRequest, dict[str, Any]], bool] = field(
        default=lambda _received, _message: False
    )
    """Answer a request in another way; return whether that was done."""
    methods: list[str] = field(default_factory=list[str])
    calls: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    ended_sessions: list[str] = field(default_factory=list[str])
    session_ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.upstream.port}/mcp"

    def answer(self, received: ReceivedRequest) -> None:
        if received.method == "DELETE":
            self.ended_sessions.append(received.headers["mcp-session-id"])
            self.session_ended.set()
            return received.answer(b"", status=204)
        if self.token and received.headers.get("authorization") != f"Bearer {self.token}":
            return received.answer(b'{"error": "unauthorized"}', status=401)
        message = received.json
        self.methods.append(message["method"])
        if self.intercept(received, message):
            return None
        if "id" not in message:
            return received.answer(b"", status=202)
        return self._respond(received, message)

    def _respond(self, received: ReceivedRequest, message: dict[str, Any]) -> None:
        method: str = message["method"]
        params: dict[str, Any] = message.get("params") or {}
        is_known = method != ("server/discover" if self.era == LEGACY else "initialize")
        handler = getattr(self, "_" + method.replace("/", "_"), None) if is_known else None
        if handler is None:
            error = {"code": -32601, "message": "Method not found"}
            return self._send(received, {"id": message["id"], "error": error}, 404)
        result = handler(params)
        if self.era == MODERN:
            result = {"resultType": "complete", **result}
        headers = {"mcp-session-id": "session-1"} if method == "initialize" else {}
        return self._send(received, {"id": message["id"], "result": result}, 200, headers)

    def _send(
        self,
        received: ReceivedRequest,
        reply: dict[str, Any],
        status: int,
        headers: dict[str, str] | None = None,
    ) -> None:
        data = json.dumps({"jsonrpc": "2.0", **reply}).encode()
        if self.streams and received.json["method"] == "tools/call" and status == 200:
            received.begin_stream()
            token = received.json["params"].get("_meta", {}).get("progressToken")
            if token is not None:
                progress = {"progressToken": token, "progress": 1, "total": 2}
                progress["message"] = self.progress_message
                note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
                received.send_chunk(f"data: {json.dumps(note)}\n\n".encode())
            received.send_chunk(b"data: " + data + b"\n\n")
            return received.send_end()
        return received.answer(data, status=status, headers=headers)

    def _server_discover(self, _params: dict[str, Any]) -> dict[str, Any]:
        identity = {"name": "fake", "version": "1.0"}
        return {
            "supportedVersions": [MODERN],
            "capabilities": {"tools": {}},
            "ttlMs": 0,
            "cacheScope": "private",
            "_meta": {"io.modelcontextprotocol/serverInfo": identity},
        }

    def _initialize(self, _params: dict[str, Any]) -> dict[str, Any]:
        identity = {"name": "fake", "version": "1.0"}
        return {"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": identity}

    def _tools_list(self, params: dict[str, Any]) -> dict[str, Any]:
        begin = int(params.get("cursor") or 0)
        end = begin + self.page_size
        page: dict[str, Any] = {"tools": self.tools[begin:end]}
        if end < len(self.tools):
            page["nextCursor"] = str(end)
        if self.era == MODERN:
            page.update(ttlMs=0, cacheScope="private")
        return page

    def _tools_call(self, params: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(params["arguments"])
        return self.call_tool(params["arguments"])


@contextmanager
def running_mcp_server(**given: Any) -> Generator[FakeMcpServer]:
    upstream = FakeUpstream()
    server = FakeMcpServer(upstream, **given)
    upstream.script = server.answer
    try:
        yield server
    finally:
        upstream.stop()
