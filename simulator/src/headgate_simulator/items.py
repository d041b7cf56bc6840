"""The output items of a response: reasoning, calls of hosted tools, calls for the caller, text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headgate_simulator import answers, content, media
from headgate_simulator.content import Item
from headgate_simulator.seed import Seed

SUMMARY = "**Simulating**\n\nThe simulator does not think; it answers by rule."
CIPHER_BYTES = 96
HOSTED_TOKENS = 8
"""Output tokens for each call of a hosted tool."""


def output(
    prompt: answers.Prompt, completion: answers.Completion, body: dict[str, Any]
) -> list[Item]:
    """Return the items in the order in which they appear."""
    seed = prompt.seed
    found: list[Item] = []
    if completion.reasoning_tokens:
        found.append(_reasoning(seed, body))
    found += hosted_calls(prompt, body)
    status = "incomplete" if completion.is_cut else "completed"
    if completion.calls:
        return found + [
            _call(seed, tool, given, number, status)
            for number, (tool, given) in enumerate(completion.calls)
        ]
    found.append(_message(seed, completion, status))
    return found


def hosted_calls(prompt: answers.Prompt, body: dict[str, Any]) -> list[Item]:
    """Return one call of each hosted tool that the caller offers, unless tools are off."""
    if prompt.choice == "none" or prompt.answers_tool:
        return []
    kinds = [_kind(str(tool.get("type"))) for tool in content.rows(body.get("tools"))]
    chosen = _kind(prompt.choice)
    only = chosen if chosen in _HOSTED else None
    wanted = [kind for kind in kinds if kind in _HOSTED and only in (None, kind)]
    return [
        _HOSTED[kind](prompt.seed.draw("hosted", kind), prompt) for kind in dict.fromkeys(wanted)
    ]


def _kind(name: str) -> str:
    return "web_search" if name.startswith("web_search") else name


def _reasoning(seed: Seed, body: dict[str, Any]) -> Item:
    wants = content.record(body.get("reasoning"))
    summarized = bool(wants.get("summary") or wants.get("generate_summary"))
    item: Item = {
        "id": seed.make_id("rs_", "reasoning"),
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": SUMMARY}] if summarized else [],
    }
    if "reasoning.encrypted_content" in content.strings(body.get("include")):
        cipher = seed.draw("cipher").stretch(CIPHER_BYTES)
        item["encrypted_content"] = media.encode_base64(cipher)
    return item


def _call(seed: Seed, tool: answers.Tool, given: str, number: int, status: str) -> Item:
    item: Item = {
        "id": seed.make_id("fc_" if tool.schema is not None else "ctc_", "item", number),
        "call_id": seed.make_id("call_", number)[:29],
        "name": tool.name,
        "status": status,
    }
    if tool.schema is None:
        return {"type": "custom_tool_call", **item, "input": given}
    return {"type": "function_call", **item, "arguments": given}


def _message(seed: Seed, completion: answers.Completion, status: str) -> Item:
    if completion.refusal is not None:
        part: dict[str, Any] = {"type": "refusal", "refusal": completion.refusal}
    else:
        cited = [{"type": "url_citation", **completion.citation}] if completion.citation else []
        part = {
            "type": "output_text",
            "text": completion.text,
            "annotations": cited,
            "logprobs": [],
        }
    return {
        "id": seed.make_id("msg_", "message"),
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [part],
    }


def _web_search(seed: Seed, prompt: answers.Prompt) -> Item:
    action = {
        "type": "search",
        "query": prompt.user_text[:200],
        "queries": [prompt.user_text[:200]],
    }
    identity = seed.make_id("ws_")
    return {"id": identity, "type": "web_search_call", "status": "completed", "action": action}


def _file_search(seed: Seed, prompt: answers.Prompt) -> Item:
    return {
        "id": seed.make_id("fs_"),
        "type": "file_search_call",
        "status": "completed",
        "queries": [prompt.user_text[:200]],
        "results": None,
    }


def _image(seed: Seed, prompt: answers.Prompt) -> Item:
    return {
        "id": seed.make_id("ig_"),
        "type": "image_generation_call",
        "status": "completed",
        "action": "generate",
        "background": "opaque",
        "output_format": "png",
        "quality": "medium",
        "size": "1024x1024",
        "revised_prompt": prompt.user_text[:200],
        "result": media.encode_base64(media.png(1024, 1024, seed.stretch(3))),
    }


def _code(seed: Seed, _ask: answers.Prompt) -> Item:
    return {
        "id": seed.make_id("ci_"),
        "type": "code_interpreter_call",
        "status": "completed",
        "code": "print('simulated')",
        "container_id": seed.make_id("cntr_"),
        "outputs": [{"type": "logs", "logs": "simulated\n"}],
    }


_HOSTED: dict[str, Callable[[Seed, answers.Prompt], Item]] = {
    "web_search": _web_search,
    "file_search": _file_search,
    "image_generation": _image,
    "code_interpreter": _code,
}
