"""Name the fields of a response that conversions to several APIs treat alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from headgate.llm.convert.losses import Handling, Rule

HOSTED_ITEMS = (
    "additional_tools",
    "apply_patch_call",
    "apply_patch_call_output",
    "compaction",
    "computer_call",
    "computer_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "file_search_call",
    "function_call_output",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "program",
    "program_output",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
)
"""Items of tools that only a request of Responses can ask for."""
ECHO = (
    "access_programs",
    "background",
    "conversation",
    "image",
    "input_transformations",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)
"""Fields that repeat the request, or settings of the account."""
TEXT_PART = "output.message.content.output_text"

REPEATING_EVENTS = (
    "response.code_interpreter_call.completed",
    "response.code_interpreter_call.in_progress",
    "response.code_interpreter_call.interpreting",
    "response.code_interpreter_call_code.delta",
    "response.code_interpreter_call_code.done",
    "response.content_part.added",
    "response.content_part.done",
    "response.function_call_arguments.done",
    "response.in_progress",
    "response.output_text.done",
    "response.queued",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
    "response.reasoning_summary_text.done",
    "response.reasoning_text.done",
    "response.refusal.done",
    "response.web_search_call.completed",
    "response.web_search_call.in_progress",
    "response.web_search_call.searching",
)
"""Events of which every word is said by others, or by the whole item at its end."""
HOSTED_EVENTS = (
    "response.audio.delta",
    "response.audio.done",
    "response.audio.transcript.delta",
    "response.audio.transcript.done",
    "response.compaction.compacting",
    "response.custom_tool_call_input.delta",
    "response.custom_tool_call_input.done",
    "response.file_search_call.completed",
    "response.file_search_call.in_progress",
    "response.file_search_call.searching",
    "response.image_generation_call.completed",
    "response.image_generation_call.generating",
    "response.image_generation_call.in_progress",
    "response.image_generation_call.partial_image",
    "response.mcp_call.completed",
    "response.mcp_call.failed",
    "response.mcp_call.in_progress",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
    "response.mcp_list_tools.completed",
    "response.mcp_list_tools.failed",
    "response.mcp_list_tools.in_progress",
    "response.shell_call_command.added",
    "response.shell_call_command.delta",
    "response.shell_call_command.done",
    "response.shell_call_output_content.delta",
    "response.shell_call_output_content.done",
)
"""Events of items that only a request of Responses can ask for."""


def make_events(carried: Mapping[str, str], lost: Collection[str] = ()) -> dict[str, Rule]:
    """Return what becomes of each event: what the carried ones become, then all others."""
    ignored = Rule(Handling.IGNORED, "", "other events, or the whole item, say the same")
    unasked = Rule(Handling.LOST, "", "no request of the client's API can ask for it")
    return {
        **{name: Rule(Handling.CARRIED, target) for name, target in carried.items()},
        **{name: unasked for name in (*HOSTED_EVENTS, *lost) if name not in carried},
        **{name: ignored for name in REPEATING_EVENTS if name not in carried and name not in lost},
    }
