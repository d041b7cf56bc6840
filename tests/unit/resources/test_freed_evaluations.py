"""A request whose rules were evaluated is freed: expressions are evaluated outside of Python, where
the collector finds no cycle."""

from __future__ import annotations

import gc
import json
import weakref

import pytest

from headgate.resources.model.conditions import choose
from headgate.resources.model.explanation import explain
from headgate.resources.model.request_view import CHAT, RequestView
from tests.unit.resources.routing_rules import (
    CHAT_BODY,
    LiveTable,
    compile_rules,
    expression_rule,
)


class WatchedView(RequestView):
    """A view that can be watched."""


@pytest.mark.parametrize(
    "expression",
    [
        "request.messagesCount > 5",
        "request.lastMessage.content.matches('zzz')",
        "errorRate(5) > 10.0",
        "errorRate(500) > 10.0",
        "capacityUsage('minute').tokensUsagePercent > 5.0",
        "request.lastMessage.content.matches(request.messages)",
    ],
)
def test_request_is_freed_when_its_rules_are_evaluated(expression: str) -> None:
    routing, live = compile_rules(expression_rule(expression)), LiveTable()
    gc.collect()
    gc.disable()
    try:
        for evaluate in (choose, explain):
            seen = WatchedView(
                json.dumps(CHAT_BODY).encode(), surface=CHAT, model="support", metadata=""
            )
            watched = weakref.ref(seen)
            evaluate(routing, seen, live, lambda _index: 0.0)
            del seen
            assert watched() is None
    finally:
        gc.enable()
