"""List the request fields that the gateway acts on, by endpoint of OpenAI's API.

A field that an endpoint does not define, or defines with another type, is passed on unread.
"""

from __future__ import annotations

from headgate.llm.request import CheckedFields

MODEL = CheckedFields("model")
"""For endpoints of which only the model is read."""

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
"""By path of the endpoint below `/v1`; all others have `MODEL`."""
