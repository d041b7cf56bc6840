"""POST /v1/responses: from the request to the response object."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate_simulator import answers, content, fields, items, response_events, tokens
from headgate_simulator.content import Item
from headgate_simulator.memory import Memory, StoredAnswer
from headgate_simulator.messages import (
    ApiError,
    ApiRequest,
    ApiResponse,
    EventStream,
    missing_parameter,
    not_found,
)

_TOOL_OUTPUTS = ("function_call_output", "custom_tool_call_output", "mcp_approval_response")
_ECHOED: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def create(request: ApiRequest, memory: Memory) -> ApiResponse | EventStream:
    """Answer, and store the response unless `store` is false; a background one is queued first."""
    body = request.body
    fields.check("responses", body)
    if not request.model:
        raise missing_parameter("model")
    if body.get("input") is None and not body.get("prompt"):
        raise missing_parameter("input")
    inputs = input_items(request)
    history = _history(body, memory)
    response = _respond(request, inputs, history)
    stored = StoredAnswer(response, inputs)
    if response["store"] or response["background"]:
        memory.responses.put(response["id"], stored)
    _join_conversation(body, response, inputs, memory)
    used = response["usage"]["input_tokens"]
    if body.get("stream"):
        options = content.record(body.get("stream_options"))
        shown = options.get("include_obfuscation", True)
        return EventStream(response_events.frames(response, obfuscated=shown), used)
    if response["background"]:
        stored.answer = {**response, "status": "queued"}
        stored.done_at = memory.monotonic() + request.work_seconds
        return ApiResponse(response_events.empty(stored.answer, "queued"), tokens=used)
    return ApiResponse(response, tokens=used)


def input_items(request: ApiRequest) -> list[Item]:
    """Return the input as items with ids; a text becomes a message of the user."""
    given = request.body.get("input") or ""
    rows = [{"role": "user", "content": given}] if isinstance(given, str) else content.rows(given)
    return [_item(request, row, number) for number, row in enumerate(rows)]


def _item(request: ApiRequest, row: Item, number: int) -> Item:
    if row.get("type", "message") != "message":
        return {"id": request.seed.make_id("item_", "input", number), **row}
    parts = row.get("content")
    if isinstance(parts, str):
        kind = "output_text" if row.get("role") == "assistant" else "input_text"
        parts = [{"type": kind, "text": parts}]
    identity = request.seed.make_id("msg_", "input", number)
    return {"id": identity, "type": "message", "status": "completed", **row, "content": parts}


def count_input(body: dict[str, Any], inputs: list[Item]) -> int:
    """Count the input tokens of instructions, items, tools and the requested format."""
    declared = [body[name] for name in ("tools", "text") if body.get(name)]
    extra = sum(tokens.count(msgspec.json.encode(each).decode()) for each in declared)
    instructions = body.get("instructions")
    extra += tokens.count(instructions) if isinstance(instructions, str) else 0
    return content.MESSAGE_TOKENS + sum(map(content.message_tokens, inputs)) + extra


def usage(body: dict[str, Any], used: int, made: int, reasoning: int = 0) -> dict[str, Any]:
    """Return usage in the shape of the Responses API; `made` includes `reasoning`."""
    cached = answers.cached_tokens(body, used)
    return {
        "input_tokens": used,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": used + made,
    }


def _history(body: dict[str, Any], memory: Memory) -> int:
    """Return the tokens of the previous response, which count as input again."""
    previous = body.get("previous_response_id")
    if not previous:
        return 0
    stored = memory.responses.get(previous)
    if stored is None:
        message = f"Previous response with id '{previous}' not found."
        code = "previous_response_not_found"
        raise ApiError(400, message, param="previous_response_id", code=code)
    return int(content.record(stored.answer["usage"]).get("total_tokens", 0))


def _respond(request: ApiRequest, inputs: list[Item], history: int) -> Item:
    body = request.body
    prompt = _read(request, inputs)
    completion = answers.complete(prompt)
    hosted = len(items.hosted_calls(prompt, body)) * items.HOSTED_TOKENS
    made = completion.visible_tokens + completion.reasoning_tokens + hosted
    used = count_input(body, inputs) + history
    reasoning = content.record(body.get("reasoning"))
    echoed = {name: body.get(name, usual) for name, usual in _ECHOED.items()}
    return {
        "id": request.seed.make_id("resp_"),
        "object": "response",
        "created_at": request.seed.created,
        "status": "incomplete" if completion.is_cut else "completed",
        **echoed,
        "completed_at": None if completion.is_cut else request.seed.created + 1,
        "conversation": _conversation(body),
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if completion.is_cut else None,
        "model": request.model,
        "output": items.output(prompt, completion, body),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "service_tier": "default",
        "text": {
            "format": {"type": "text"},
            "verbosity": "medium",
            **content.record(body.get("text")),
        },
        "usage": usage(body, used, made, completion.reasoning_tokens),
    }


def _read(request: ApiRequest, inputs: list[Item]) -> answers.Prompt:
    body = request.body
    tools = content.rows(body.get("tools"))
    shape = content.record(content.record(body.get("text")).get("format"))
    last = inputs[-1].get("type") if inputs else None
    return answers.Prompt(
        model=request.model,
        seed=request.seed,
        user_text=content.last_user_text(inputs),
        answers_tool=last in _TOOL_OUTPUTS,
        tools=[_tool(tool) for tool in tools if tool.get("type") in ("function", "custom")],
        choice=_tool_choice(body.get("tool_choice")),
        parallel=body.get("parallel_tool_calls") is not False,
        shape=_shape(shape),
        effort=content.record(body.get("reasoning")).get("effort"),
        tokens_max=body.get("max_output_tokens"),
        cites=any(str(tool.get("type")).startswith("web_search") for tool in tools),
    )


def _tool(tool: dict[str, Any]) -> answers.Tool:
    if tool["type"] == "custom":
        return answers.Tool(tool.get("name", "custom"))
    return answers.Tool(tool.get("name", "function"), content.record(tool.get("parameters")))


def _tool_choice(choice: Any) -> str:
    if isinstance(choice, str):
        return choice
    given = content.record(choice)
    if given.get("type") == "allowed_tools":
        return given.get("mode", "auto")
    return given.get("name") or given.get("type") or "auto"


def _shape(wanted: dict[str, Any]) -> Any:
    if wanted.get("type") == "json_schema":
        return content.record(wanted.get("schema"))
    if wanted.get("type") == "json_object":
        return {"type": "object", "properties": {"simulator": {"type": "string"}}}
    return None


def _conversation(body: dict[str, Any]) -> dict[str, str] | None:
    given = body.get("conversation")
    identity = given if isinstance(given, str) else content.record(given).get("id")
    return {"id": str(identity)} if identity else None


def _join_conversation(
    body: dict[str, Any], response: Item, inputs: list[Item], memory: Memory
) -> None:
    conversation = _conversation(body)
    if conversation is None:
        return
    collection = memory.conversations.get(conversation["id"])
    if collection is None:
        raise not_found("conversation", conversation["id"])
    for item in [*inputs, *response["output"]]:
        collection.items.put(item["id"], item)
