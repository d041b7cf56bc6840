"""Names, addresses and TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme

from headgate.kit.http.client import HttpClient
from headgate.kit.http.dial import create_tls_context
from headgate.kit.http.errors import ConnectError, ConnectTimeoutError, DisconnectedError, TlsError
from headgate.kit.http.message import Origin, Request, Timeouts

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class NameTable:
    """A resolver with one answer, that remembers what it was asked and refuses nothing."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[Origin] = []

    async def resolve(self, origin: Origin, purpose: str) -> Sequence[str]:
        self.asked.append(origin)
        return self.addresses


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert(*names).configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    return context


async def answer(peer: Any) -> None:
    while True:
        await peer.take()
        await peer.give(OK)


async def fetch(client: HttpClient, origin: Origin, **timeouts: float) -> bytes:
    request = Request(origin, b"GET", b"/", [], b"", Timeouts(**timeouts))
    return await (await client.send(request)).read(100)


async def test_tls_with_a_known_authority_works_and_names_the_host(
    serve: Any, open_client: Any, authority: trustme.CA, ca_file: str
) -> None:
    names: list[str | None] = []
    tls = server_tls(authority, "api.test")

    def note_name(connection: object, name: str | None, context: object) -> None:
        names.append(name)

    tls.sni_callback = note_name  # pyright: ignore[reportAttributeAccessIssue]
    upstream = await serve(answer, tls=tls)
    book = NameTable("127.0.0.1")
    async with open_client(ca_file=ca_file, resolver=book) as client:
        for _ in range(2):
            assert await fetch(client, Origin("https", "api.test", upstream.port)) == b"ok"
        assert client.stats().connects == 1
    assert names == ["api.test"]
    assert book.asked == [Origin("https", "api.test", upstream.port)]


async def test_big_bodies_pass_through_tls(
    serve: Any, open_client: Any, authority: trustme.CA, ca_file: str
) -> None:
    body = bytes(8 << 20)

    async def echo(peer: Any) -> None:
        await peer.take()
        await peer.give(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
        await peer.give(body)
        await peer.wait_for_end()

    upstream = await serve(echo, tls=server_tls(authority, "127.0.0.1"))
    async with open_client(ca_file=ca_file) as client:
        response = await client.send(upstream.request(body))
        assert await response.read(len(body)) == body


async def test_certificate_of_another_host_is_refused(
    serve: Any, open_client: Any, authority: trustme.CA, ca_file: str
) -> None:
    upstream = await serve(answer, tls=server_tls(authority, "other.test"))
    async with open_client(ca_file=ca_file, resolver=NameTable("127.0.0.1")) as client:
        with pytest.raises(TlsError):
            await fetch(client, Origin("https", "api.test", upstream.port))
        assert client.stats().open == 0


async def test_unknown_authority_is_refused(
    serve: Any, open_client: Any, authority: trustme.CA
) -> None:
    upstream = await serve(answer, tls=server_tls(authority, "api.test"))
    async with open_client(resolver=NameTable("127.0.0.1")) as client:
        with pytest.raises(TlsError):
            await fetch(client, Origin("https", "api.test", upstream.port))


async def test_peer_without_tls_is_refused(serve: Any, client: HttpClient) -> None:
    async def script(peer: Any) -> None:
        await peer.give(b"HTTP/1.1 400 Plain\r\n\r\n")
        await peer.wait_for_end()

    upstream = await serve(script)
    with pytest.raises(TlsError):
        await fetch(client, Origin("https", "127.0.0.1", upstream.port))


def test_tls_verifies_and_is_recent() -> None:
    context = create_tls_context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


async def test_every_address_is_tried(serve: Any, open_client: Any) -> None:
    upstream = await serve(answer)
    async with open_client(resolver=NameTable("::1", "127.0.0.2", "127.0.0.1")) as client:
        assert await fetch(client, Origin("http", "api.test", upstream.port)) == b"ok"


async def test_address_that_does_not_answer_leaves_time_for_the_next(
    serve: Any, open_client: Any
) -> None:
    upstream = await serve(answer)
    with SilentListener("127.0.0.3", upstream.port):
        book = NameTable("127.0.0.3", "127.0.0.1")
        async with open_client(resolver=book) as client:
            origin = Origin("http", "api.test", upstream.port)
            assert await fetch(client, origin, connect_seconds=0.4) == b"ok"
        book.addresses = ("127.0.0.3",)
        async with open_client(resolver=book) as client:
            with pytest.raises(ConnectTimeoutError):
                await fetch(client, origin, connect_seconds=0.2)


class SilentListener:
    """A socket whose queue of connections is full, so that the next one hangs."""

    def __init__(self, address: str, port: int) -> None:
        self.listener = socket.create_server((address, port), backlog=0)
        self.fillers: list[socket.socket] = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((address, port))
            self.fillers.append(filler)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *details: object) -> None:
        for item in (self.listener, *self.fillers):
            item.close()


async def test_no_address_at_all_is_a_failed_connection(open_client: Any) -> None:
    async with open_client(resolver=NameTable()) as client:
        with pytest.raises(ConnectError):
            await fetch(client, Origin("http", "api.test", 80))


async def test_unknown_name_is_a_failed_connection(client: HttpClient) -> None:
    with pytest.raises(ConnectError, match="resolve"):
        await fetch(client, Origin("https", "nowhere.invalid", 443))


async def test_small_writes_are_not_delayed(serve: Any, client: HttpClient) -> None:
    upstream = await serve(answer)
    await fetch(client, upstream.origin)
    (connection,) = client._pool.connections  # pyright: ignore[reportPrivateUsage]
    transport = connection._transport  # pyright: ignore[reportPrivateUsage]
    handle = transport.get_extra_info("socket")
    assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "closed"])
async def test_body_without_length_is_whole_only_if_tls_says_that_it_ended(
    serve: Any, open_client: Any, authority: trustme.CA, ca_file: str, is_cut: bool
) -> None:
    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(b"HTTP/1.1 200 OK\r\n\r\nsome")
        if not is_cut:
            peer.writer.close()
            await peer.writer.wait_closed()

    upstream = await serve(script, tls=server_tls(authority, "127.0.0.1"))
    async with open_client(ca_file=ca_file) as client:
        response = await client.send(upstream.request())
        if is_cut:
            with pytest.raises(DisconnectedError):
                await response.read(100)
        else:
            assert await response.read(100) == b"some"
