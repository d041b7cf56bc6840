"""What a conversion from Responses to Chat Completions carries, approximates, loses and refuses."""

from __future__ import annotations

from headgate.llm.convert.losses import Handling, Rule

_C, _A, _X = Handling.CARRIED, Handling.APPROXIMATED, Handling.LOST
_R, _I = Handling.REFUSED, Handling.IGNORED

RULES: dict[str, Rule] = {
    "model": Rule(_C, "model"),
    "instructions": Rule(_C, "the first system message"),
    "input": Rule(_C, "messages"),
    "stream": Rule(_C, "stream"),
    "stream_options.include_obfuscation": Rule(_C, "stream_options.include_obfuscation"),
    "max_output_tokens": Rule(_C, "max_completion_tokens, or the provider's name for it"),
    "temperature": Rule(_C, "temperature"),
    "top_p": Rule(_C, "top_p"),
    "top_logprobs": Rule(_C, "logprobs, top_logprobs"),
    "include: message.output_text.logprobs": Rule(_C, "logprobs"),
    "reasoning.effort": Rule(_C, "reasoning_effort"),
    "text.format": Rule(_C, "response_format"),
    "text.verbosity": Rule(_C, "verbosity"),
    "parallel_tool_calls": Rule(_C, "parallel_tool_calls"),
    "tool_choice": Rule(_C, "tool_choice"),
    "tool_choice.allowed_tools": Rule(_C, "tools, tool_choice", "the other tools are left out"),
    "service_tier": Rule(_C, "service_tier"),
    "prompt_cache_key": Rule(_C, "prompt_cache_key"),
    "prompt_cache_retention": Rule(_C, "prompt_cache_retention"),
    "prompt_cache_options": Rule(_C, "prompt_cache_options"),
    "prompt_cache_breakpoint": Rule(_C, "prompt_cache_breakpoint"),
    "safety_identifier": Rule(_C, "safety_identifier"),
    "user": Rule(_C, "user"),
    "moderation": Rule(_C, "moderation"),
    "message": Rule(_C, "a message", "`developer` becomes `system`, which every server knows"),
    "input_text, output_text": Rule(_C, "text"),
    "refusal": Rule(_C, "refusal"),
    "input_image": Rule(_C, "image_url"),
    "input_file": Rule(_C, "file"),
    "input_audio": Rule(_C, "input_audio"),
    "function": Rule(_C, "function"),
    "namespace": Rule(_C, "functions", "each with the name of the namespace before its own"),
    "function_call": Rule(_C, "tool_calls"),
    "function_call_output": Rule(_C, "a tool message"),
    "additional_tools": Rule(_C, "tools"),
    "reasoning text": Rule(_C, "reasoning_content", "text that such a server has sent itself"),
    "metadata": Rule(Handling.APPLIED, "the response repeats it"),
    "custom": Rule(_A, "a function with one text", "a grammar becomes a part of its description"),
    "custom_tool_call": Rule(_A, "tool_calls", "the input is the one argument of a function"),
    "function.strict omitted": Rule(
        _A, "", "Responses then tries to be strict, Chat Completions does not"
    ),
    "content of an output": Rule(
        _A, "a message of the user after the tool messages", "pictures and files"
    ),
    "hosted call": Rule(_A, "a text in brackets", "calls and outputs of OpenAI's own tools"),
    "configuration_update": Rule(_A, "", "it holds for the whole call"),
    "tool_search_output": Rule(_A, "tools", "all tools are given at once"),
    "reasoning.summary": Rule(_A, "", "reasoning comes as the provider shows it"),
    "access_programs": Rule(_X),
    "context_management": Rule(_X),
    "image": Rule(_X),
    "include": Rule(_X, "", "other values"),
    "max_tool_calls": Rule(_X),
    "truncation": Rule(_X, "", "`auto`"),
    "reasoning": Rule(_X, "", "`context` and `mode`"),
    "reasoning item": Rule(_X, "", "summaries, and what only OpenAI can decrypt"),
    "phase": Rule(_X),
    "annotations": Rule(_X, "", "those of earlier answers"),
    "input_file.detail": Rule(_X),
    "tool options": Rule(
        _X, "", "`async`, `defer_loading`, `allowed_callers`, `output_schema`, `caller`"
    ),
    "web_search": Rule(_X, "", "the model answers without a search"),
    "tool_choice of another tool": Rule(_X, "", "in a list of allowed tools"),
    "tool_search": Rule(_X, "", "all tools are given at once"),
    "programmatic_tool_calling": Rule(_X, "", "tools are called directly"),
    "unknown field": Rule(_X),
    "store": Rule(_R, "", "true; nothing is stored, and without the field the response says so"),
    "previous_response_id": Rule(_R, "", "nothing is stored"),
    "conversation": Rule(_R, "", "nothing is stored"),
    "prompt": Rule(_R, "", "prompts are stored at OpenAI"),
    "background": Rule(_R, "", "true"),
    "item_reference": Rule(_R, "", "nothing is stored"),
    "compaction": Rule(_R, "", "only OpenAI can decrypt it"),
    "compaction_trigger": Rule(_R),
    "input_image.file_id": Rule(_R, "", "send `image_url`"),
    "input_file.file_url": Rule(_R, "", "send `file_data`"),
    "pictures and files of a system message": Rule(_R),
    "other tools": Rule(_R, "", "those that OpenAI runs, and its own shells and editors"),
    "ids and states of items": Rule(_I),
    "name of an output": Rule(_I, "", "its call has it"),
    "logprobs": Rule(_I, "", "those of earlier answers"),
    "values that are the default": Rule(
        _I, "", "`truncation: disabled`, `background: false`, `store: false`"
    ),
}
