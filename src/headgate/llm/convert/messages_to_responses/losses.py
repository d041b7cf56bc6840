"""What a conversion from Messages to Responses carries, approximates, loses and refuses."""

from __future__ import annotations

from headgate.llm.convert.losses import Handling, Rule

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
    "thinking.display": Rule(_A, "", "what is shown of the thinking is not omitted"),
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
        Handling.IGNORED, "", "`caller: direct`, `allowed_callers: direct`, `display: summarized`"
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
