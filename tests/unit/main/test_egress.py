"""Who may be reached for what: every exception holds for its own purpose."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Generator

import pytest

from headgate import settings
from headgate.accounts.service.issuer import IDENTITY
from headgate.kit.http import dial
from headgate.kit.http.dial import create_tls_context
from headgate.kit.http.errors import ConnectError, ForbiddenAddressError
from headgate.kit.http.guard import EgressRules
from headgate.kit.http.message import Origin, Request, Timeouts
from headgate.main import egress
from headgate.main.egress import build_rule, build_rules, open_client
from headgate.main.master_keys import KeyServiceSender
from headgate.relay.content import PURPOSE as CONTENT
from headgate.relay.ports import OPERATOR
from tests.fakes.gateway import find_port

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

TENANT, KEY_SERVICE = "", "key service"
PLACES = {
    "allowed": {TENANT, OPERATOR, IDENTITY, KEY_SERVICE},
    "base_url": {OPERATOR},
    "simulator": {OPERATOR},
    "oidc": {IDENTITY},
    "jwt": {IDENTITY},
    "jwks": {IDENTITY},
    "kms": {KEY_SERVICE},
    "other": set[str](),
}
"""Addresses of one machine, and the purposes for which each may be reached."""


@pytest.fixture(scope="module")
def places() -> Generator[dict[str, Origin]]:
    """Yield addresses where nobody listens; their ports are taken, so that nobody can."""
    with contextlib.ExitStack() as stack:
        taken = {name: stack.enter_context(socket.socket()) for name in PLACES}
        for each in taken.values():
            each.bind(("127.0.0.1", find_port()))
        yield {
            name: Origin("http", "127.0.0.1", each.getsockname()[1]) for name, each in taken.items()
        }


@pytest.fixture
def configured(places: dict[str, Origin]) -> settings.Settings:
    return settings.load(
        {
            "HEADGATE_EGRESS_ALLOW": str(places["allowed"]),
            "OPENAI_BASE_URL": f"{places['base_url']}/v1",
            "HEADGATE_OIDC_ISSUER": str(places["oidc"]),
            "HEADGATE_JWT_ISSUER": str(places["jwt"]),
            "HEADGATE_JWT_JWKS_URL": f"{places['jwks']}/keys",
        }
    )


async def send(given: settings.Settings, rules: EgressRules, request: Request) -> None:
    client = open_client(given, rules)
    try:
        await client.send(request)
    finally:
        await client.close()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("purpose", [TENANT, OPERATOR, IDENTITY, KEY_SERVICE, CONTENT])
async def test_address_is_reached_for_its_own_purpose_only(
    configured: settings.Settings, places: dict[str, Origin], purpose: str, place: str
) -> None:
    request = Request(places[place], b"GET", b"/", [], b"", Timeouts(), purpose=purpose)
    if purpose == KEY_SERVICE:
        sending = asyncio.to_thread(KeyServiceSender(configured, places["kms"]), request)
    else:
        sending = send(configured, build_rules(configured, places["simulator"]), request)
    with pytest.raises(ConnectError) as caught:
        await sending
    assert isinstance(caught.value, ForbiddenAddressError) is (purpose not in PLACES[place])


async def test_connection_that_was_opened_for_one_purpose_serves_no_other() -> None:
    asked, left = 0, asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            asked += 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        writer.close()
        left.set()

    place = Origin("http", "127.0.0.1", find_port())
    server = await asyncio.start_server(answer, place.host, place.port)
    given = settings.load({"OPENAI_BASE_URL": f"{place}/v1"})
    client = open_client(given, build_rules(given))
    request = Request(place, b"GET", b"/", [], b"", Timeouts(), purpose=OPERATOR)
    for _ in range(2):
        assert await (await client.send(request)).read(2) == b"ok"
    assert (client.stats().connects, client.stats().idle) == (1, 1)
    for other in (TENANT, IDENTITY, "unknown"):
        refused = Request(place, b"GET", b"/", [], b"", Timeouts(), purpose=other)
        with pytest.raises(ForbiddenAddressError):
            await client.send(refused)
    assert asked == 2
    await client.close()
    await left.wait()
    server.close()
    await server.wait_closed()


def test_allow_list_is_everybodys(anyio_backend: str) -> None:
    given = settings.load({"HEADGATE_EGRESS_ALLOW": "http://127.0.0.1:11434, 10.1.0.0/16"})
    rules = build_rules(given)
    assert {rules.find(each) for each in (TENANT, OPERATOR, IDENTITY)} == {build_rule(given)}


async def test_authorities_are_read_once_for_all_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str | None] = []

    def create(ca_file: str | None) -> ssl.SSLContext:
        read.append(ca_file)
        return create_tls_context(ca_file)

    monkeypatch.setattr(dial, "create_tls_context", create)
    dial.share_tls_context.cache_clear()
    loaded = settings.load({})
    egress.check_authorities(loaded)
    for _ in range(2):
        client = open_client(loaded, build_rules(loaded))
        await client.close()
    assert read == [None]
