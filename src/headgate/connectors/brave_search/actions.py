"""Actions of Brave Search: one search of the web.

A plain HTTP service: its key is sent in a header that the catalog names, and its calls leave a
receipt without a cost.
"""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headgate.connectors.model.action import ActionContext, Actions
from headgate.connectors.model.answers import read_object
from headgate.llm.convert import fields

SERVICE = "Brave Search"
PATH = "/web/search"
NAME = "web-search"

ACTIONS = Actions("brave_search")


class WebSearchInput(msgspec.Struct, frozen=True, kw_only=True):
    query: Annotated[
        str,
        Meta(title="Query", description="What to search for.", min_length=1, max_length=400),
    ]
    count: Annotated[
        int, Meta(title="Results", description="How many results to return.", ge=1, le=20)
    ] = 10
    offset: Annotated[
        int, Meta(title="Page", description="Which page of results, from 0.", ge=0, le=9)
    ] = 0
    country: (
        Annotated[
            str,
            Meta(
                title="Country",
                description="Prefer results from this country, as two capital letters.",
                pattern="^[A-Z]{2}$",
            ),
        ]
        | None
    ) = None
    freshness: (
        Annotated[
            Literal["pd", "pw", "pm", "py"],
            Meta(
                title="Freshness",
                description="Only pages of the past day, week, month or year.",
            ),
        ]
        | None
    ) = None
    safesearch: Annotated[
        Literal["off", "moderate", "strict"],
        Meta(title="Safe search", description="How adult content is filtered."),
    ] = "moderate"


class WebResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Hold one page that was found. `age` says when it was published, where that is known."""

    title: Annotated[str, Meta(description="The title of the page.")]
    url: Annotated[str, Meta(description="The address of the page.")]
    description: Annotated[str, Meta(description="An excerpt that fits the query.")] = ""
    age: Annotated[str, Meta(description="When the page was published.")] = ""


class WebSearchResults(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what was found, best first."""

    query: Annotated[str, Meta(description="The query that was searched for.")]
    results: Annotated[list[WebResult], Meta(description="The pages, best first.")]


@ACTIONS.declare(NAME, title="Web search", is_read_only=True, is_idempotent=True)
async def search_web(context: ActionContext, given: WebSearchInput) -> WebSearchResults:
    """Search the web and return titles, addresses and excerpts of the pages that fit best."""
    answer = await context.http.send(
        context.caller,
        ACTIONS.connector,
        NAME,
        "GET",
        PATH,
        query=build_query(given),
        headers={"accept": "application/json"},
        credential=context.connection,
        timeout_seconds=context.timeout_seconds,
    )
    return read_results(given.query, read_object(answer, SERVICE))


def build_query(given: WebSearchInput) -> dict[str, str]:
    """Return the parameters of a search, in Brave's names."""
    query = {
        "q": given.query,
        "count": str(given.count),
        "offset": str(given.offset),
        "country": given.country,
        "freshness": given.freshness,
        "safesearch": given.safesearch,
        "text_decorations": "false",
    }
    return {name: value for name, value in query.items() if value is not None}


def read_results(query: str, body: dict[str, Any]) -> WebSearchResults:
    """Return the results of an answer; those without a title or an address are left out."""
    results: list[WebResult] = []
    for each in fields.list_objects(fields.read_object(body, "web").get("results")):
        with contextlib.suppress(msgspec.ValidationError):
            results.append(msgspec.convert(each, WebResult))
    return WebSearchResults(query=query, results=results)
