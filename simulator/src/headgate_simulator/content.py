"""Readers of message contents: texts, pictures and audio of messages and items."""

from __future__ import annotations

from typing import Any, cast

from headgate_simulator import tokens

Item = dict[str, Any]

MESSAGE_TOKENS = 3
IMAGE_TOKENS = 85
AUDIO_TOKEN_CHARACTERS = 1000
_TEXTS = ("text", "refusal", "transcript", "arguments", "output", "input")


def rows(value: Any) -> list[Item]:
    """Return the objects of a list, or an empty list for anything else."""
    if not isinstance(value, list):
        return []
    return [cast(Item, row) for row in cast(list[Any], value) if isinstance(row, dict)]


def record(value: Any) -> Item:
    """Return the value if it is an object, otherwise an empty one."""
    return cast(Item, value) if isinstance(value, dict) else {}


def strings(value: Any) -> list[str]:
    """Return the value as a list of strings; a single string becomes a list of one."""
    if isinstance(value, list):
        return [str(each) for each in cast(list[Any], value)]
    return [value] if isinstance(value, str) else []


def text_of(content: Any) -> str:
    """Return all text of a message's content, its parts joined by line breaks."""
    if isinstance(content, str):
        return content
    parts = [
        next((part[n] for n in _TEXTS if isinstance(part.get(n), str)), "")
        for part in rows(content)
    ]
    return "\n".join(part for part in parts if part)


def last_user_text(messages: list[Item]) -> str:
    """Return the text of the last message of the user."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return text_of(message.get("content"))
    return ""


def sound_tokens(messages: list[Item]) -> int:
    """Count the tokens of input audio: one per 1,000 characters of base64, rounded up."""
    sounds = [
        str(record(part.get("input_audio")).get("data", ""))
        for message in messages
        for part in rows(message.get("content"))
        if part.get("type") == "input_audio"
    ]
    return sum(-(-len(sound) // AUDIO_TOKEN_CHARACTERS) for sound in sounds)


def message_tokens(message: Item) -> int:
    """Count the tokens of a message without its audio: 3, its texts, and 85 per picture."""
    content = message.get("content")
    pictures = sum("image" in str(part.get("type")) for part in rows(content))
    texts = [text_of(content), *(str(message.get(name) or "") for name in _TEXTS[3:])]
    for call in rows(message.get("tool_calls")):
        function = record(call.get("function") or call.get("custom"))
        texts += [str(function.get("name", "")), str(function.get("arguments", ""))]
    return MESSAGE_TOKENS + sum(map(tokens.count, texts)) + pictures * IMAGE_TOKENS
