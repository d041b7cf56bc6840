"""What a conversion from Chat Completions to Responses carries, approximates, loses and refuses."""

from __future__ import annotations

from headgate.llm.convert.losses import Handling, Rule
from headgate.llm.convert.response_fields import ECHO, HOSTED_ITEMS, TEXT_PART, make_events

_C, _A, _X = Handling.CARRIED, Handling.APPROXIMATED, Handling.LOST
_R, _G, _I = Handling.REFUSED, Handling.APPLIED, Handling.IGNORED

RULES: dict[str, Rule] = {
    "model": Rule(_C, "model"),
    "messages": Rule(_C, "input"),
    "system, developer message": Rule(_C, "a message of that role"),
    "user message": Rule(_C, "a message of that role"),
    "assistant message": Rule(_C, "a message of that role"),
    "tool message": Rule(_C, "function_call_output, custom_tool_call_output"),
    "function message": Rule(_C, "function_call_output"),
    "message name": Rule(_X, "", "`name` of a participant"),
    "tool_calls": Rule(_C, "function_call, custom_tool_call"),
    "function_call of a message": Rule(_C, "function_call"),
    "refusal": Rule(_C, "refusal"),
    "annotations": Rule(_C, "annotations"),
    "audio of an earlier answer": Rule(_X, "", "it is named by an id only"),
    "long call id": Rule(_A, "call_id", "more than 64 characters are shortened"),
    "text part": Rule(_C, "input_text, output_text"),
    "image_url part": Rule(_C, "input_image"),
    "file part": Rule(_C, "input_file"),
    "input_audio part": Rule(_R, "", "Responses hears no audio"),
    "prompt_cache_breakpoint": Rule(_C, "prompt_cache_breakpoint"),
    "max_completion_tokens, max_tokens": Rule(_C, "max_output_tokens"),
    "max_tokens<16": Rule(_A, "max_output_tokens: 16", "the least that Responses accepts"),
    "max_tokens beside max_completion_tokens": Rule(_X, "", "the newer field counts"),
    "temperature": Rule(_C, "temperature"),
    "top_p": Rule(_C, "top_p"),
    "frequency_penalty": Rule(_X, "", "other than 0"),
    "presence_penalty": Rule(_X, "", "other than 0"),
    "logit_bias": Rule(_X, "", "any token"),
    "seed": Rule(_X),
    "stop": Rule(_G, "the answer is cut"),
    "n": Rule(_R, "", "more than 1: a response is one answer"),
    "logprobs": Rule(_C, "include: message.output_text.logprobs"),
    "top_logprobs": Rule(_C, "top_logprobs"),
    "reasoning_effort": Rule(_C, "reasoning.effort"),
    "verbosity": Rule(_C, "text.verbosity"),
    "response_format": Rule(_C, "text.format"),
    "tools": Rule(_C, "tools"),
    "tool_choice": Rule(_C, "tool_choice"),
    "allowed_tools": Rule(_C, "allowed_tools"),
    "parallel_tool_calls": Rule(_C, "parallel_tool_calls"),
    "functions": Rule(_C, "tools"),
    "function_call": Rule(_C, "tool_choice"),
    "web_search_options": Rule(
        _A, "the tool web_search", "the model decides whether to search, and where in the answer"
    ),
    "modalities": Rule(_C, "", "text only"),
    "modalities: audio": Rule(_R, "", "Responses does not speak"),
    "audio": Rule(_X, "", "without `modalities: audio` it changes nothing"),
    "prediction": Rule(_X, "", "the answer may come more slowly"),
    "store": Rule(_A, "store", "the answer is stored as a response, not as a completion"),
    "metadata": Rule(_C, "metadata"),
    "moderation": Rule(_C, "moderation"),
    "user": Rule(_C, "user"),
    "safety_identifier": Rule(_C, "safety_identifier"),
    "service_tier": Rule(_C, "service_tier"),
    "prompt_cache_key": Rule(_C, "prompt_cache_key"),
    "prompt_cache_options": Rule(_C, "prompt_cache_options"),
    "prompt_cache_retention": Rule(_C, "prompt_cache_retention"),
    "stream": Rule(_C, "stream"),
    "stream_options.include_usage": Rule(_G, "the last chunk has the usage"),
    "stream_options.include_obfuscation": Rule(_C, "stream_options.include_obfuscation"),
    "unknown field": Rule(_X),
    "values that are the default": Rule(_I, "", "`modalities: text`, `n: 1`, penalties of 0"),
}

