"""Convert a whole answer of Responses to a message of Anthropic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from headgate.llm.answers import DECODE_ERRORS
from headgate.llm.convert.fields import (
    Fields,
    list_objects,
    read_count,
    read_object,
    read_response,
)
from headgate.llm.convert.messages_to_responses.content import REDACTED_PREFIX
from headgate.llm.convert.messages_to_responses.request import ConvertedRequest
from headgate.llm.convert.stop_sequences import StopSequences

Block = dict[str, Any]
SUMMARY_SEPARATOR = "\n\n"
CITED_CHARACTERS_MAX = 150
"""How much of a text Anthropic quotes in a citation of the web."""


def convert_reply(response: Any, request: ConvertedRequest) -> dict[str, Any]:
    """Return the message for a complete or incomplete response.

    Raise `UnreadableResponseError` for anything else.
    """
    fields = read_response(response)
    blocks: list[Block] = []
    for item in list_objects(fields["output"]):
        blocks += convert_item(item, request)
    stop_reason = find_stop_reason(fields, blocks)
    blocks, sequence = cut_blocks(blocks, request.stop_sequences)
    return {
        "id": make_message_id(fields.get("id")),
        "type": "message",
        "role": "assistant",
        "model": str(fields.get("model") or request.model),
        "content": blocks,
        "stop_reason": stop_reason if sequence is None else "stop_sequence",
        "stop_sequence": sequence,
        "usage": convert_usage(fields),
    }


def make_message_id(response_id: Any) -> str:
    """Return an id as Anthropic's clients expect it, from that of a response."""
    text = response_id if isinstance(response_id, str) else ""
    return text if text.startswith("msg_") else f"msg_{text.removeprefix('resp_') or 'unknown'}"


def convert_item(item: Fields, request: ConvertedRequest) -> list[Block]:
    """Return the blocks of one item of the output."""
    kind = item.get("type")
    if kind == "message":
        return [
            block
            for part in list_objects(item.get("content"))
            if (block := convert_part(part)) is not None
        ]
    if kind == "function_call":
        return [convert_call(item, request.tool_names)]
    if kind == "reasoning":
        block = convert_reasoning(item, request) if request.shows_thinking else None
        return [] if block is None else [block]
    if kind == "web_search_call":
        return convert_search(item)
    if kind == "code_interpreter_call":
        return convert_execution(item)
    return []


def convert_part(part: Fields) -> Block | None:
    """Return the text block of a part of a message; None for an empty one."""
    text = part.get("text") or part.get("refusal")
    if not isinstance(text, str):
        return None
    block: Block = {"type": "text", "text": text, "citations": None}
    cited = [
        citation
        for each in list_objects(part.get("annotations"))
        if (citation := convert_annotation(each, text[find_cited(each)])) is not None
    ]
    if cited:
        block["citations"] = cited
    return block


def find_cited(annotation: Fields) -> slice:
    """Return which part of a text an annotation is about, as much as a citation quotes."""
    start = read_count(annotation, "start_index")
    end = read_count(annotation, "end_index")
    return slice(start, min(end, start + CITED_CHARACTERS_MAX))


def convert_annotation(annotation: Fields, cited: str) -> dict[str, Any] | None:
    """Return the citation of a page of the web, quoting a text; None for other annotations."""
    if annotation.get("type") != "url_citation":
        return None
    return {
        "type": "web_search_result_location",
        "url": str(annotation.get("url") or ""),
        "title": annotation.get("title"),
        "cited_text": cited,
        "encrypted_index": "",
    }


def convert_call(item: Fields, tool_names: Mapping[str, str]) -> Block:
    name = str(item.get("name") or "")
    return {
        "type": "tool_use",
        "id": str(item.get("call_id") or item.get("id") or ""),
        "name": tool_names.get(name, name),
        "input": parse_arguments(item.get("arguments")),
    }


def parse_arguments(arguments: Any) -> dict[str, Any]:
    """Return the arguments of a call; empty if they are no JSON object."""
    try:
        parsed = msgspec.json.decode(arguments or "{}")
    except (*DECODE_ERRORS, TypeError):
        return {}
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}


