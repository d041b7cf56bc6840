"""The published table of losses is the one that the converters use."""

from __future__ import annotations

import typing
from typing import Any

import pytest
from anthropic import types
from anthropic.types.message_create_params import MessageCreateParamsBase
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from headgate.llm.convert.chat_to_responses import request as chat_request
from headgate.llm.convert.losses import Handling
from headgate.llm.convert.messages_to_responses.losses import RULES
from headgate.llm.convert.messages_to_responses.request import KNOWN, convert_request
from tools import losses


@pytest.mark.parametrize("page", losses.PAGES)
def test_page_has_the_rules_of_the_converters(page: str) -> None:
    assert (losses.DOCS / page).read_text() == losses.render(page)


def test_every_field_of_an_official_chat_completion_is_carried_or_reported() -> None:
    assert CompletionCreateParamsBase.__annotations__.keys() <= chat_request.KNOWN
    base: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    assert dict(chat_request.convert_request(base | {"new": 1}).losses) == {"new": "lost"}


def test_every_field_of_the_official_request_is_carried_or_reported() -> None:
    """Fields that the converters do not know are reported as lost, each by its name."""
    base: dict[str, Any] = {
        "model": "gpt-5.4-mini",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "x"}],
    }
    for name in MessageCreateParamsBase.__annotations__:
        if name not in KNOWN:
            assert dict(convert_request(base | {name: "x"}).losses) == {name: "lost"}


def test_every_block_of_the_official_request_has_a_rule() -> None:
    kinds = {
        typing.get_args(typing.get_type_hints(block)["type"])[0]
        for block in typing.get_args(types.ContentBlockParam)
    }
    history = {kind for kind in kinds if kind.endswith("_tool_result") or kind == "server_tool_use"}
    named = {"thinking": "thinking block"}
    assert {named.get(kind, kind) for kind in kinds - history} <= RULES.keys()
    assert RULES["server tool history"].handling is Handling.APPROXIMATED
