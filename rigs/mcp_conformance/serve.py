"""`headgate serve`, whose MCP server has the tools of the fixture instead of Headgate's own.

Everything in front of it is Headgate's: the edge with its checks of hosts, the check of origins,
the authentication of every request, and the session manager. The official tests send no key, so
one is added to what comes without.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

from headgate.cli.program import main
from headgate.main import mcp as composition
from headgate.mcp import protocol
from headgate.mcp.endpoint import McpEndpoint, Scope, Send
from headgate.mcp.message import Receive
from rigs.mcp_conformance.fixture import build_server


class KeyedEndpoint(McpEndpoint):
    """Answer as the endpoint does, with the first key of the data directory where there is none."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = list(scope["headers"])
        if not any(name == b"authorization" for name, _ in headers):
            headers.append((b"authorization", b"Bearer " + find_key()))
        await super().__call__({**scope, "headers": headers}, receive, send)


@functools.cache
def find_key() -> bytes:
    folder = Path(sys.argv[sys.argv.index("--data") + 1])
    return json.loads((folder / "first-keys.json").read_text())["inference_key"].encode()


def build_fixture(*_own: Any) -> Any:
    return build_server()


if __name__ == "__main__":
    protocol.build_server = build_fixture
    composition.McpEndpoint = KeyedEndpoint
    main()
