from __future__ import annotations

import pytest

from headgate.kit.http.message import Origin
from headgate.kit.http.url import parse_url


@pytest.mark.parametrize(
    ("text", "origin", "target"),
    [
        ("https://a.example", Origin("https", "a.example", 443), b"/"),
        ("https://A.example/", Origin("https", "a.example", 443), b"/"),
        ("http://127.0.0.1:8080/x/y?z=1", Origin("http", "127.0.0.1", 8080), b"/x/y?z=1"),
        ("https://[::1]:1/x", Origin("https", "::1", 1), b"/x"),
    ],
)
def test_address_is_origin_and_target(text: str, origin: Origin, target: bytes) -> None:
    assert parse_url(text) == (origin, target)


@pytest.mark.parametrize(
    "text",
    [
        *("", "a.example", "ftp://a.example", "https:/a", "https://", "HTTPS://a.example"),
        *("https://user@a.example", "https://a.example:99999/", "https://a.example:x"),
        *("https://a.example/#x", "https://a.example/ x", "https://a.example\\@b.example"),
        *("https://a.example?x", "https://ä.example", "https://a.example/\r\nx", "https://a" * 999),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"it is|it does|[Pp]ort"):
        parse_url(text)
