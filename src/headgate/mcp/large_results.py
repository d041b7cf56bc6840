"""Set results aside that are too long for a conversation: the agent gets a handle to read on."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterable
from typing import Any, cast

import msgspec
import structlog

from headgate.connectors.model.action import HandleStore
from headgate.connectors.model.tool import ToolCall, ToolContent, ToolResult
from headgate.kit.errors import HeadgateError
from headgate.kit.tokenizer import Tokenizer

BYTES_PER_TOKEN_MAX = 12
"""A text with more bytes for each token of the limit is over it; counting it would take long."""
DEPTH_MAX = 100
"""The SDK writes no result of more than 250 levels, and clients may read less."""
PREVIEW_CHARACTERS = 2_000
JSON, TEXT = "application/json", "text/plain"
HANDLE, CUT = "result_handle", "result_cut"

log = structlog.get_logger(__name__)
_tokenizer = Tokenizer()


async def set_aside(
    handles: HandleStore, call: ToolCall, result: ToolResult, *, tokens_max: int
) -> ToolResult:
    """Return the result, or one with a handle in its place. Pictures and audio are no text, and
    stay; so does an error."""
    if result.error is not None:
        return result
    text, media_type = read_text(result)
    if await is_longer(text, tokens_max):
        reason = f"longer than {tokens_max} tokens"
    elif is_deeper(result.structured, DEPTH_MAX):
        reason = f"nested deeper than {DEPTH_MAX} levels"
    else:
        return result
    name = f"{call.name}.json" if media_type == JSON else f"{call.name}.txt"
    try:
        handle = await handles.put(call.caller, text.encode(), media_type, name)
    except HeadgateError as error:
        return cut(result, text, error, reason=reason, characters_max=tokens_max)
    described = {
        "id": handle.id,
        "media_type": handle.media_type,
        "bytes": handle.bytes,
        "expires_at": format_time(handle.expires_at),
    }
    note = (
        f"The result is {reason}, so it was set aside. Read it with read_result, in pieces: handle "
        f"{handle.id}, {handle.bytes} bytes. It begins:\n"
        f"{text[:PREVIEW_CHARACTERS]}"
    )
    return replace_text(result, {HANDLE: described}, note)


def cut(
    result: ToolResult, text: str, error: HeadgateError, *, reason: str, characters_max: int
) -> ToolResult:
    """Return the beginning of a result that cannot be kept. The call was made and maybe billed, so
    that an error would only make the agent pay again."""
    log.warning("mcp.result_cut", code=error.code)
    described = {"bytes": len(text.encode()), "code": error.code, "reason": error.message}
    note = (
        f"The call succeeded. Its result is {reason}, and could not be set aside: {error.message} "
        f"Only its beginning is here:\n{text[:characters_max]}"
    )
    return replace_text(result, {CUT: described}, note)


def format_time(seconds: float) -> str:
    """Return a time in unix seconds as agents read it: `2026-11-30T17:04:41Z`."""
    moment = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")


def replace_text(result: ToolResult, structured: dict[str, Any], note: str) -> ToolResult:
    others = tuple(each for each in result.content if each.type != "text")
    block = ToolContent(type="text", fields={"text": note})
    return ToolResult(structured=structured, content=(block, *others))


def read_text(result: ToolResult) -> tuple[str, str]:
    """Return the text of a result, and its media type."""
    if result.structured is not None:
        return msgspec.json.encode(result.structured).decode(), JSON
    texts: list[Any] = [each.fields.get("text", "") for each in result.content]
    return "\n".join(str(each) for each in texts if each), TEXT


async def is_longer(text: str, tokens_max: int) -> bool:
    """Return whether a text has more tokens. Most are so short that nothing is counted: a token has
    a byte at least."""
    size = len(text.encode())
    if size <= tokens_max or size > tokens_max * BYTES_PER_TOKEN_MAX:
        return size > tokens_max
    return await asyncio.to_thread(_tokenizer.count, text) > tokens_max


def is_deeper(value: object, depth_max: int) -> bool:
    """Return whether a value of JSON has more levels."""
    level = [value]
    for _ in range(depth_max + 1):
        level = [child for each in level for child in _list_children(each)]
        if not level:
            return False
    return True


def _list_children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return cast("dict[str, object]", value).values()
    return cast("list[object]", value) if isinstance(value, list) else ()
