"""What a model is told about this server. Its first 512 characters stand alone: some clients cut
the rest."""

from __future__ import annotations

INSTRUCTIONS = " ".join(
    (
        "Headgate runs AI models and other services for you, metered by the budget of your key.",
        "Call a tool by its name; each result is JSON.",
        "If what you need is not listed, use search_tools, then call_tool.",
        "An error says in `recovery` what to do: follow it, and do not repeat a call that is",
        "forbidden. The same call within a short time is answered from the first one and costs",
        "nothing. A long result or a picture comes as a handle: read it with read_result, never",
        "copy it.\n\nAn integration that is not set up has no tools: list_integrations shows all",
        "of them, and setup_integration (scope mcp:full) connects one. The resources",
        "headgate://models and headgate://usage tell which models you may call and what was",
        "spent. To run a repeated call anew, pass `repeat` to call_tool.",
    )
)
STANDALONE_CHARACTERS = 512
