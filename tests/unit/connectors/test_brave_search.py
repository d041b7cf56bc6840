"""Brave Search: what a search sends, and what is made of the answers."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.api.errors import build_headers
from headgate.connectors.brave_search.actions import ACTIONS, WebResult, WebSearchResults
from headgate.connectors.model.errors import InvalidInputError, ProviderRefusedError
from tests.fakes.http_actions import run_action

PAGE = {"title": "A page", "url": "https://a.example/", "description": "About", "age": "1 day ago"}
ANSWER = {
    "type": "search",
    "query": {"original": "water"},
    "web": {
        "results": [
            {**PAGE, "language": "en"},
            {"url": "https://no-title.example/"},
            "nonsense",
            {"title": "B", "url": "https://b.example/"},
        ]
    },
}


def search(given: dict[str, Any], answer: Any = ANSWER, **more: Any) -> Any:
    return run_action(ACTIONS, "web-search", given, answer, **more)


def test_search_sends_its_parameters_and_returns_the_pages() -> None:
    given = {"query": "water", "count": "5", "country": "", "freshness": "pw"}
    sent, found = search(given)
    assert (sent.method, sent.path) == ("GET", "/web/search")
    assert sent.query == {
        "q": "water",
        "count": "5",
        "offset": "0",
        "freshness": "pw",
        "safesearch": "moderate",
        "text_decorations": "false",
    }
    assert found == WebSearchResults(
        query="water",
        results=[
            WebResult(title="A page", url=PAGE["url"], description="About", age="1 day ago"),
            WebResult(title="B", url="https://b.example/"),
        ],
    )


def test_chosen_connection_is_used() -> None:
    sent, _ = search({"query": "x"}, connection="mine")
    assert sent.credential == "mine"


@pytest.mark.parametrize("answer", [{}, {"web": None}, {"web": {"results": None}}])
def test_nothing_found_is_an_empty_list(answer: Any) -> None:
    _, found = search({"query": "x"}, answer)
    assert found.results == []


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": "x" * 401}, "query"),
        ({"query": "x", "count": 21}, "count"),
        ({"query": "x", "country": "Germany"}, "country"),
        ({"query": "x", "freshness": "today"}, "freshness"),
        ({"query": "x", "language": "de"}, "language"),
    ],
)
def test_input_out_of_its_limits_is_refused(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        search(given)
    assert raised.value.param == field


def test_refused_key_says_what_brave_said_and_what_to_do() -> None:
    body = {"type": "ErrorResponse", "error": {"code": "X", "detail": "The token is invalid."}}
    with pytest.raises(ProviderRefusedError, match="answered 401: The token is invalid") as raised:
        search({"query": "x"}, body, status=401)
    assert (raised.value.status, raised.value.data) == (401, body)
    assert "setting the integration up again" in (raised.value.recovery or "")


def test_rate_limit_tells_how_long_to_wait() -> None:
    with pytest.raises(ProviderRefusedError) as raised:
        search({"query": "x"}, b"slow down", status=429, headers={"retry-after": "7"})
    assert raised.value.retry_after_seconds == 7
    assert "slow down" in raised.value.message


@pytest.mark.parametrize("advice", ["9" * 400, "soon", "Fri, 31 Dec 1999 23:59:59 GMT", ""])
def test_advice_that_is_no_number_of_seconds_is_none(advice: str) -> None:
    with pytest.raises(ProviderRefusedError) as raised:
        search({"query": "x"}, b"slow down", status=429, headers={"retry-after": advice})
    assert "retry-after" not in build_headers(raised.value)


def test_answer_that_is_no_object_is_refused() -> None:
    with pytest.raises(ProviderRefusedError, match="not with a JSON object"):
        search({"query": "x"}, b"<html>")
