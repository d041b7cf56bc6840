"""The address of the authorization server, as each request knows it."""

from __future__ import annotations

from headgate.oauth.model.challenge import build_resource, find_base_url
from headgate.oauth.model.request import check_resource


def test_a_host_in_capitals_is_the_same_server() -> None:
    urls = {
        find_base_url(None, [(b"host", host)], scheme="http")
        for host in (b"Gateway:4600", b"gateway:4600")
    }
    assert urls == {"http://gateway:4600"}
    (url,) = urls
    for resource in ("http://GATEWAY:4600/mcp", "http://gateway:4600/mcp/", url, None):
        assert check_resource(resource, url) == build_resource(url)
