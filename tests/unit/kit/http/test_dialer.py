"""What the dialer asks of the loop: which addresses, for how long, with which name and TLS."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import trustme

from headgate.kit.http import dial
from headgate.kit.http.connection import UpstreamConnection
from headgate.kit.http.dial import Dialer, create_tls_context
from headgate.kit.http.errors import ConnectError, PoolExhaustedError, TlsError
from headgate.kit.http.message import Origin
from tests.fakes.upstream_connection import OpenedTransport

TLS = create_tls_context(None)
SECURE = Origin("https", "api.test", 8443)
CLEAR = Origin("http", "api.test", 8080)


class NameTable:
    def __init__(self, *addresses: str, fault: Exception | None = None) -> None:
        self.addresses = addresses
        self.fault = fault
        self.asked: list[Origin] = []

    async def resolve(self, origin: Origin, purpose: str) -> Sequence[str]:
        self.asked.append(origin)
        if self.fault is not None:
            raise self.fault
        return self.addresses


class FakeNetwork:
    """Stands for the loop's `create_connection`: each address has its end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **ends: Exception) -> None:
        self.tried: list[dict[str, Any]] = []
        self._ends = ends
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "create_connection", self.connect)
        monkeypatch.setattr(loop, "time", lambda: 100.0)
        self.spans: list[float | None] = []
        monkeypatch.setattr(dial.asyncio, "timeout", self.limit)

    def limit(self, seconds: float | None) -> Any:
        self.spans.append(seconds)
        return self

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *details: object) -> None:
        pass

    async def connect(
        self, create: Callable[[], UpstreamConnection], **wishes: Any
    ) -> tuple[object, UpstreamConnection]:
        self.tried.append(wishes)
        end = self._ends.get(f"ip{wishes['host']}")
        if end is not None:
            raise end
        return OpenedTransport(), create()


def made() -> UpstreamConnection:
    return cast("UpstreamConnection", "the connection")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_plain_connection_goes_to_the_address_and_port_without_tls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book, road = NameTable("10.0.0.1"), FakeNetwork(monkeypatch)
    assert await Dialer(book, TLS).dial(CLEAR, made, deadline=108) == "the connection"
    assert book.asked == [CLEAR]
    assert road.tried == [{"host": "10.0.0.1", "port": 8080, "ssl": None, "server_hostname": None}]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_secure_connection_verifies_the_name_and_not_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    road = FakeNetwork(monkeypatch)
    await Dialer(NameTable("10.0.0.1"), TLS).dial(SECURE, made, deadline=108)
    assert road.tried == [
        {"host": "10.0.0.1", "port": 8443, "ssl": TLS, "server_hostname": "api.test"}
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_each_address_but_the_last_has_its_share_of_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = OSError("no route")
    road = FakeNetwork(monkeypatch, ip1=gone, ip2=TimeoutError(), ip3=gone)
    await Dialer(NameTable("1", "2", "3", "4"), TLS).dial(CLEAR, made, deadline=112)
    assert [wishes["host"] for wishes in road.tried] == ["1", "2", "3", "4"]
    assert road.spans == [3, 4, 6, None]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_last_failure_is_told_and_no_address_is_tried_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    last = OSError("refused")
    road = FakeNetwork(monkeypatch, ip1=OSError("no route"), ip2=last)
    with pytest.raises(ConnectError) as failed:
        await Dialer(NameTable("1", "2"), TLS).dial(CLEAR, made, deadline=112)
    assert str(failed.value) == "Cannot connect to http://api.test:8080: refused"
    assert failed.value.__cause__ is last
    assert len(road.tried) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_fault_of_tls_ends_the_search_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = ssl.SSLError("bad certificate")
    road = FakeNetwork(monkeypatch, ip1=fault)
    with pytest.raises(TlsError) as failed:
        await Dialer(NameTable("1", "2"), TLS).dial(SECURE, made, deadline=112)
    assert str(failed.value) == f"No TLS with https://api.test:8443: {fault}"
    assert failed.value.__cause__ is fault
    assert len(road.tried) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_name_that_cannot_be_resolved_is_told_and_nothing_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    road = FakeNetwork(monkeypatch)
    fault = OSError("no such name")
    with pytest.raises(ConnectError) as failed:
        await Dialer(NameTable(fault=fault), TLS).dial(SECURE, made, deadline=112)
    assert str(failed.value) == "Cannot resolve api.test: no such name"
    assert failed.value.__cause__ is fault
    with pytest.raises(ConnectError):
        await Dialer(NameTable(), TLS).dial(SECURE, made, deadline=112)
    assert road.tried == []


def test_tls_offers_http_1_1_alone_and_nothing_older_than_1_2(tmp_path: Path) -> None:
    authority = trustme.CA()
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    context = create_tls_context(str(path))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == len(create_tls_context(None).get_ca_certs()) + 1
    assert shake_hands(context, authority, ["h2", "http/1.1"]) == "http/1.1"
    assert shake_hands(context, authority, ["h2"]) is None


def shake_hands(context: ssl.SSLContext, authority: trustme.CA, offers: list[str]) -> str | None:
    """The protocol that a client of this context and a server with these offers agree on."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.set_alpn_protocols(offers)
    authority.issue_cert("a.test").configure_cert(serving)  # pyright: ignore[reportUnknownMemberType]
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(back, there, server_hostname="a.test")
    server = serving.wrap_bio(there, back, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in tuple(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    return client.selected_alpn_protocol()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EADDRNOTAVAIL])
async def test_socket_that_the_own_system_has_no_room_for_is_no_fault_of_the_origin(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    book, road = (
        NameTable("10.0.0.1"),
        FakeNetwork(monkeypatch, **{"ip10.0.0.1": OSError(number, "none left")}),
    )
    with pytest.raises(PoolExhaustedError):
        await Dialer(book, TLS).dial(CLEAR, made, deadline=110.0)
    assert len(road.tried) == 1
