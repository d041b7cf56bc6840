"""Where the egress client connects, and where it does not: nothing reaches a canary."""

from __future__ import annotations

import asyncio
import itertools
import threading
import urllib.parse
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.credentials.model import integration
from headgate.credentials.service import run_credential_test
from headgate.kit.http.client import HttpClient
from headgate.kit.http.errors import ConnectError, EgressError, ForbiddenAddressError
from headgate.kit.http.guard import EgressRule, Guard, find_host_fault, parse_rule
from headgate.kit.http.lookup import SystemLookup
from headgate.kit.http.message import Origin, Request, Timeouts
from headgate.relay.ports import Credential
from headgate.vault.model.base_url import InvalidCredentialError, parse_base_url
from tests.fakes.canary_listener import CanaryListener, running_canary_listener
from tests.fakes.places import NAMES, ODD_HOSTS, ODD_URLS, PRIVATE_V4, PRIVATE_V6

NOTHING_ALLOWED = EgressRule()
SECRET = b"sk-canary-0123456789abcdef"
TIMEOUTS = Timeouts(connect_seconds=2, first_byte_seconds=2, idle_seconds=2, total_seconds=4)
URLS = [
    *ODD_URLS,
    *(f"https://{host}:{{port}}/v1" for host in [*PRIVATE_V4, *ODD_HOSTS, *NAMES]),
    *(f"https://[{host}]:{{port}}/v1" for host in PRIVATE_V6),
]


class Names:
    """A name server with fixed answers; what it does not know, it says to be here."""

    async def find(self, host: str) -> Sequence[str]:
        return NAMES.get(host, ["127.0.0.1"])


class Call:
    """The call by which a credential is tried."""

    method = "POST"
    path = "/x"
    status_codes: Sequence[int] = (200,)
    response_fields: Sequence[str] = ()
    body: Mapping[str, Any] = {"a": 1}
    cost_level = "minimal"


CALL: integration.CredentialTestCall = Call()


def make_credential(origin: Origin) -> Credential:
    headers = [(b"authorization", b"Bearer " + SECRET)]
    return Credential("cred_1", "n", "openai", False, origin, b"/v1", headers, SECRET)


@pytest.fixture(scope="module")
def canary() -> Generator[CanaryListener]:
    with running_canary_listener() as running:
        yield running


async def send(client: HttpClient, origin: Origin) -> int:
    headers = [(b"authorization", b"Bearer " + SECRET)]
    response = await client.send(Request(origin, b"GET", b"/v1/x", headers, b"", TIMEOUTS))
    await response.read(1000)
    return response.status


def split(url: str) -> list[Origin]:
    """The origins that somebody might read in an address, be it as bad as it may."""
    scheme, _, rest = url.partition("://")
    authority = rest.partition("/")[0]
    origins: list[Origin] = []
    for text in (authority, authority.rpartition("@")[2], authority.partition("@")[0]):
        host, _, port = text.rpartition(":")
        number = int(port) if port.isascii() and port.isdigit() else 443
        origins += [Origin(scheme.lower(), each, number) for each in (host, host.strip("[]"))]
    try:
        parts = urllib.parse.urlsplit(url)
        origins.append(Origin(parts.scheme, parts.hostname or "", parts.port or 443))
    except ValueError:
        pass
    return list(dict.fromkeys(origins))


async def knock(client: HttpClient, origin: Origin) -> None:
    """Try an origin by the client and by the trial of a credential; neither may come through."""
    with pytest.raises((ForbiddenAddressError, ValueError)):
        await send(client, origin)
    try:
        result = await run_credential_test(client, make_credential(origin), CALL)
    except ValueError:
        return
    assert not result.is_valid
    assert result.status == 0


