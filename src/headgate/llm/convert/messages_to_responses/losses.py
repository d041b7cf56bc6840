"""What a conversion from Messages to Responses carries, approximates, loses and refuses.

The table is the contract: the converters report a loss by one of its rows, and the documentation
is made from it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec


class Handling(enum.Enum):
    CARRIED = "carried"
    """It arrives with the same meaning."""
    APPLIED = "applied"
    """The gateway does it itself, since the provider's API has nothing like it."""
    APPROXIMATED = "approximated"
    """It arrives with nearly the same meaning. Reported as a loss."""
    LOST = "lost"
    """The provider's API has nothing like it. Reported as a loss."""
    REFUSED = "refused"
    """A call without it would be another one, so it is answered with 400."""
    IGNORED = "ignored"
    """It changes nothing in what is answered, such as hints for a cache. Not reported."""


class Rule(msgspec.Struct, frozen=True):
    """Say what becomes of a field, a block or a value of Messages. `when` limits a loss."""

    handling: Handling
    target: str = ""
    when: str = ""


_C, _A, _X = Handling.CARRIED, Handling.APPROXIMATED, Handling.LOST

RULES: dict[str, Rule] = {
    "model": Rule(_C, "model"),
    "max_tokens": Rule(_C, "max_output_tokens"),
    "max_tokens<16": Rule(_A, "max_output_tokens: 16", "the least that Responses accepts"),
    "system": Rule(_C, "instructions"),
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
    "output_config.effort": Rule(_C, "reasoning.effort"),
    "output_config.format": Rule(_C, "text.format"),
    "container": Rule(_X),
    "context_management": Rule(_X),
    "inference_geo": Rule(_X),
    "mcp_servers": Rule(_X),
    "betas": Rule(Handling.IGNORED),
    "cache_control": Rule(Handling.IGNORED),
    "prefill": Rule(_A, "an assistant message", "the model answers it instead of going on with it"),
    "text": Rule(_C, "input_text, output_text"),
    "image": Rule(_C, "input_image"),
    "document": Rule(_C, "input_file, input_text"),
    "document.context": Rule(_A, "a text before the document"),
    "citations": Rule(_X, "", "documents are not cited"),
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
        _X, "", "`input_examples`, `defer_loading`, `allowed_callers`, `eager_input_streaming`"
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


class Losses:
    """Collect what one conversion could not carry, each place once."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def add(self, rule: str, place: str) -> None:
        """Report a loss at a place of the request, such as `messages.0.content.1.citations`."""
        handling = RULES[rule].handling
        assert handling in (_A, _X), f"{rule} is no loss"
        self._found.setdefault(place, handling.value)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._found.items())

    def __len__(self) -> int:
        return len(self._found)
