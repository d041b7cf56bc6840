"""Which fields of a request are acted on at which address, as OpenAI's API defines them.

A field that an address does not define, or defines with another type, is passed on unread.
"""

from __future__ import annotations

from headgate.llm.request import CheckedFields

MODEL = CheckedFields("model")
"""Where nothing else is read."""

CHECKED: dict[str, CheckedFields] = {
    "/chat/completions": CheckedFields(
        "model",
        "stream",
        "stream_options",
        "n",
        "max_completion_tokens",
        "max_tokens",
        "service_tier",
    ),
    "/completions": CheckedFields("model", "stream", "stream_options", "n", "max_tokens"),
    "/responses": CheckedFields(
        "model", "stream", "stream_options", "background", "max_output_tokens", "service_tier"
    ),
    "/responses/compact": CheckedFields("model", "service_tier"),
    "/images/generations": CheckedFields("model", "stream", "n"),
    "/images/edits": CheckedFields("model", "stream", "n"),
    "/images/variations": CheckedFields("model", "n"),
    "/audio/transcriptions": CheckedFields("model", "stream"),
    "/threads/runs": CheckedFields("model", "stream", "max_completion_tokens"),
    "/threads/{id}/runs": CheckedFields("model", "stream", "max_completion_tokens"),
}
"""By the path of the address below `/v1`; every other one has `MODEL`."""