def convert_reasoning(item: Fields, request: ConvertedRequest) -> Block | None:
    """Return the thinking of a reasoning item; None if it neither says nor keeps anything."""
    encrypted = str(item.get("encrypted_content") or "")
    if request.omits_thinking:
        block = {"type": "thinking", "thinking": "", "signature": encrypted}
        return block if encrypted else None
    # A summary is OpenAI's; the reasoning itself is shown by others.
    shown = list_objects(item.get("summary")) or list_objects(item.get("content"))
    thinking = SUMMARY_SEPARATOR.join(filter(None, [str(each.get("text") or "") for each in shown]))
    if thinking:
        return {"type": "thinking", "thinking": thinking, "signature": encrypted}
    if encrypted:
        return {"type": "redacted_thinking", "data": REDACTED_PREFIX + encrypted}
    return None


def make_server_tool_id(item: Fields) -> str:
    return f"srvtoolu_{str(item.get('id') or 'unknown').rpartition('_')[2]}"


def convert_search(item: Fields) -> list[Block]:
    """Return the use and the result of a search on the web."""
    fields = read_object(item, "action")
    tool_id = make_server_tool_id(item)
    results = [
        {
            "type": "web_search_result",
            "url": str(source.get("url") or ""),
            "title": str(source.get("title") or ""),
            "encrypted_content": "",
            "page_age": None,
        }
        for source in list_objects(fields.get("sources"))
    ]
    queries = fields.get("queries")
    listed = "; ".join(map(str, cast("list[Any]", queries))) if isinstance(queries, list) else ""
    query = str(fields.get("query") or listed or fields.get("url") or "")
    return [
        {
            "type": "server_tool_use",
            "id": tool_id,
            "name": "web_search",
            "input": {"query": query},
        },
        {"type": "web_search_tool_result", "tool_use_id": tool_id, "content": results},
    ]


def convert_execution(item: Fields) -> list[Block]:
    """Return the use and the result of code that was run."""
    tool_id = make_server_tool_id(item)
    logs = [
        str(each.get("logs") or "")
        for each in list_objects(item.get("outputs"))
        if each.get("type") == "logs"
    ]
    has_failed = item.get("status") == "failed"
    return [
        {
            "type": "server_tool_use",
            "id": tool_id,
            "name": "code_execution",
            "input": {"code": str(item.get("code") or "")},
        },
        {
            "type": "code_execution_tool_result",
            "tool_use_id": tool_id,
            "content": {
                "type": "code_execution_result",
                "stdout": "\n".join(logs),
                "stderr": "",
                "return_code": int(has_failed),
                "content": [],
            },
        },
    ]


def find_stop_reason(response: Fields, blocks: Sequence[Block]) -> str:
    if response.get("status") == "incomplete":
        reason = read_object(response, "incomplete_details").get("reason")
        return "refusal" if reason == "content_filter" else "max_tokens"
    if any(block["type"] == "tool_use" for block in blocks):
        return "tool_use"
    return "end_turn"


def convert_usage(response: Fields) -> dict[str, Any]:
    """Return the usage in Anthropic's arithmetic: tokens from a cache are no input tokens."""
    fields = read_object(response, "usage")
    cached = read_count(read_object(fields, "input_tokens_details"), "cached_tokens")
    thinking = read_count(read_object(fields, "output_tokens_details"), "reasoning_tokens")
    searches = sum(
        item.get("type") == "web_search_call" for item in list_objects(response.get("output"))
    )
    return {
        "input_tokens": max(0, read_count(fields, "input_tokens") - cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": read_count(fields, "output_tokens"),
        "output_tokens_details": {"thinking_tokens": thinking, "reasoning_tokens": thinking},
        "server_tool_use": {"web_search_requests": searches, "web_fetch_requests": 0}
        if searches
        else None,
        "service_tier": TIERS.get(str(response.get("service_tier"))),
    }


TIERS = {"default": "standard", "priority": "priority", "flex": "batch"}
"""Anthropic's names of the tiers in which OpenAI says that it served a call."""


def cut_blocks(blocks: list[Block], sequences: Sequence[str]) -> tuple[list[Block], str | None]:
    """Return the blocks up to the first stop sequence in a text, and that sequence."""
    if not sequences:
        return blocks, None
    for number, block in enumerate(blocks):
        if block["type"] != "text":
            continue
        finder = StopSequences(sequences)
        cut = finder.feed(block["text"])
        sequence = cut.sequence
        text = cut.text
        if sequence is None:
            rest = finder.finish()
            text, sequence = text + rest.text, rest.sequence
        if sequence is not None:
            kept = blocks[:number]
            if text:
                kept.append({**block, "text": text})
            return kept, sequence
    return blocks, None
