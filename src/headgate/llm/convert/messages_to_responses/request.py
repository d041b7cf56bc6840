"""Convert a Messages request to a Responses request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from headgate.llm.convert.losses import Losses
from headgate.llm.convert.messages_to_responses.blocks import report_rest
from headgate.llm.convert.messages_to_responses.content import ContentConverter
from headgate.llm.convert.messages_to_responses.losses import RULES
from headgate.llm.convert.messages_to_responses.tools import ToolNames, convert_tools
from headgate.llm.convert.messages_to_responses.validation import (
    NUMBER,
    Fields,
    check_list,
    check_object,
    fail,
    join,
    read,
    read_choice,
    read_object,
    read_optional,
    read_settings,
    read_text,
)

OUTPUT_TOKENS_MIN = 16
"""The least output limit that Responses accepts."""
EFFORTS = ((2_048, "low"), (8_192, "medium"))
"""The largest budget of thinking for each effort; above, it is high."""
BUDGET_TOKENS_MIN = 1_024
IDENTIFIER_CHARACTERS_MAX = 64
TIERS = {
    "auto": "auto",
    "standard": "default",
    "standard_only": "default",
    "priority": "priority",
    "batch": "flex",
}
THINKING_TYPES = ("enabled", "disabled", "adaptive", "between_tools")
OMITTED = "omitted"
DISPLAYS = ("summarized", OMITTED)
SHOWN = ("enabled", "adaptive")
EFFORT_NAMES = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
LOST = ("top_k", "container", "context_management", "mcp_servers", "inference_geo")
KNOWN = frozenset(
    {
        *LOST,
        "model",
        "max_tokens",
        "messages",
        "system",
        "stream",
        "temperature",
        "top_p",
        "stop_sequences",
        "metadata",
        "service_tier",
        "thinking",
        "tools",
        "tool_choice",
        "output_config",
        "output_format",
        "betas",
        "cache_control",
    }
)
STOP_SEQUENCES_MAX = 64
STOP_CHARACTERS_MAX = 256


class ConvertedRequest(msgspec.Struct, frozen=True):
    """Hold a Responses request, and what is needed to convert its answer back.

    `tool_names` are the original names of tools by their short forms. `shows_thinking` says whether
    the caller asked for thinking, `omits_thinking` whether it wants no more of it than what goes
    back to the model.
    """

    body: dict[str, Any]
    model: str
    streams: bool
    stop_sequences: tuple[str, ...]
    shows_thinking: bool
    tool_names: Mapping[str, str]
    losses: Losses
    omits_thinking: bool = False


def convert_request(fields: Fields, *, reasons: bool | None = True) -> ConvertedRequest:
    """Return a Messages request as one of Responses. `reasons` says whether the model reasons, None
    for a model that is not known.

    Raise `InvalidMessagesRequestError` for what Anthropic would refuse, and
    `UnsupportedServerToolError`.
    """
    losses, names = Losses(RULES), ToolNames()
    model = read_text(fields, "model", "", blank=False)
    streams = bool(read_optional(fields, "stream", "", bool))
    # Nothing is kept at the provider, as nothing is at Anthropic.
    body: dict[str, Any] = {"model": model, "store": False}
    body["max_output_tokens"] = _convert_limit(fields, losses)
    if instructions := _convert_system(fields, losses):
        body["instructions"] = instructions
    body |= convert_tools(fields, names, losses)
    body["input"] = _convert_messages(fields, names, losses)
    if streams:
        body["stream"] = True
    shows_thinking = _convert_thinking(fields, body, losses, reasons=reasons)
    _convert_sampling(fields, body, losses, reasons=reasons)
    _convert_format(fields, body, losses)
    _convert_account(fields, body, losses)
    for name in LOST:
        if fields.get(name) is not None:
            losses.add(name, name)
    losses.add_rest(fields, KNOWN, "")
    return ConvertedRequest(
        body,
        model,
        streams,
        _read_stop_sequences(fields),
        shows_thinking,
        names.originals,
        losses,
        omits_thinking=shows_thinking
        and read_settings(fields, "thinking").get("display") == OMITTED,
    )


def _convert_limit(fields: Fields, losses: Losses) -> int:
    read(fields, "max_tokens", "")
    limit: int = read_optional(fields, "max_tokens", "", int)
    if limit < 1:
        fail("max_tokens", "Input should be greater than or equal to 1")
    if limit < OUTPUT_TOKENS_MIN:
        losses.add("max_tokens<16", "max_tokens")
    return max(limit, OUTPUT_TOKENS_MIN)


def _convert_system(fields: Fields, losses: Losses) -> str:
    system = fields.get("system")
    if system is None or isinstance(system, str):
        return system or ""
    texts: list[str] = []
    for number, each in enumerate(check_list(system, "system")):
        place = f"system.{number}"
        block = check_object(each, place)
        read_choice(block, "type", place, ("text",))
        report_rest(block, place, losses)
        text = read_text(block, "text", place)
        if not text:
            fail(place, "text content blocks must be non-empty")
        texts.append(text)
    return "\n".join(texts)


def _convert_messages(fields: Fields, names: ToolNames, losses: Losses) -> list[dict[str, Any]]:
    messages = check_list(read(fields, "messages", ""), "messages")
    if not messages:
        fail("messages", "at least one message is required")
    converter = ContentConverter(names, losses)
    items: list[dict[str, Any]] = []
    role = ""
    for index, each in enumerate(messages):
        message = check_object(each, f"messages.{index}")
        converted = converter.convert(message, index)
        role = message["role"]
        is_last = index == len(messages) - 1
        if not converted and not message["content"] and not (is_last and role == "assistant"):
            fail(
                f"messages.{index}",
                "all messages must have non-empty content except for the optional final assistant "
                "message",
            )
        items += converted
    converter.finish()
    if role == "assistant":
        check_ending(messages[-1])
        losses.add("prefill", f"messages.{len(messages) - 1}")
    return items


def check_ending(message: Fields) -> None:
    """Refuse a last message of the assistant that ends in whitespace, as Anthropic does."""
    content: Any = message["content"]
    if isinstance(content, list) and content:
        content = cast("list[Fields]", content)[-1].get("text")
    if isinstance(content, str) and content[-1:].isspace():
        fail("messages", "final assistant content cannot end with trailing whitespace")


def _convert_thinking(
    fields: Fields, body: dict[str, Any], losses: Losses, *, reasons: bool | None
) -> bool:
    """Set `reasoning`, and return whether thinking is shown."""
    thinking = read_settings(fields, "thinking")
    losses.add_rest(thinking, ("type", "budget_tokens", "display"), "thinking")
    effort = _read_effort(fields, thinking, losses)
    shows = bool(thinking) and thinking["type"] in SHOWN
    if thinking and thinking["type"] == "between_tools":
        losses.add("thinking between tools", "thinking.type")
    if reasons is False:
        if shows or effort:
            place = "thinking" if shows else "output_config.effort"
            losses.add("thinking unsupported", place)
        return False
    if "budget_tokens" in thinking:
        losses.add("thinking", "thinking.budget_tokens")
    if thinking.get("display") is not None:
        read_choice(thinking, "display", "thinking", DISPLAYS)
    reasoning: dict[str, Any] = {} if effort is None else {"effort": effort}
    if shows:
        if thinking.get("display") != OMITTED:
            reasoning["summary"] = "auto"
        # So that the caller can send the thinking back, and nothing need be kept here.
        body["include"] = ["reasoning.encrypted_content"]
    if reasoning:
        body["reasoning"] = reasoning
    return shows


def _read_effort(fields: Fields, thinking: Fields, losses: Losses) -> str | None:
    """Return the effort that is stated, else that of the budget of thinking, None for neither."""
    effort: str | None = None
    config = read_settings(fields, "output_config")
    if config.get("effort") is not None:
        named = read_choice(config, "effort", "output_config", tuple(EFFORT_NAMES))
        effort = EFFORT_NAMES[named]
        if effort != named:
            losses.add("effort above high", "output_config.effort")
    if thinking and read_choice(thinking, "type", "thinking", THINKING_TYPES) == "enabled":
        budget = _read_budget(thinking, fields)
        effort = effort or next((name for most, name in EFFORTS if budget <= most), "high")
    return effort


def _read_budget(thinking: Fields, fields: Fields) -> int:
    read(thinking, "budget_tokens", "thinking")
    budget: int = read_optional(thinking, "budget_tokens", "thinking", int)
    if budget < BUDGET_TOKENS_MIN:
        fail(
            "thinking.budget_tokens",
            f"Input should be greater than or equal to {BUDGET_TOKENS_MIN}",
        )
    if budget >= fields["max_tokens"]:
        fail("thinking.budget_tokens", "`max_tokens` must be greater than `thinking.budget_tokens`")
    return budget


def _convert_sampling(
    fields: Fields, body: dict[str, Any], losses: Losses, *, reasons: bool | None
) -> None:
    for name in ("temperature", "top_p"):
        value = read_optional(fields, name, "", NUMBER)
        if value is None:
            continue
        if not 0 <= value <= 1:
            fail(name, "Input should be between 0 and 1")
        if reasons:
            losses.add("sampling unsupported", name)
        else:
            body[name] = value


def _convert_format(fields: Fields, body: dict[str, Any], losses: Losses) -> None:
    config = read_settings(fields, "output_config")
    losses.add_rest(config, ("effort", "format"), "output_config")
    place = "output_config.format"
    wanted = read_settings(config, "format", "output_config")
    if not wanted:
        place = "output_format"
        wanted = read_settings(fields, place)
    if not wanted:
        return
    read_choice(wanted, "type", place, ("json_schema",))
    losses.add_rest(wanted, ("type", "schema"), place)
    body["text"] = {
        "format": {
            "type": "json_schema",
            "name": "output",
            "schema": read_object(wanted, "schema", place),
            "strict": True,
        }
    }


def _convert_account(fields: Fields, body: dict[str, Any], losses: Losses) -> None:
    metadata = read_settings(fields, "metadata")
    losses.add_rest(metadata, ("user_id",), "metadata")
    if user := read_optional(metadata, "user_id", "metadata", str):
        if len(user) > IDENTIFIER_CHARACTERS_MAX:
            user = hashlib.sha256(user.encode()).hexdigest()
        body["safety_identifier"] = user
    tier = read_optional(fields, "service_tier", "", str)
    if tier is None:
        return
    if tier in TIERS:
        body["service_tier"] = TIERS[tier]
    else:
        losses.add("service_tier unknown", "service_tier")


def _read_stop_sequences(fields: Fields) -> tuple[str, ...]:
    sequences = read_optional(fields, "stop_sequences", "", list)
    if sequences is None:
        return ()
    if len(sequences) > STOP_SEQUENCES_MAX:
        fail("stop_sequences", f"List should have at most {STOP_SEQUENCES_MAX} items")
    for number, each in enumerate(sequences):
        place = join("stop_sequences", number)
        if not isinstance(each, str):
            fail(place, "Input should be a valid string")
        if len(each) > STOP_CHARACTERS_MAX:
            fail(place, f"String should have at most {STOP_CHARACTERS_MAX} characters")
        if not each.strip():
            fail(place, "each stop sequence must contain non-whitespace")
    return tuple(sequences)
