"""Decides what the simulator says: the part that chat, responses and completions share."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from headgate_simulator import instance, tokens
from headgate_simulator.seed import Seed

LABEL = "[Headgate simulator, not a model]"
ECHO_CHARACTERS_MAX = 4000
EFFORT_TOKENS = {
    "none": 0, "minimal": 16, "low": 32, "medium": 64, "high": 128, "xhigh": 256, "max": 512,
}  # fmt: skip
CITED = "https://example.com/simulator"
CACHE_STEP_TOKENS = 128
CACHE_FROM_TOKENS = 1024
_REASONS = re.compile(r"o\d|gpt-5(?!.*-chat)")


class Tool(msgspec.Struct):
    """A tool that the caller runs. `schema` is None for a custom tool, which takes plain text."""

    name: str
    schema: Any = None
    namespace: str | None = None


class Ask(msgspec.Struct):
    """What is asked. `choice` is auto, none, required or the name of a tool; `shape` a JSON
    schema, or None for prose; `tokens_max` bounds reasoning and visible tokens together.
    """

    model: str
    seed: Seed
    said: str
    answers_tool: bool = False
    tools: list[Tool] = []
    choice: str = "auto"
    parallel: bool = True
    shape: Any = None
    effort: str | None = None
    tokens_max: int | None = None
    cites: bool = False
    stops: list[str] = []


class Said(msgspec.Struct):
    """What is answered: a refusal, calls (tool, arguments or input) or a text; never two."""

    text: str = ""
    refusal: str | None = None
    calls: list[tuple[Tool, str]] = []
    citation: dict[str, Any] | None = None
    reasoning_tokens: int = 0
    is_cut: bool = False

    @property
    def visible_tokens(self) -> int:
        """Tokens of everything but the reasoning."""
        called = sum(tokens.count(tool.name) + tokens.count(given) for tool, given in self.calls)
        return tokens.count(self.text) + tokens.count(self.refusal or "") + called


def reasons(model: str) -> bool:
    """Whether models of this name think before they answer."""
    return _REASONS.match(model) is not None


def cached_tokens(body: dict[str, Any], input_tokens: int) -> int:
    """Input served from the prompt cache: only with a cache key, in steps of 128 from 1024 on."""
    if not body.get("prompt_cache_key") or input_tokens < CACHE_FROM_TOKENS:
        return 0
    return input_tokens // CACHE_STEP_TOKENS * CACHE_STEP_TOKENS


def answer(ask: Ask, index: int = 0) -> Said:
    """The answer; `index` tells apart several answers to one request."""
    thought = EFFORT_TOKENS.get(ask.effort or "medium", 64) if reasons(ask.model) else 0
    if ask.tokens_max is not None:
        thought = min(thought, ask.tokens_max // 2)
    said = _speak(ask, index)
    said.reasoning_tokens = thought
    if ask.tokens_max is not None:
        _truncate(said, ask.tokens_max - thought)
    return said


def _speak(ask: Ask, index: int) -> Said:
    if "[refuse]" in ask.said:
        return Said(refusal=f"{LABEL} I'm sorry, but I can't help with that.")
    called = _called(ask)
    if called:
        return Said(calls=[(tool, _given(tool, ask)) for tool in called])
    if ask.shape is not None:
        value = instance.make(ask.shape, LABEL)
        return Said(text=msgspec.json.encode(value).decode())
    text = _prose(ask, index)
    for stop in ask.stops:
        text = text.partition(stop)[0]
    if not ask.cites:
        return Said(text=text)
    link = f"([example.com]({CITED}))"
    start = len(text) + 1
    citation = {
        "start_index": start,
        "end_index": start + len(link),
        "title": "Example",
        "url": CITED,
    }
    return Said(text=f"{text} {link}", citation=citation)


def _prose(ask: Ask, index: int) -> str:
    lead = f"{LABEL} " + (f"(answer {index + 1}) " if index else "")
    if ask.answers_tool:
        return f"{lead}The tool has answered. You asked: {ask.said[:ECHO_CHARACTERS_MAX]}"
    return f"{lead}You said: {ask.said[:ECHO_CHARACTERS_MAX]}"


def _called(ask: Ask) -> list[Tool]:
    if ask.choice == "none" or ask.answers_tool:
        return []
    if ask.choice not in ("auto", "required"):
        return [tool for tool in ask.tools if tool.name == ask.choice]
    wants_all = ask.choice == "required" or "parallel" in ask.said.lower()
    return ask.tools if wants_all and ask.parallel else ask.tools[:1]


def _given(tool: Tool, ask: Ask) -> str:
    if tool.schema is None:
        return f"{LABEL} {ask.said[:200]}"
    return msgspec.json.encode(instance.make(tool.schema)).decode()


def _truncate(said: Said, tokens_max: int) -> None:
    if said.visible_tokens <= tokens_max:
        return
    said.is_cut = True
    said.text = tokens.cut(said.text, tokens_max)
    said.refusal = said.refusal and tokens.cut(said.refusal, tokens_max)
    said.citation = None
    kept: list[tuple[Tool, str]] = []
    for tool, given in said.calls:
        tokens_max -= tokens.count(tool.name)
        if tokens_max <= 0:
            break
        kept.append((tool, tokens.cut(given, tokens_max)))
        tokens_max -= tokens.count(given)
    said.calls = kept
