"""Reads what a conversation holds: texts, pictures and sounds of messages and items."""

from __future__ import annotations

from typing import Any, cast

from headgate_simulator import tokens

Item = dict[str, Any]

MESSAGE_TOKENS = 3
IMAGE_TOKENS = 85
AUDIO_TOKEN_CHARACTERS = 1000
_TEXTS = ("text", "refusal", "transcript", "arguments", "output", "input")


def rows(value: Any) -> list[Item]:
    """The objects of a list (or nothing, when it is no list of objects)."""
    if not isinstance(value, list):
        return []
    return [cast(Item, row) for row in cast(list[Any], value) if isinstance(row, dict)]


def record(value: Any) -> Item:
    """The value when it is an object, else an empty one."""
    return cast(Item, value) if isinstance(value, dict) else {}


def strings(value: Any) -> list[str]:
    """The value as a list of strings; one string stands for a list of one."""
    if isinstance(value, list):
        return [str(each) for each in cast(list[Any], value)]
    return [value] if isinstance(value, str) else []


def text_of(content: Any) -> str:
    """All text of a message's content, parts joined by line breaks."""
    if isinstance(content, str):
        return content
    parts = [
        next((part[n] for n in _TEXTS if isinstance(part.get(n), str)), "")
        for part in rows(content)
    ]
    return "\n".join(part for part in parts if part)


def last_user_text(messages: list[Item]) -> str:
    """What the user said last."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return text_of(message.get("content"))
    return ""


def sound_tokens(messages: list[Item]) -> int:
    """Input audio: one token per thousand characters of base64, rounded up."""
    sounds = [
        str(record(part.get("input_audio")).get("data", ""))
        for message in messages
        for part in rows(message.get("content"))
        if part.get("type") == "input_audio"
    ]
    return sum(-(-len(sound) // AUDIO_TOKEN_CHARACTERS) for sound in sounds)


def message_tokens(message: Item) -> int:
    """Tokens of one message without its sounds: 3, its texts, 85 for each picture."""
    content = message.get("content")
    pictures = sum("image" in str(part.get("type")) for part in rows(content))
    texts = [text_of(content), *(str(message.get(name) or "") for name in _TEXTS[3:])]
    for call in rows(message.get("tool_calls")):
        function = record(call.get("function") or call.get("custom"))
        texts += [str(function.get("name", "")), str(function.get("arguments", ""))]
    return MESSAGE_TOKENS + sum(map(tokens.count, texts)) + pictures * IMAGE_TOKENS
