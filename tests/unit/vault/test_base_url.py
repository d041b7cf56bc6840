"""Which addresses a secret may be bound to."""

from __future__ import annotations

import pytest

from headgate.kit.http.message import Origin
from headgate.vault.model.base_url import (
    BASE_URL_CHARACTERS_MAX,
    InvalidCredentialError,
    parse_base_url,
)


@pytest.mark.parametrize(
    ("text", "origin", "path"),
    [
        ("https://host", Origin("https", "host", 443), b""),
        ("http://host/", Origin("http", "host", 80), b""),
        ("HTTP://Host:8080/V1/", Origin("http", "host", 8080), b"/V1"),
        ("https://a_b.c-d.example/a/b.c", Origin("https", "a_b.c-d.example", 443), b"/a/b.c"),
        ("http://127.0.0.1:9/v1", Origin("http", "127.0.0.1", 9), b"/v1"),
        ("https://[2001:DB8::1]:8443/", Origin("https", "2001:db8::1", 8443), b""),
        ("https://host/%41~!$&'()*+,;=:-_", Origin("https", "host", 443), b"/%41~!$&'()*+,;=:-_"),
    ],
)
def test_address_is_read_as_origin_and_path(text: str, origin: Origin, path: bytes) -> None:
    assert parse_base_url(text) == (origin, path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host/v1",
        "//host/v1",
        "https://",
        "https://.",
        "https://a..b",
        "https://.a",
        "https://a.",
        "https://" + "a" * 64 + ".example",
        "https://" + "a." * 127 + "example",
        "https://host/" + "a" * BASE_URL_CHARACTERS_MAX,
        "https://[v1.x]/",
        "https://[host]/",
        "https://[::1%25eth0]/",
        "https://host:/",
        "https://host:080/",
        "https://host:-1/",
        "https://@host/",
        "https://host?",
        "https://host/v1\\x",
        "https://host/v1\n",
        " https://host/v1",
        "https://host/./v1",
        "https://host/%2E/v1",
        "https://host/v1/%2e.",
        "https://host/%2f../v1",
    ],
)
def test_address_that_could_be_read_in_two_ways_or_leads_nowhere_is_refused(text: str) -> None:
    with pytest.raises(InvalidCredentialError, match="without user, query or fragment") as caught:
        parse_base_url(text)
    assert caught.value.param == "base_url"


def test_longest_address_that_is_taken() -> None:
    name = ".".join(["a" * 63] * 3 + ["b" * 61])
    text = f"https://{name}/" + "c" * (BASE_URL_CHARACTERS_MAX - len(name) - 9)
    assert len(text) == BASE_URL_CHARACTERS_MAX
    assert parse_base_url(text)[0].host == name
