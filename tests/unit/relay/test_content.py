"""Content that the gateway fetches itself: guarded, bounded, and no failure is an error."""

from __future__ import annotations

import asyncio

import pytest

from headgate.kit.http.errors import ConnectTimeoutError, ForbiddenAddressError
from headgate.kit.http.message import Origin, Request, Sink
from headgate.llm.pictures import PICTURE_HEAD_BYTES
from headgate.relay.content import (
    ADDRESSES_MAX,
    PURPOSE,
    Address,
    ContentFetcher,
    UnsafeOutboundUrlError,
)
from tests.fakes.pipeline import FakeClient, FakeResponse

PLACE = "messages.0.content.1.source.url"


class Content(FakeResponse):
    """Deliver a body at once, in two pieces."""

    def __init__(self, body: bytes) -> None:
        super().__init__(200, [], body)
        self._content = body

    def stream(self, sink: Sink) -> None:
        super().stream(sink)
        middle = len(self._content) // 2
        self.feed(self._content[:middle], self._content[middle:])
        if not self.aborted:
            self.end()


def fetch(
    client: FakeClient, *urls: str, is_picture: bool = True, held: list[int] | None = None
) -> dict[str, bytes]:
    addresses = [Address(url, PLACE, is_picture) for url in urls]
    hold = (held if held is not None else []).append
    return dict(asyncio.run(ContentFetcher(client).fetch_all(addresses, hold)))


def test_each_address_is_asked_once_through_its_own_egress_rule() -> None:
    client = FakeClient(Content(b"png"))
    url = "HTTPS://Images.Example:8443/a b|c.png?x=é#top"
    assert fetch(client, url, url) == {url: b"png"}
    (request,) = client.sent
    assert request.origin == Origin("https", "images.example", 8_443)
    assert request.target == b"/a%20b%7Cc.png?x=%C3%A9"
    assert (request.method, request.purpose) == (b"GET", PURPOSE)


def test_of_a_picture_only_the_beginning_is_read() -> None:
    response = Content(b"x" * (3 * PICTURE_HEAD_BYTES))
    found = fetch(FakeClient(response), "https://a.example/x.png")
    assert len(found["https://a.example/x.png"]) == PICTURE_HEAD_BYTES
    assert response.aborted


@pytest.mark.parametrize(
    "step",
    [
        FakeResponse(302, [(b"location", b"http://169.254.169.254/")], b""),
        FakeResponse(404, [], b"none"),
        ConnectTimeoutError("too slow"),
    ],
)
def test_content_that_cannot_be_read_is_unknown(step: FakeResponse | ConnectTimeoutError) -> None:
    client = FakeClient(step)
    assert fetch(client, "https://a.example/x.pdf", is_picture=False) == {}
    assert len(client.sent) == 1


def test_number_and_length_of_addresses_are_limited() -> None:
    async def answer(_request: Request) -> FakeResponse:
        return Content(b"x")

    client = FakeClient(answer)
    urls = [f"https://a.example/{number}" for number in range(ADDRESSES_MAX + 5)]
    assert len(fetch(client, *urls)) == len(client.sent) == ADDRESSES_MAX
    assert fetch(client, f"https://a.example/{'x' * 9_000}") == {}


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "gopher://a.example", "https://user:secret@a.example", "/x.png", ""],
)
def test_what_is_no_plain_address_is_refused(url: str) -> None:
    client = FakeClient(Content(b"x"))
    with pytest.raises(UnsafeOutboundUrlError) as refused:
        fetch(client, "https://a.example/x.png", url)
    assert refused.value.param == PLACE
    assert client.sent == []


def test_address_that_the_guard_forbids_is_refused() -> None:
    forbidden = ForbiddenAddressError("10.0.0.1 is no public address", ". Somebody can allow it.")
    client = FakeClient(forbidden)
    with pytest.raises(UnsafeOutboundUrlError, match=rf"{PLACE}: .* no public address\. Send the"):
        fetch(client, "https://a.example/x.png")
