"""What a conversion from Messages to Responses carries, approximates, loses and refuses."""

from __future__ import annotations

from headgate.llm.convert.losses import Handling, Rule
from headgate.llm.convert.response_fields import ECHO, HOSTED_ITEMS, TEXT_PART, make_events

_C, _A, _X = Handling.CARRIED, Handling.APPROXIMATED, Handling.LOST

RULES: dict[str, Rule] = {
    "model": Rule(_C, "model"),
    "max_tokens": Rule(_C, "max_output_tokens"),
    "max_tokens<16": Rule(_A, "max_output_tokens: 16", "the least that Responses accepts"),
    "system": Rule(_C, "instructions"),
    "system message": Rule(_C, "a message of the system"),
    "stream": Rule(_C, "stream"),
    "temperature": Rule(_C, "temperature"),
    "top_p": Rule(_C, "top_p"),
    "top_k": Rule(_X),
    "stop_sequences": Rule(Handling.APPLIED, "the answer is cut"),
    "metadata.user_id": Rule(_C, "safety_identifier"),
    "service_tier": Rule(_C, "service_tier"),
    "service_tier unknown": Rule(_X, "", "a tier without a counterpart"),
    "thinking": Rule(_A, "reasoning.effort", "a budget becomes one of three efforts"),
    "thinking.display": Rule(_C, "no reasoning.summary for `omitted`"),
    "thinking unsupported": Rule(_X, "", "the model does not reason"),
    "sampling unsupported": Rule(_X, "", "a model that reasons takes no temperature and no top_p"),
    "thinking between tools": Rule(_A, "no thinking is shown"),
    "output_config.effort": Rule(_C, "reasoning.effort"),
    "effort above high": Rule(_A, "reasoning.effort: high", "`xhigh` and `max`"),
    "output_config.format": Rule(_C, "text.format"),
    "container": Rule(_X),
    "context_management": Rule(_X),
    "inference_geo": Rule(_X),
    "mcp_servers": Rule(_X),
    "betas": Rule(Handling.IGNORED),
    "values that are the default": Rule(
        Handling.IGNORED, "", "`caller: direct`, `allowed_callers: direct`"
    ),
    "dates and names of server tools": Rule(Handling.IGNORED, "", "OpenAI's newest is used"),
    "cache_control": Rule(Handling.IGNORED),
    "prefill": Rule(_A, "an assistant message", "the model answers it instead of going on with it"),
    "text": Rule(_C, "input_text, output_text"),
    "image": Rule(_C, "input_image"),
    "document": Rule(_C, "input_file, input_text"),
    "document.context": Rule(_A, "a text before the document"),
    "citations": Rule(
        _X, "", "documents are not cited, and those of earlier answers do not go back"
    ),
    "search_result": Rule(_A, "a text with title and source"),
    "tool_use": Rule(_C, "function_call"),
    "tool_result": Rule(_C, "function_call_output"),
    "tool_result.is_error": Rule(_A, "a text that begins with `[error]`"),
    "thinking block": Rule(_C, "reasoning"),
    "thinking without signature": Rule(_X, "", "only the provider's own encrypted form goes back"),
    "redacted_thinking": Rule(_C, "reasoning"),
    "foreign redacted_thinking": Rule(_X, "", "it was made by another provider"),
    "server tool history": Rule(_A, "a text in brackets"),
    "container_upload": Rule(_A, "a text in brackets"),
    "custom tool": Rule(_C, "function"),
    "tool options": Rule(
        _X,
        "",
        "`input_examples`, `defer_loading`, `allowed_callers`, `eager_input_streaming`, `caller`, "
        "`toolset_name`, `response_inclusion`",
    ),
    "web_search": Rule(_C, "web_search"),
    "web_search.max_uses": Rule(_A, "max_tool_calls", "carried if it is the only hosted tool"),
    "web_search.blocked_domains": Rule(_X),
    "code_execution": Rule(_C, "code_interpreter"),
    "other server tools": Rule(Handling.REFUSED),
    "tool_choice": Rule(_C, "tool_choice"),
    "disable_parallel_tool_use": Rule(_C, "parallel_tool_calls"),
    "unknown field": Rule(_X),
}