def is_elsewhere(origin: Origin) -> bool:
    """Part of a bad address may be a good one, of somebody else."""
    return origin.scheme == "https" and origin.host.endswith("openai.com") and origin.port == 443


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_no_spelling_of_a_local_address_is_connected_to(canary: CanaryListener) -> None:
    urls = [url.format(port=canary.port) if "{port}" in url else url for url in URLS]
    assert len(urls) > 250
    client = HttpClient(resolver=Guard(NOTHING_ALLOWED, Names()))
    before = len(canary.heard)
    for url in urls:
        origins = [origin for origin in split(url) if not is_elsewhere(origin)]
        for origin in origins:
            await knock(client, origin)
            await knock(client, Origin("http", origin.host, origin.port))
    await client.close()
    assert canary.heard[before:] == []


@pytest.mark.parametrize("url", URLS)
def test_address_is_refused_where_it_is_given_or_when_it_is_called(url: str) -> None:
    try:
        origin, _ = parse_base_url(url.format(port=8080) if "{port}" in url else url)
        NOTHING_ALLOWED.check(origin)
    except (InvalidCredentialError, ForbiddenAddressError):
        return
    with pytest.raises(ForbiddenAddressError):
        asyncio.run(Guard(NOTHING_ALLOWED, Names()).resolve(origin))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("entry", "host", "scheme"),
    [
        ("127.0.0.0/8", "127.0.0.1", "http"),
        ("127.0.0.0/8", "127.9.9.9", "http"),
        ("127.0.0.0/8", "::ffff:127.0.0.1", "http"),
        ("127.0.0.0/8", "private.example", "http"),
        ("http://127.0.0.1:{port}", "127.0.0.1", "http"),
        ("http://private.example:{port}/", "private.example", "http"),
    ],
)
async def test_what_the_operator_allows_is_reached(
    canary: CanaryListener, entry: str, host: str, scheme: str
) -> None:
    class OnlyLocal:
        async def find(self, host: str) -> Sequence[str]:
            return ["127.0.0.1"]

    rule = parse_rule([entry.format(port=canary.port)])
    client = HttpClient(resolver=Guard(rule, OnlyLocal()))
    before = len(canary.heard)
    assert await send(client, Origin(scheme, host, canary.port)) == 200
    await client.close()
    assert SECRET in canary.heard[before][1]


@pytest.mark.parametrize(
    "origin",
    [
        Origin("https", "127.0.0.1", 11434),
        Origin("http", "127.0.0.1", 11435),
        Origin("http", "127.0.0.2", 11434),
        Origin("http", "localhost", 11434),
        Origin("http", "10.1.0.1", 6379),
        Origin("http", "10.2.0.1", 80),
    ],
)
def test_allowed_origin_allows_no_other(origin: Origin) -> None:
    rule = parse_rule(["http://127.0.0.1:11434", "10.1.0.0/16"])
    rule.check(Origin("http", "127.0.0.1", 11434))
    rule.check(Origin("http", "10.1.0.1", 80))
    with pytest.raises(ForbiddenAddressError):
        asyncio.run(Guard(rule, Names()).resolve(origin))


def test_refusal_says_what_would_allow_it() -> None:
    with pytest.raises(
        ForbiddenAddressError, match=r"HEADGATE_EGRESS_ALLOW=http://127\.0\.0\.1:11434$"
    ):
        NOTHING_ALLOWED.check(Origin("http", "127.0.0.1", 11434))
    with pytest.raises(ForbiddenAddressError, match=r"HEADGATE_EGRESS_ALLOW=http://models\.corp$"):
        NOTHING_ALLOWED.check(Origin("http", "models.corp", 80))


