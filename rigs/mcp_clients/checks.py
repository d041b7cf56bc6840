"""What each client must do: connect with a key, or by clicking, and see the tools."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from rigs.mcp_clients.programs import CLAUDE, Programs
from tests.fakes.consent import Owner, agree
from tests.fakes.gateway import Gateway

TOOL = "openai_chat_completion"
NAME = "headgate"
ANSWER_SECONDS = 45.0
OUT_OF_REACH = "Cannot resolve"
_LOGIN = re.compile(r"https?://\S+/oauth/authorize\S+")
INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "rig", "version": "1"},
    },
}


@dataclass(frozen=True)
class Visit:
    """Hold the server that is visited, and its owner, who agrees."""

    gateway: Gateway
    owner: Owner

    @property
    def url(self) -> str:
        return f"{self.gateway.url}/mcp"

    def click(self, text: str) -> None:
        """Open the address of the login that a client wrote, agree, and go back to the client."""
        found = _LOGIN.search(text)
        assert found is not None, f"it names no address to log in: {text[-1_000:]}"
        landed = agree(found[0], email=self.owner.email, password=self.owner.password)
        assert httpx2.get(landed, timeout=ANSWER_SECONDS).status_code < 400, landed


def check_inspector(visit: Visit, home: Path) -> None:
    programs = Programs(home)
    command = ("mcp-inspector", "--cli", visit.url, "--transport", "http")
    key = ("--header", f"Authorization: Bearer {visit.gateway.key}")
    assert TOOL in programs.run(*command, "--method", "tools/list", *key)


def check_claude_code(visit: Visit, home: Path) -> None:
    programs = Programs(home)
    claude = str(programs.modules / CLAUDE)
    key = ("--header", f"Authorization: Bearer {visit.gateway.key}")
    programs.run(claude, "mcp", "add", "--transport", "http", NAME, visit.url, *key)
    listed = programs.run(claude, "mcp", "list")
    assert re.search(rf"{NAME}: .*Connected", listed), listed


def check_claude_code_login(visit: Visit, home: Path) -> None:
    """The login itself wants a terminal; here it is seen that the client understands the way."""
    programs = Programs(home)
    claude = str(programs.modules / CLAUDE)
    programs.run(claude, "mcp", "add", "--transport", "http", NAME, visit.url)
    listed = programs.run(claude, "mcp", "list")
    assert re.search(rf"{NAME}: .*Needs authentication", listed), listed


def check_codex(visit: Visit, home: Path) -> None:
    programs = Programs(home)
    command = ("codex", "mcp", "add", NAME, "--url", visit.url)
    programs.run(*command, "--bearer-token-env-var", "HEADGATE_API_KEY")
    assert TOOL in ask_codex(programs, HEADGATE_API_KEY=visit.gateway.key)


def check_codex_login(visit: Visit, home: Path) -> None:
    """Codex names the address of its description, which the server fetches from chatgpt.com."""
    programs = Programs(home)
    adding = programs.start("codex", "mcp", "add", NAME, "--url", visit.url)
    try:
        visit.click(read_until(adding, "/oauth/authorize"))
        adding.wait(ANSWER_SECONDS)
    finally:
        adding.kill()
        adding.wait()
    assert TOOL in ask_codex(programs)


def check_mcp_remote(visit: Visit, home: Path) -> None:
    programs = Programs(home)
    remote = programs.start("mcp-remote", visit.url)
    try:
        visit.click(read_until(remote, "/oauth/authorize"))
        write(remote, INITIALIZE)
        read_until(remote, '"protocolVersion"')
        write(remote, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        write(remote, {"jsonrpc": "2.0", "id": 2, "method": "tools/list"})
        assert TOOL in read_until(remote, '"inputSchema"')
    finally:
        remote.kill()
        remote.wait()


def ask_codex(programs: Programs, **variables: str) -> str:
    """Return what Codex's own server tells of the MCP servers that it has connected to."""
    server = programs.start("codex", "app-server", **variables)
    try:
        hello = {"clientInfo": {"name": "rig", "version": "1"}}
        write(server, {"id": 0, "method": "initialize", "params": hello})
        read_until(server, '"id":0')
        write(server, {"method": "initialized"})
        write(server, {"id": 1, "method": "mcpServerStatus/list", "params": {}})
        return read_until(server, '"id":1')
    finally:
        server.kill()
        server.wait()


def write(process: subprocess.Popen[str], message: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def read_until(process: subprocess.Popen[str], mark: str) -> str:
    """Return what a program writes up to the line with a mark."""
    lines: list[str] = []
    deadline = threading.Timer(ANSWER_SECONDS, process.kill)
    deadline.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if mark in line:
                return "".join(lines)
    finally:
        deadline.cancel()
    raise AssertionError(f"it ended without {mark}: {''.join(lines)[-2_000:]}")


CHECKS: Mapping[str, Callable[[Visit, Path], None]] = {
    "inspector, with a key": check_inspector,
    "Claude Code, with a key": check_claude_code,
    "Claude Code, finds the login": check_claude_code_login,
    "Codex, with a key": check_codex,
    "Codex, by clicking": check_codex_login,
    "mcp-remote, by clicking": check_mcp_remote,
}
