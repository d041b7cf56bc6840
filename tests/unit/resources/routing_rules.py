"""Build routing rules and requests for tests."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from headgate.resources.model.conditions import CompiledRouting, RoutingDecision, choose
from headgate.resources.model.live import CapacityState, NoLiveValues
from headgate.resources.model.request_view import CHAT, RequestView
from headgate.resources.model.routing_config import RoutingConfig

CHAT_BODY: dict[str, Any] = {
    "model": "support",
    "messages": [
        {"role": "system", "content": "Answer in French."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "image_url"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {}}]},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
        {"role": "user", "content": "Is it urgent?"},
    ],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
    "reasoning_effort": "high",
    "max_completion_tokens": 100,
    "metadata": {"team": "growth", "tier": "free"},
}


def condition(expression: str, comparator: str, value: str = "", kind: str = "string") -> Any:
    return {
        "type": "condition",
        "expression": expression,
        "comparator": comparator,
        "value": {"type": kind, "expression": value},
    }


def group(*conditions: Any, **fields: Any) -> Any:
    return {"type": "group", "conditions": list(conditions), **fields}


def rule(*conditions: Any, model: str = "routed", **fields: Any) -> Any:
    then = {"model": model} | fields.pop("then", {})
    return group(*conditions, then=then, **fields)


def expression_rule(expression: str, **fields: Any) -> Any:
    return rule(mode="ADVANCED", expression=expression, **fields)


def compile_rules(*rules: Any) -> CompiledRouting:
    raw = json.dumps({"enabled": True, "conditions": rules})
    return CompiledRouting(msgspec.json.decode(raw, type=RoutingConfig))


def view(body: Any = None, *, surface: str = CHAT, metadata: str = "") -> RequestView:
    sent = CHAT_BODY if body is None else body
    return RequestView(
        json.dumps(sent).encode(), surface=surface, model=sent.get("model"), metadata=metadata
    )


class LiveTable(NoLiveValues):
    """Answer from tables, and count how often it is asked."""

    def __init__(self) -> None:
        self.errors: dict[tuple[int, int | None, str | None, str | None], float] = {}
        self.states: dict[tuple[str, str | None], CapacityState] = {}
        self.asked = 0

    def error_rate(
        self, window_minutes: int, status: int | None, connection: str | None, model: str | None
    ) -> float | None:
        self.asked += 1
        return self.errors.get((window_minutes, status, connection, model))

    def capacity_usage(
        self, period: str, connection: str | None, model: str | None
    ) -> CapacityState | None:
        self.asked += 1
        return self.states.get((period, connection))


def decide(*rules: Any, seen: RequestView | None = None, drawn: float = 0.0) -> RoutingDecision:
    live = NoLiveValues()
    return choose(compile_rules(*rules), seen or view(), live, lambda _index: drawn)


def matches(*conditions: Any, seen: RequestView | None = None, **fields: Any) -> bool:
    return decide(rule(*conditions, **fields), seen=seen).index == 0


def holds(expression: str, seen: RequestView | None = None) -> bool:
    return decide(expression_rule(expression), seen=seen).index == 0
