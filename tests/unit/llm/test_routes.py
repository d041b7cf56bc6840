from __future__ import annotations

import pytest

from headgate.llm.endpoint import Endpoint
from headgate.llm.providers.openai import PROVIDER
from headgate.llm.routes import InvalidPathError, MethodNotAllowedError, RouteTable, UnknownUrlError
from headgate.llm.wire import opaque


def row(name: str, path: str, *methods: str) -> Endpoint:
    return Endpoint(name, methods or ("GET",), path, opaque.METER)


ROUTES = RouteTable(
    (
        row("list", "/things"),
        row("make", "/things", "POST"),
        row("one", "/things/{id}", "GET", "DELETE"),
        row("special", "/things/special", "POST"),
        row("part", "/things/{id}/parts/{part}"),
        row("deep", "/deep/{rest}", "*"),
        row("other", "/{rest}", "*"),
    )
)


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/things", "list"),
        ("POST", "/things", "make"),
        ("DELETE", "/things/a%3Ab", "one"),
        ("POST", "/things/special", "special"),
        ("GET", "/things/special/parts/1", "part"),
        ("GET", "/things/7/parts/1", "part"),
        ("PUT", "/deep/a/b/c", "deep"),
        ("PATCH", "/things/7/unknown", "other"),
        ("GET", "/things/7/parts/1/2", "other"),
        ("PATCH", "/unknown", "other"),
        ("HEAD", "/things", "other"),
        ("OPTIONS", "/things/7", "other"),
        ("PURGE", "/things/7", "other"),
        ("HEAD", "/deep/x", "deep"),
    ],
)
def test_most_literal_row_is_found(method: str, path: str, name: str) -> None:
    assert ROUTES.match(method, path).name == name


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/things", ("GET", "POST")),
        ("POST", "/things/7", ("DELETE", "GET")),
        ("GET", "/things/special", ("POST",)),
    ],
)
def test_wrong_method_of_a_known_path_lists_the_allowed_ones(
    method: str, path: str, allowed: tuple[str, ...]
) -> None:
    with pytest.raises(MethodNotAllowedError) as caught:
        ROUTES.match(method, path)
    assert caught.value.allowed == allowed


def test_open_table_asks_the_provider_where_nothing_costs_and_nowhere_else() -> None:
    table = RouteTable(PROVIDER.endpoints, is_open=True)
    for method in ("PUT", "PATCH", "DELETE"):
        assert table.match(method, "/models").name == "other"
        for path in ("/chat/completions", "/responses", "/embeddings"):
            with pytest.raises(MethodNotAllowedError):
                table.match(method, path)


@pytest.mark.parametrize(
    "path",
    ["", "/", "things", "/things/", "//things", "/x//y", "/x/../things", "/x/./y", "/x/..",
     "/x/%2e", "/x%2fy", "/x%5Cy", "/x\\y", "/%74hings", "/Things", "/x%252e", "/x%", "/x%zz",
     "/x%00", "/x y", "/x?y", "/x#y", "/x\x7f", "/Deep/x", "/..;/y", "/x/..;a=b/y", "/x/.;/y",
     "/x/..%3b/y", "/;/y", "/x/;", "/%20"],
)  # fmt: skip
def test_path_that_could_be_read_as_another_row_is_refused(path: str) -> None:
    with pytest.raises(InvalidPathError):
        ROUTES.match("GET", path)


def test_case_and_dots_of_an_id_are_kept() -> None:
    assert ROUTES.match("GET", "/things/Ab.C").name == "one"
    assert ROUTES.match("GET", "/Unknown/Ab").name == "other"


def test_table_with_two_rows_for_one_address_is_refused() -> None:
    with pytest.raises(ValueError, match="two rows"):
        RouteTable((row("a", "/x/{id}"), row("b", "/x/{other}")))


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "M-SEARCH"])
def test_method_that_no_api_has_does_not_travel_to_unknown_addresses_either(method: str) -> None:
    with pytest.raises(MethodNotAllowedError) as raised:
        ROUTES.match(method, "/something/new")
    assert "GET" in raised.value.allowed


@pytest.mark.parametrize(
    ("path", "excess"),
    [
        ("/v1/chat/completions", "/v1"),
        ("/v1/unknown", "/v1"),
        ("/V1/chat/completions", "/v1"),
        ("/v1/v1/models", "/v1/v1"),
        ("/openai/v1/responses", "/openai/v1"),
        ("/chat/completions/chat/completions", "/chat/completions"),
        ("/chat/completions/models", "/chat/completions"),
        ("/responses/responses", "/responses"),
        ("/embeddings/embeddings", "/embeddings"),
    ],
)
def test_wrong_base_url_is_reported_with_its_excess(path: str, excess: str) -> None:
    routes = RouteTable(PROVIDER.endpoints)
    for method in ("GET", "POST"):
        with pytest.raises(UnknownUrlError) as refused:
            routes.match(method, path)
        assert refused.value.excess == excess
        assert f"/v1{path}" in refused.value.message


@pytest.mark.parametrize(
    "path",
    [
        "/organization/projects",
        "/organization/usage/completions",
        "/files/file-1/content",
        "/future/v1beta/things",
        "/future/v1/things",
        "/chat/completions/chatcmpl-1/messages",
        "/models/org/chat",
        "/v1beta/models",
    ],
)
def test_path_that_resembles_a_wrong_base_url_passes(path: str) -> None:
    assert RouteTable(PROVIDER.endpoints).match("GET", path)
