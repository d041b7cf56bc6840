"""Name the fields of a response that conversions to several APIs treat alike."""

from __future__ import annotations

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
