"""The client's small parts: how an origin is written, what an error says of itself, what is put
together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from headgate.kit.http.client import HttpClient, Stats
from headgate.kit.http.connection import HeadLimits
from headgate.kit.http.errors import (
    ConnectCancelledError,
    ConnectError,
    DisconnectedError,
    ForbiddenAddressError,
    ResponseHeadTooLargeError,
    TotalTimeoutError,
)
from headgate.kit.http.message import Origin, Request, Timeouts
from headgate.kit.http.pool import PoolLimits
from tests.fakes.upstream_connection import OpenedTransport, RecordingTransport


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (Origin("https", "api.test", 443), "https://api.test:443"),
        (Origin("http", "10.0.0.1", 8080), "http://10.0.0.1:8080"),
        (Origin("https", "::1", 8443), "https://[::1]:8443"),
    ],
)
def test_origin_is_written_with_its_port_and_an_address_in_brackets(
    origin: Origin, text: str
) -> None:
    assert str(origin) == text


def test_disconnection_is_of_a_used_connection_only_where_it_is_said() -> None:
    assert (str(DisconnectedError("gone")), DisconnectedError("gone").reused) == ("gone", False)
    assert DisconnectedError("gone", reused=True).reused is True
    assert DisconnectedError("gone").sent is True
    assert ConnectError("refused").sent is False


class Names:
    """Every name is here, at one address."""

    def __init__(self) -> None:
        self.asked: list[Origin] = []

    async def resolve(self, origin: Origin, purpose: str) -> Sequence[str]:
        self.asked.append(origin)
        return ["127.0.0.1"]


HERE = Origin("http", "a.test", 80)


def ask(origin: Origin = HERE, **timeouts: float) -> Request:
    return Request(origin, b"GET", b"/x", [], b"", Timeouts(**timeouts))


@pytest.fixture
async def lines(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[Any, RecordingTransport]]:
    """The connections that the loop was asked for; none has a socket."""
    opened: list[tuple[Any, RecordingTransport]] = []

    async def connect(create: Any, **wishes: Any) -> tuple[object, Any]:
        connection = create()
        opened.append((connection, RecordingTransport(connection)))
        return OpenedTransport(), connection

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", connect)
    return opened


async def turn() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_call_writes_its_head_and_is_answered_and_its_connection_counted(
    lines: list[tuple[Any, RecordingTransport]],
) -> None:
    names = Names()
    client = HttpClient(resolver=names, head_limits=HeadLimits(bytes_max=60))
    call = asyncio.create_task(client.send(ask()))
    await turn()
    ((connection, transport),) = lines
    assert names.asked == [HERE]
    assert transport.written == [b"GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n"]
    assert client.stats() == Stats(open=1, idle=0, waiting=0, connects=1)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert await (await call).read(2) == b"ok"
    assert client.stats() == Stats(open=1, idle=1, waiting=0, connects=1)
    call = asyncio.create_task(client.send(ask()))
    await turn()
    assert len(lines) == 1
    connection.data_received(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 60)
    with pytest.raises(ResponseHeadTooLargeError, match="60 bytes"):
        await call
    await client.close()
    assert client.stats() == Stats(open=0, idle=0, waiting=0, connects=1)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_client_is_bound_by_the_limits_that_it_was_given(
    lines: list[tuple[Any, RecordingTransport]],
) -> None:
    limits = PoolLimits(connections_max=1)
    client = HttpClient(limits=limits, resolver=Names())
    calls = [asyncio.create_task(client.send(ask())) for _ in range(2)]
    await turn()
    assert client.stats() == Stats(open=1, idle=0, waiting=1, connects=1)
    calls[1].cancel("enough")
    with pytest.raises(ConnectCancelledError, match="enough"):
        await calls[1]
    calls[0].cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await calls[0]
    assert not isinstance(cancelled.value, ConnectCancelledError)
    assert lines[0][1].aborts == 1
    await client.close()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_total_deadline_is_kept_by_the_client_itself(
    lines: list[tuple[Any, RecordingTransport]],
) -> None:
    client = HttpClient(resolver=Names())
    with pytest.raises(TotalTimeoutError):
        await asyncio.wait_for(client.send(ask(total_seconds=0.05)), 10)
    assert lines[0][1].aborts == 1
    await client.close()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_client_without_rules_reaches_only_the_public_internet(
    lines: list[tuple[Any, RecordingTransport]],
) -> None:
    client = HttpClient()
    with pytest.raises(ForbiddenAddressError):
        await client.send(ask(Origin("https", "127.0.0.1", 443)))
    assert lines == []
    await client.close()
