"""What the simulator answers: the part that chat, responses and completions share."""

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
    """Describe a tool that the caller runs; `schema` is None for a custom tool (plain text)."""

    name: str
    schema: Any = None
    namespace: str | None = None


class Prompt(msgspec.Struct):
    """Hold what the answer depends on. `choice` is auto, none, required or a tool's name; `shape`
    is a JSON schema, or None for prose; `tokens_max` bounds reasoning and visible tokens together.
    """

    model: str
    seed: Seed
    user_text: str
    answers_tool: bool = False
    tools: list[Tool] = []
    choice: str = "auto"
    parallel: bool = True
    shape: Any = None
    effort: str | None = None
    tokens_max: int | None = None
    cites: bool = False
    stops: list[str] = []


class Completion(msgspec.Struct):
    """Hold one answer: a refusal, tool calls (tool, arguments or input) or a text; never two."""

    text: str = ""
    refusal: str | None = None
    calls: list[tuple[Tool, str]] = []
    citation: dict[str, Any] | None = None
    reasoning_tokens: int = 0
    is_cut: bool = False

    @property
    def visible_tokens(self) -> int:
        called = sum(tokens.count(tool.name) + tokens.count(given) for tool, given in self.calls)
        return tokens.count(self.text) + tokens.count(self.refusal or "") + called


def reasons(model: str) -> bool:
    """Return whether models of this name spend reasoning tokens."""
    return _REASONS.match(model) is not None


def cached_tokens(body: dict[str, Any], input_tokens: int) -> int:
    """Return the input tokens served from the prompt cache: only with a cache key, in steps of 128
    from 1,024 on.
    """
    if not body.get("prompt_cache_key") or input_tokens < CACHE_FROM_TOKENS:
        return 0
    return input_tokens // CACHE_STEP_TOKENS * CACHE_STEP_TOKENS


def complete(prompt: Prompt, index: int = 0) -> Completion:
    """Return the answer; `index` tells apart several answers to one request."""
    reasoning = EFFORT_TOKENS.get(prompt.effort or "medium", 64) if reasons(prompt.model) else 0
    if prompt.tokens_max is not None:
        reasoning = min(reasoning, prompt.tokens_max // 2)
    completion = _complete(prompt, index)
    completion.reasoning_tokens = reasoning
    if prompt.tokens_max is not None:
        _truncate(completion, prompt.tokens_max - reasoning)
    return completion


def _complete(prompt: Prompt, index: int) -> Completion:
    if "[refuse]" in prompt.user_text:
        return Completion(refusal=f"{LABEL} I'm sorry, but I can't help with that.")
    called = _choose_tools(prompt)
    if called:
        return Completion(calls=[(tool, _make_arguments(tool, prompt)) for tool in called])
    if prompt.shape is not None:
        value = instance.make(prompt.shape, LABEL)
        return Completion(text=msgspec.json.encode(value).decode())
    text = _prose(prompt, index)
    for stop in prompt.stops:
        text = text.partition(stop)[0]
    if not prompt.cites:
        return Completion(text=text)
    link = f"([example.com]({CITED}))"
    start = len(text) + 1
    citation = {
        "start_index": start,
        "end_index": start + len(link),
        "title": "Example",
        "url": CITED,
    }
    return Completion(text=f"{text} {link}", citation=citation)


def _prose(prompt: Prompt, index: int) -> str:
    lead = f"{LABEL} " + (f"(answer {index + 1}) " if index else "")
    if prompt.answers_tool:
        return f"{lead}The tool has answered. You asked: {prompt.user_text[:ECHO_CHARACTERS_MAX]}"
    return f"{lead}You said: {prompt.user_text[:ECHO_CHARACTERS_MAX]}"


def _choose_tools(prompt: Prompt) -> list[Tool]:
    if prompt.choice == "none" or prompt.answers_tool:
        return []
    if prompt.choice not in ("auto", "required"):
        return [tool for tool in prompt.tools if tool.name == prompt.choice]
    wants_all = prompt.choice == "required" or "parallel" in prompt.user_text.lower()
    return prompt.tools if wants_all and prompt.parallel else prompt.tools[:1]


def _make_arguments(tool: Tool, prompt: Prompt) -> str:
    if tool.schema is None:
        return f"{LABEL} {prompt.user_text[:200]}"
    return msgspec.json.encode(instance.make(tool.schema)).decode()


def _truncate(completion: Completion, tokens_max: int) -> None:
    if completion.visible_tokens <= tokens_max:
        return
    completion.is_cut = True
    completion.text = tokens.cut(completion.text, tokens_max)
    completion.refusal = completion.refusal and tokens.cut(completion.refusal, tokens_max)
    completion.citation = None
    cut: list[tuple[Tool, str]] = []
    for tool, given in completion.calls:
        tokens_max -= tokens.count(tool.name)
        if tokens_max <= 0:
            break
        cut.append((tool, tokens.cut(given, tokens_max)))
        tokens_max -= tokens.count(given)
    completion.calls = cut
