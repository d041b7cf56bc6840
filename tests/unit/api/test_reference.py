"""The API reference at /docs, and that nothing of it comes from another host."""

from __future__ import annotations

import re

import pytest

from headgate.api.reference import FOLDER, MEDIA_TYPES, PAGE
from tests.fakes.api import NOBODY, Answer, Api


def read(api: Api, path: str, method: str = "GET", **headers: str) -> Answer:
    """What somebody without a login gets."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.request(method, path, key=NOBODY, organization="", headers=named)


def list_references(page: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]+)"', page)


def test_page_is_served_without_a_login(api: Api) -> None:
    answer = read(api, "/docs")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_reference_of_the_page_is_local_and_served(api: Api) -> None:
    references = [each for each in list_references(read(api, "/docs").text) if each != "data:,"]
    assert "docs/swagger-ui-bundle.js" in references
    assert "docs/initializer.js" in references
    for reference in references:
        assert not re.match(r"[a-z]+:|/", reference)
        assert read(api, f"/{reference}").status == 200


def test_initializer_shows_the_document_of_this_server(api: Api) -> None:
    [url] = re.findall(r'url: "([^"]+)"', read(api, "/docs/initializer.js").text)
    assert read(api, f"/{url}").json["openapi"] == "3.1.0"


def test_style_sheet_loads_nothing() -> None:
    style = (FOLDER / "swagger-ui.css").read_text()
    addresses = re.findall(r"url\(\s*[\"']?([^)\"']{0,20})", style)
    assert "@import" not in style
    assert all(address.startswith(("data:", "#")) for address in addresses), addresses


def test_policy_allows_no_inline_script_and_no_other_host(api: Api) -> None:
    page = read(api, "/docs")
    policy = page.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "connect-src 'self'" in policy
    assert not re.search(r"unsafe|https?:|\*", " ".join(policy))
    assert not re.search(r"<script>|<style|style=|\son\w+=", page.text)


@pytest.mark.parametrize("name", sorted(MEDIA_TYPES))
def test_file_has_its_content_type_and_is_sent_once(api: Api, name: str) -> None:
    path = "/docs" if name == PAGE else f"/docs/{name}"
    answer, head = read(api, path), read(api, path, "HEAD")
    assert answer.headers["content-type"] == f"{MEDIA_TYPES[name]}; charset=utf-8"
    assert (head.status, head.text) == (200, "")
    assert head.headers["content-length"] == str(len(answer.text.encode()))
    again = read(api, path, if_none_match=answer.headers["etag"])
    assert (again.status, again.text) == (304, "")
    assert again.headers["content-security-policy"] == answer.headers["content-security-policy"]


@pytest.mark.parametrize("field", ["W/{etag}", '"another", {etag}', 'W/"another",W/{etag}'])
def test_file_is_sent_once_through_a_proxy_that_compresses_it(api: Api, field: str) -> None:
    etag = read(api, "/docs").headers["etag"]
    assert read(api, "/docs", if_none_match=field.format(etag=etag)).status == 304
    assert read(api, "/docs", if_none_match=field.format(etag='"other"')).status == 200


@pytest.mark.parametrize("path", ["/docs/", "/docs/LICENSE", "/docs/../app.py", "/docs/index.html"])
def test_other_addresses_below_docs_are_not_found(api: Api, path: str) -> None:
    assert read(api, path).status == 404


def test_license_is_kept_beside_the_viewer() -> None:
    assert "Apache License" in (FOLDER / "LICENSE").read_text()
    assert "SmartBear" in (FOLDER / "NOTICE").read_text()


def test_page_takes_no_other_method(api: Api) -> None:
    answer = read(api, "/docs", "POST")
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