_I = Handling.IGNORED

ANSWERS: dict[str, Rule] = {
    "id": Rule(_C, "id"),
    "model": Rule(_C, "model"),
    "status": Rule(_C, "stop_reason"),
    "incomplete_details": Rule(_C, "stop_reason"),
    "error": Rule(_C, "error", "a response that has failed is an error"),
    "service_tier": Rule(_A, "usage.service_tier", "none for a tier without a counterpart"),
    "usage": Rule(_C, "usage"),
    "output.message": Rule(_C, "text"),
    f"{TEXT_PART}.annotations.url_citation": Rule(_C, "citations"),
    "output.function_call": Rule(_C, "tool_use"),
    "output.reasoning.summary": Rule(_C, "thinking"),
    "output.reasoning.encrypted_content": Rule(_C, "signature, redacted_thinking"),
    "output.web_search_call": Rule(_C, "server_tool_use, web_search_tool_result"),
    "output.code_interpreter_call": Rule(_C, "server_tool_use, code_execution_tool_result"),
    "output.message.content.refusal": Rule(_A, "text"),
    "output.reasoning.content": Rule(_A, "thinking", "if there is no summary"),
    f"{TEXT_PART}.annotations.url_citation.start_index": Rule(_A, "cited_text"),
    f"{TEXT_PART}.annotations.url_citation.end_index": Rule(_A, "cited_text"),
    "output.web_search_call.action.type": Rule(_A, "", "each action is told as a search"),
    "output.web_search_call.action.queries": Rule(_A, "input.query", "where there is no `query`"),
    "output.web_search_call.action.pattern": Rule(_X),
    "output.code_interpreter_call.container_id": Rule(_X),
    "output.code_interpreter_call.outputs.image": Rule(_X),
    "output.function_call.async": Rule(_X),
    "output.function_call.caller": Rule(_X),
    "output.function_call.namespace": Rule(_X),
    "output.message.phase": Rule(_X),
    f"{TEXT_PART}.logprobs": Rule(_X),
    **{
        f"{TEXT_PART}.annotations.{kind}": Rule(_X)
        for kind in ("container_file_citation", "file_citation", "file_path")
    },
    **{f"output.{kind}": Rule(_X) for kind in HOSTED_ITEMS},
    "moderation": Rule(_X),
    "prompt_cache_diagnostics": Rule(_X),
    "tool_usage": Rule(_X),
    "usage.input_tokens_details.cache_write_tokens": Rule(_X),
    "usage.input_tokens_details.cache_write_tokens_details": Rule(_X),
    "usage.total_tokens": Rule(_I, "", "a sum"),
    "created_at": Rule(_I, "", "Messages has no times"),
    "completed_at": Rule(_I, "", "Messages has no times"),
    "object": Rule(_I),
    **dict.fromkeys(ECHO, Rule(_I, "", "it repeats the request")),
    "output.*.id": Rule(_I),
    "output.*.status": Rule(_I),
    "output.*.role": Rule(_I),
    "*.type": Rule(_I, "", "each block has its own"),
}
"""What becomes of a response, by place (`*` for any element, or the type that it has)."""

EVENTS = make_events(
    {
        "response.created": "message_start, ping",
        "response.output_item.added": "content_block_start",
        "response.output_text.delta": "text_delta",
        "response.refusal.delta": "text_delta",
        "response.output_text.annotation.added": "citations_delta",
        "response.function_call_arguments.delta": "input_json_delta",
        "response.function_call_arguments.done": "input_json_delta",
        "response.reasoning_summary_text.delta": "thinking_delta",
        "response.reasoning_text.delta": "thinking_delta",
        "response.output_item.done": "content_block_stop, signature_delta",
        "response.completed": "message_delta, message_stop",
        "response.incomplete": "message_delta, message_stop",
        "response.failed": "error",
        "error": "error",
    }
)
"""What becomes of the events of a stream."""
