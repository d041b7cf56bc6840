"""Tools that answer with questions first, as revision 2026-07-28 has them (`input_required`)."""

from __future__ import annotations

from typing import Any

import mcp_types as types

from rigs.mcp_conformance.tools import Context, Json, find_capabilities, text, tool

Given = types.CallToolRequestParams | types.GetPromptRequestParams


def ask(message: str, field: str, kind: str = "string") -> Json:
    """Return a question to the person."""
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return {
        "method": "elicitation/create",
        "params": {"mode": "form", "message": message, "requestedSchema": schema},
    }


def sample(question: str, tokens: int = 100) -> Json:
    """Return a question to the model of the client."""
    message = {"role": "user", "content": {"type": "text", "text": question}}
    return {
        "method": "sampling/createMessage",
        "params": {"messages": [message], "maxTokens": tokens},
    }


ROOTS: Json = {"method": "roots/list", "params": {}}


def require(state: str | None = None, **questions: Json) -> Json:
    """Return the result that asks questions."""
    result: Json = {"resultType": "input_required", "inputRequests": questions}
    return result if state is None else {**result, "requestState": state}


def find_answer(given: Given, key: str) -> Any:
    """Return the answer of the client to a question, or None."""
    return (given.input_responses or {}).get(key)


def find_value(given: Given, key: str, field: str) -> str | None:
    """Return one field of what the person answered, or None."""
    answer = find_answer(given, key)
    content = answer.content if isinstance(answer, types.ElicitResult) else None
    return None if content is None or field not in content else str(content[field])


NAME = ask("What is your name?", "name")


@tool("test_input_required_result_elicitation", "Ask for a name.")
async def ask_name(_context: Context, given: types.CallToolRequestParams) -> Json:
    name = find_value(given, "user_name", "name")
    return require(user_name=NAME) if name is None else text(f"Hello, {name}!")


@tool("test_streaming_elicitation", "Ask for a name, in a stream.")
async def ask_in_stream(context: Context, given: types.CallToolRequestParams) -> Json:
    return await ask_name(context, given)


@tool("test_input_required_result_sampling", "Ask the model of the client.")
async def ask_model(_context: Context, given: types.CallToolRequestParams) -> Json:
    answer = find_answer(given, "capital_question")
    if not isinstance(answer, types.CreateMessageResult):
        return require(capital_question=sample("What is the capital of France?"))
    return text(answer.content.text if isinstance(answer.content, types.TextContent) else "")


@tool("test_input_required_result_list_roots", "Ask for the folders of the client.")
async def ask_roots(_context: Context, given: types.CallToolRequestParams) -> Json:
    answer = find_answer(given, "client_roots")
    if not isinstance(answer, types.ListRootsResult):
        return require(client_roots=ROOTS)
    return text(", ".join(str(root.uri) for root in answer.roots))


CONFIRM = ask("Please confirm", "ok", "boolean")


@tool("test_input_required_result_request_state", "Remember something between two rounds.")
async def remember(_context: Context, given: types.CallToolRequestParams) -> Json:
    if find_answer(given, "confirm") is None:
        return require("asked", confirm=CONFIRM)
    return text("state-ok" if given.request_state == "asked" else "state-lost")


@tool("test_input_required_result_tampered_state", "Refuse a state that somebody changed.")
async def refuse_tampered(context: Context, given: types.CallToolRequestParams) -> Json:
    return await remember(context, given)


@tool("test_input_required_result_multiple_inputs", "Ask three questions at once.")
async def ask_three(_context: Context, given: types.CallToolRequestParams) -> Json:
    answers = given.input_responses or {}
    if not {"user_name", "greeting", "client_roots"} <= set(answers):
        greeting = sample("Generate a greeting", 50)
        return require("three", user_name=NAME, greeting=greeting, client_roots=ROOTS)
    return text("All three answers came.")


@tool("test_input_required_result_multi_round", "Ask in two rounds.")
async def ask_twice(_context: Context, given: types.CallToolRequestParams) -> Json:
    if given.request_state == "second" and find_answer(given, "step2") is not None:
        return text("Both rounds are done.")
    if given.request_state == "first" and find_answer(given, "step1") is not None:
        return require("second", step2=ask("Step 2: What is your favorite color?", "color"))
    return require("first", step1=ask("Step 1: What is your name?", "name"))


@tool("test_input_required_result_capabilities", "Ask only what the client can answer.")
async def ask_what_it_can(context: Context, _given: types.CallToolRequestParams) -> Json:
    can = find_capabilities(context)
    questions: Json = {}
    if "sampling" in can:
        questions["question"] = sample("What is the capital of France?")
    if "elicitation" in can:
        questions["user_name"] = NAME
    return require(**questions) if questions else text("The client can answer nothing.")
