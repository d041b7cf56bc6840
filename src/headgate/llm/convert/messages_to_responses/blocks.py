"""Tell which fields the blocks of Messages have, and which of them no item of Responses can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headgate.llm.convert.losses import Losses
from headgate.llm.convert.messages_to_responses.validation import (
    Fields,
    join,
    read_choice,
    read_settings,
)

KNOWN: Mapping[str, Sequence[str]] = {
    "text": ("text", "citations"),
    "image": ("source",),
    "document": ("source", "title", "context", "citations"),
    "search_result": ("source", "title", "content", "citations"),
    "tool_use": ("id", "name", "input", "caller", "toolset_name"),
    "tool_result": ("tool_use_id", "content", "is_error", "toolset_name"),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
}
"""The fields of each block, besides `type` and `cache_control`."""
_DIRECT = {"type": "direct"}


def report_rest(block: Fields, place: str, losses: Losses) -> None:
    """Report what a block has that no item of Responses can say, and check its hint for a cache,
    which changes nothing."""
    losses.add_rest(block, ("type", "cache_control", *KNOWN[block["type"]]), place)
    if block.get("cache_control") is not None:
        check_cache_control(block, place)
    if block.get("citations") not in (None, [], {}, {"enabled": False}):
        losses.add("citations", join(place, "citations"))
    for name in ("caller", "toolset_name"):
        if block.get(name) not in (None, _DIRECT):
            losses.add("tool options", join(place, name))


def check_cache_control(block: Fields, place: str) -> None:
    settings = read_settings(block, "cache_control", place)
    place = join(place, "cache_control")
    read_choice(settings, "type", place, ("ephemeral",))
    if settings.get("ttl") is not None:
        read_choice(settings, "ttl", place, ("5m", "1h"))