@pytest.mark.parametrize(
    "entry",
    [
        *("127.0.0.1:11434", "localhost", "10.1.0.1/16", "10.0.0.0/33", "ftp://a", "http://", ""),
        *("http://a/b", "http://u@a", "http://a?x", "http://127.1", "http://a:0", "http://a:70000"),
        *("http://a:x", "http://[::1", "http://[::1%25lo]", "http://a..b", "https://*.corp"),
    ],
)
def test_invalid_entry_is_named_in_the_error(entry: str) -> None:
    with pytest.raises(ValueError, match="is n") as refused:
        parse_rule([entry])
    assert repr(entry) in str(refused.value)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_name_that_changes_its_address_with_every_question_never_leads_inside(
    canary: CanaryListener,
) -> None:
    """127.0.0.9 stands for a public address; all others of this machine stay forbidden."""
    flips = 1_000
    rule = parse_rule(["127.0.0.9/32"])
    answers = itertools.cycle([["127.0.0.9"], ["127.0.0.1"], ["127.0.0.9", "::1"], ["::1"]])
    asked = 0

    class Rebinder:
        async def find(self, host: str) -> Sequence[str]:
            nonlocal asked
            asked += 1
            return next(answers)

    client = HttpClient(resolver=Guard(rule, Rebinder()))
    before = len(canary.heard)
    refused = 0
    for _ in range(flips):
        try:
            await send(client, Origin("http", "rebinder.test", canary.port))
        except ForbiddenAddressError:
            refused += 1
    await client.close()
    heard = [address for address, _ in canary.heard[before:]]
    assert set(heard) == {"127.0.0.9"}
    assert (asked, refused, len(heard)) == (flips, flips * 3 // 4, flips // 4)


@given(st.text(max_size=40) | st.from_regex(r"[0-9a-fx.:%\[\]@-]{1,30}", fullmatch=True))
def test_host_is_never_read_in_two_ways(host: str) -> None:
    """What passes is a plain name, or an address that is written in its strict form."""
    if find_host_fault(host) is not None:
        return
    written = f"[{host}]" if ":" in host else host
    assert urllib.parse.urlsplit(f"https://{written}/").hostname == host.lower()
    assert not set(host) & set("/\\@?#%[] \r\n\t\0")
    assert host.isascii()
    assert host == host.lower() or ":" in host
    if host.rpartition(".")[2].isdigit() and ":" not in host:
        assert [str(int(part)) for part in host.split(".")] == host.split(".")


@pytest.mark.anyio
async def test_callers_who_ask_for_a_name_together_share_one_question(anyio_backend: Any) -> None:
    asked: list[str] = []
    held = threading.Event()

    def ask(host: str) -> list[str]:
        asked.append(host)
        assert held.wait(10)
        return ["8.8.8.8"]

    lookup = SystemLookup(ask=ask)
    waiting = [asyncio.create_task(lookup.find("a.test")) for _ in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    held.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [["8.8.8.8"]] * 49
    assert asked == ["a.test"]
    assert await lookup.find("a.test") == ["8.8.8.8"]
    assert asked == ["a.test"] * 2, "nothing is remembered"


@pytest.mark.anyio
async def test_silent_name_server_holds_up_neither_the_call_nor_more_than_its_share(
    anyio_backend: Any,
) -> None:
    held = threading.Event()

    def ask(host: str) -> list[str]:
        assert held.wait(10)
        return ["8.8.8.8"]

    client = HttpClient(resolver=Guard(None, SystemLookup(lookups_max=2, ask=ask)))
    request = Request(
        Origin("https", "a.test", 443), b"GET", b"/", [], b"", Timeouts(connect_seconds=0.05)
    )
    for name in ("a.test", "b.test"):
        with pytest.raises(ConnectError):
            await client.send(Request(Origin("https", name, 443), *request_rest(request)))
    with pytest.raises(ConnectError, match="2 names"):
        await client.send(Request(Origin("https", "c.test", 443), *request_rest(request)))
    held.set()
    await client.close()


def request_rest(request: Request) -> tuple[Any, ...]:
    return (request.method, request.target, request.headers, request.body, request.timeouts)


@pytest.mark.anyio
async def test_name_that_does_not_exist_is_told(anyio_backend: Any) -> None:
    def ask(host: str) -> list[str]:
        raise OSError("Name or service not known")

    with pytest.raises(EgressError, match=r"resolve a\.test"):
        await Guard(None, SystemLookup(ask=ask)).resolve(Origin("https", "a.test", 443))
