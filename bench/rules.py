"""Measure what the routing rules of a resource add to a call: `python -m bench.rules`.

Twenty rules of all kinds are tried, and none matches, which is the dearest case. The time is that
of the processor, so that other programs count less.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import msgspec

from headgate.resources.model.conditions import CompiledRouting, choose
from headgate.resources.model.live import NoLiveValues
from headgate.resources.model.request_view import CHAT, RequestView
from headgate.resources.model.routing_config import RoutingConfig

RULES = 20
CALLS = 20_000
MICROSECONDS = 1e6
BODY: dict[str, Any] = {
    "model": "assistant",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant. " * 8},
        {"role": "user", "content": "What is the weather in Paris today? " * 8},
    ],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
}
CONDITIONS = (
    ("tokens.input", "GREATER_THAN", "100000", "number"),
    ("request.toolsCount", "GREATER_THAN", "5", "number"),
    ("metadata['team']", "EQUAL", "growth", "string"),
    ("request.allMessagesContent", "CONTAINS", "forbidden", "string"),
    ("request.lastMessage.content", "PATTERN", "(?i)ignore (all )?previous", "string"),
    ("request.model", "IN", "a,b,c", "comma-delimited-list"),
    ("request.reasoning.effort", "EXISTS", "", "string"),
    ("request.messagesCount", "LESS_THAN", "1", "number"),
    ("errorRate(5)", "GREATER_THAN", "10", "number"),
    ("capacityUsage('minute').tokensUsagePercent", "GREATER_THAN", "80", "number"),
)
EXPRESSIONS = ("request.toolsCount > 5 && tokens.input > 1000", "request.messagesCount > 50")


def make_rules(*, with_expressions: bool) -> CompiledRouting:
    rules: list[dict[str, Any]] = [
        {
            "conditions": [
                {
                    "type": "condition",
                    "expression": expression,
                    "comparator": comparator,
                    "value": {"type": kind, "expression": value},
                }
            ],
            "then": {"model": "other"},
        }
        for expression, comparator, value, kind in CONDITIONS
    ]
    if with_expressions:
        rules[-len(EXPRESSIONS) :] = [
            {"mode": "ADVANCED", "expression": each, "then": {"model": "other"}}
            for each in EXPRESSIONS
        ]
    config = {"conditions": (rules * RULES)[:RULES]}
    return CompiledRouting(msgspec.convert(config, RoutingConfig))


def measure(routing: CompiledRouting) -> float:
    """Return the median of a call, in microseconds."""
    body, live = json.dumps(BODY).encode(), NoLiveValues()
    taken: list[float] = []
    for _ in range(CALLS):
        began = time.thread_time()
        choose(routing, RequestView(body, surface=CHAT, model="assistant"), live, lambda _: 50.0)
        taken.append(time.thread_time() - began)
    return statistics.median(taken) * MICROSECONDS


def main() -> None:
    plain = measure(make_rules(with_expressions=False))
    mixed = measure(make_rules(with_expressions=True))
    print(f"{RULES} rules of conditions: {plain:.1f} us")
    print(f"{RULES} rules, a fifth of them expressions: {mixed:.1f} us")


if __name__ == "__main__":
    main()