ANSWERS: dict[str, Rule] = {
    "id": Rule(_C, "id"),
    "created_at": Rule(_C, "created"),
    "model": Rule(_C, "model"),
    "status": Rule(_C, "finish_reason"),
    "incomplete_details": Rule(_C, "finish_reason"),
    "error": Rule(_C, "error", "a response that has failed is an error"),
    "service_tier": Rule(_C, "service_tier"),
    "usage": Rule(_C, "usage"),
    "moderation": Rule(_C, "moderation"),
    "metadata": Rule(_C, "metadata"),
    "output.message.content.output_text": Rule(
        _C, "content", "several messages are one, with an empty line between them"
    ),
    "output.message.content.refusal": Rule(_C, "refusal"),
    f"{TEXT_PART}.annotations.url_citation": Rule(_C, "annotations"),
    f"{TEXT_PART}.logprobs": Rule(_C, "logprobs"),
    "output.function_call": Rule(_C, "tool_calls, function_call"),
    "output.custom_tool_call": Rule(_C, "tool_calls"),
    "output.reasoning": Rule(_X, "", "a chat completion shows none, only its tokens"),
    "output.web_search_call": Rule(_X, "", "a chat completion shows their citations only"),
    "output.code_interpreter_call": Rule(_X),
    "output.message.phase": Rule(_X),
    **{
        f"output.{kind}.{name}": Rule(_X)
        for kind in ("function_call", "custom_tool_call")
        for name in ("async", "caller", "namespace")
    },
    **{
        f"{TEXT_PART}.annotations.{kind}": Rule(_X)
        for kind in ("container_file_citation", "file_citation", "file_path")
    },
    **{f"output.{kind}": Rule(_X) for kind in HOSTED_ITEMS if kind != "custom_tool_call"},
    "prompt_cache_diagnostics": Rule(_X),
    "tool_usage": Rule(_X),
    "usage.input_tokens_details.cache_write_tokens_details": Rule(_X),
    **{name: Rule(_I, "", "it repeats the request") for name in ECHO if name != "metadata"},
    "completed_at": Rule(_I, "", "a chat completion has no such time"),
    "object": Rule(_I),
    "output.*.id": Rule(_I),
    "output.*.status": Rule(_I),
    "output.*.role": Rule(_I),
    "*.type": Rule(_I, "", "each part has its own"),
}
"""What becomes of a response, by place (`*` for any element, or the type that it has)."""

EVENTS = make_events(
    {
        "response.created": "a chunk with the role",
        "response.output_item.added": "a chunk with the head of a call",
        "response.output_text.delta": "delta.content",
        "response.refusal.delta": "delta.refusal",
        "response.output_text.annotation.added": "delta.annotations",
        "response.function_call_arguments.delta": "delta.tool_calls",
        "response.function_call_arguments.done": "delta.tool_calls",
        "response.custom_tool_call_input.delta": "delta.tool_calls",
        "response.custom_tool_call_input.done": "delta.tool_calls",
        "response.output_item.done": "what its events left out",
        "response.completed": "finish_reason, usage, [DONE]",
        "response.incomplete": "finish_reason, usage, [DONE]",
        "response.failed": "error",
        "error": "error",
    },
    ["response.reasoning_summary_text.delta", "response.reasoning_text.delta"],
)
"""What becomes of the events of a stream."""
