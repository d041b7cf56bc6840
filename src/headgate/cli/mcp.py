"""`headgate mcp`: connect a desktop client to a running server."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Annotated

import typer

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.client import HttpClient
from headgate.kit.http.guard import EgressRule, Guard
from headgate.kit.http.url import parse_url
from headgate.mcp.stdio import BridgeAddressError, StdioBridge
from headgate.oauth.model.challenge import MCP_PATH
from headgate.settings import API_KEY_VARIABLE, URL_OF_SERVER_VARIABLE

DEFAULT_URL = "http://127.0.0.1:4600"
LINE_BYTES_MAX = 16 * 1024 * 1024

app = typer.Typer(add_completion=False)


class KeyMissingError(HeadgateError):
    """The environment has no API key for the server.

    Set HEADGATE_API_KEY to an inference key; `headgate keys create` makes one.
    """

    kind = Kind.INVALID
    code = "api_key_missing"


@app.command()
def mcp(
    *,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Speak MCP over standard input and output.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(help=f"Address of the server (HEADGATE_URL, else {DEFAULT_URL})."),
    ] = None,
) -> None:
    """Connect a client that starts programs to a running server, with the key HEADGATE_API_KEY.
    Clients that speak HTTP connect to /mcp of the server itself."""
    if not stdio:
        raise typer.BadParameter("Add --stdio; over HTTP, `headgate serve` answers at /mcp.")
    address = url or os.environ.get(URL_OF_SERVER_VARIABLE) or DEFAULT_URL
    key = os.environ.get(API_KEY_VARIABLE, "")
    if not key:
        raise KeyMissingError(
            f"Set {API_KEY_VARIABLE} to an inference key; `headgate keys create` makes one."
        )
    asyncio.run(bridge(address, key))


async def bridge(address: str, key: str) -> None:
    """Pass messages on until standard input ends. Raise `BridgeAddressError`."""
    try:
        origin, path = parse_url(address)
    except ValueError as error:
        raise BridgeAddressError(f"{address!r} is no address of a server: {error}.") from error
    target = path.rstrip(b"/")
    if not target.endswith(MCP_PATH.encode()):
        target += MCP_PATH.encode()
    # The address is the user's own, wherever it is.
    client = HttpClient(resolver=Guard(EgressRule(origins=frozenset({origin}))))
    try:
        await StdioBridge(client, origin, target, key, write_line).run(read_lines())
    finally:
        await client.close()


def write_line(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


async def read_lines() -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await read_line(reader):
        yield line


async def read_line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line. In place of one that is too long there is a piece that is no JSON, so
    that it is answered with an error, and the lines after it count."""
    try:
        return await reader.readline()
    except ValueError:
        return b"..."
