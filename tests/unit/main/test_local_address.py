"""A server that listens on every address is named by one that leads to it."""

from __future__ import annotations

import pytest

from headgate import settings
from headgate.main.assets import find_own_url
from headgate.main.local_address import find_local_url
from headgate.main.payments import find_return_url


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "http://127.0.0.1:8100"),
        ({"host": "0.0.0.0"}, "http://127.0.0.1:8100"),
        ({"host": "::"}, "http://[::1]:8100"),
        ({"host": "fd00::2"}, "http://[fd00::2]:8100"),
        (
            {"host": "gate.example", "ssl_certfile": "c.pem", "ssl_keyfile": "k.pem"},
            "https://gate.example:8100",
        ),
    ],
)
def test_local_url_leads_to_the_server(given: dict[str, str], url: str) -> None:
    loaded = settings.load({}, port=8100, **given)
    assert find_local_url(loaded) == url
    assert find_own_url(loaded) == url, "assets are named by it"
    assert find_return_url(loaded) == url, "a payment page leads back to it"


def test_public_url_comes_first() -> None:
    loaded = settings.load({}, host="0.0.0.0", public_url="https://gate.example/")
    assert find_own_url(loaded) == "https://gate.example"
    assert find_return_url(loaded) == "https://gate.example/"
