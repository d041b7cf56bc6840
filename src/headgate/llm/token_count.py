"""Count the input tokens of a request of Responses, as OpenAI would.

Texts are counted by a tokenizer, and what stands around messages and tools by the rules that
OpenAI's cookbook gives ("How to count tokens with tiktoken"). Nested schemas are counted as flat
ones are. Pictures have `llm.pictures`, documents `llm.documents`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec

from headgate.llm.documents import PAGE_SIZE, measure_document
from headgate.llm.pictures import PICTURE_HEAD_BYTES, find_rule, find_size

CountText = Callable[[str], int]
Fields = Mapping[str, Any]
PER_MESSAGE, PER_REPLY = 3, 3
FUNCTION, FUNCTIONS_END, PROPERTIES, PROPERTY, ENUM, ENUM_VALUE = 7, 12, 3, 3, -3, 3
CHARACTERS_PER_TOKEN = 4
COUNTED_CHARACTERS_MAX = 4_000_000
"""Further text is estimated. No model's window has room for so much."""
STORED_FILE_TOKENS = 2_500
"""Stands for a file that only the provider has: a page of text with its picture."""
ENCRYPTED_CHARACTERS_PER_TOKEN = 5
"""Of reasoning that only the provider can read."""
PDF = b"%PDF-"
SUBSCHEMAS = ("properties", "$defs", "definitions", "patternProperties")
NESTED = ("items", "additionalProperties", "anyOf", "oneOf", "allOf", "prefixItems")


class TokenCounter:
    """Count the tokens of one request. `fetched` has what is at the addresses of its pictures and
    documents, as far as it could be read."""

    def __init__(
        self, model: str | None, count_text: CountText, fetched: Mapping[str, bytes] | None = None
    ) -> None:
        self._rule = find_rule(model)
        self._count_text = count_text
        self._fetched = fetched or {}
        self._characters = 0

    def count(self, body: Fields) -> int:
        """Return the input tokens of the body of a request."""
        total = PER_REPLY
        instructions = body.get("instructions")
        if isinstance(instructions, str):
            total += PER_MESSAGE + self._text("developer") + self._text(instructions)
        items = list_objects(body.get("input"))
        asked = max(
            (number for number, item in enumerate(items) if item.get("role") == "user"), default=-1
        )
        for number, item in enumerate(items):
            # A model is given the reasoning of the turn that it is in, and no older one.
            if item.get("type") != "reasoning" or number > asked:
                total += self._count_item(item)
        total += self._count_tools(list_objects(body.get("tools")))
        text = body.get("text")
        if isinstance(text, dict):
            total += self._text(msgspec.json.encode(text).decode())
        return total

    def _text(self, text: str) -> int:
        self._characters += len(text)
        if self._characters > COUNTED_CHARACTERS_MAX:
            return -(-len(text) // CHARACTERS_PER_TOKEN)
        return self._count_text(text)

    def _count_item(self, item: Fields) -> int:
        kind = item.get("type")
        if kind == "reasoning":
            return len(str(item.get("encrypted_content") or "")) // ENCRYPTED_CHARACTERS_PER_TOKEN
        if kind == "function_call":
            named = [str(item.get(name) or "") for name in ("name", "arguments")]
            return PER_MESSAGE + self._text("assistant") + sum(map(self._text, named))
        if kind == "function_call_output":
            return PER_MESSAGE + self._text("tool") + self._count_content(item.get("output"))
        role = str(item.get("role") or "user")
        return PER_MESSAGE + self._text(role) + self._count_content(item.get("content"))

    def _count_content(self, content: Any) -> int:
        if isinstance(content, str):
            return self._text(content)
        return sum(map(self._count_part, list_objects(content)))

    def _count_part(self, part: Fields) -> int:
        kind = part.get("type")
        if kind == "input_image":
            return self._count_picture(part)
        if kind == "input_file":
            return self._count_file(part)
        return self._text(str(part.get("text") or ""))

    def _count_picture(self, part: Fields) -> int:
        data = self._find_data(part.get("image_url"), PICTURE_HEAD_BYTES)
        size = None if data is None else find_size(data)
        return self._rule.count(size, str(part.get("detail") or "auto"))

    def _count_file(self, part: Fields) -> int:
        data = self._find_data(part.get("file_data") or part.get("file_url"))
        if data is None:
            return STORED_FILE_TOKENS
        total = self._text(str(part.get("filename") or ""))
        if not data.startswith(PDF):
            return total + self._text(data.decode("utf-8", "replace"))
        size = measure_document(data)
        text = -(-size.characters // CHARACTERS_PER_TOKEN)
        return total + text + size.pages * self._rule.count(PAGE_SIZE, "auto")

    def _find_data(self, address: Any, most: int | None = None) -> bytes | None:
        """Return the bytes that a data URL has, or that were fetched; None if they are unknown."""
        if not isinstance(address, str):
            return None
        if not address.startswith("data:"):
            return self._fetched.get(address)
        encoded = address.partition(",")[2]
        if most is not None:
            encoded = encoded[: most // 3 * 4]
        try:
            return base64.b64decode(encoded + "=" * (-len(encoded) % 4))
        except (binascii.Error, ValueError):
            return None

    def _count_tools(self, tools: Iterable[Fields]) -> int:
        functions = [tool for tool in tools if tool.get("type") == "function"]
        if not functions:
            return 0
        return FUNCTIONS_END + sum(map(self._count_function, functions))

    def _count_function(self, function: Fields) -> int:
        line = f"{function.get('name')}:{describe(function)}"
        return FUNCTION + self._text(line) + self._count_schema(function.get("parameters"))

    def _count_schema(self, schema: Any) -> int:
        """Return the tokens of all properties of a schema, and of those nested in it."""
        if isinstance(schema, list):
            return sum(map(self._count_schema, cast("list[Any]", schema)))
        if not isinstance(schema, dict):
            return 0
        fields = cast("Fields", schema)
        total = 0
        for group in SUBSCHEMAS:
            properties = fields.get(group)
            if isinstance(properties, dict) and properties:
                named = cast("Mapping[str, Any]", properties)
                total += PROPERTIES
                total += sum(self._count_property(name, each) for name, each in named.items())
        return total + sum(self._count_schema(fields.get(name)) for name in NESTED)

    def _count_property(self, name: str, schema: Any) -> int:
        if not isinstance(schema, dict):
            return PROPERTY + self._text(name)
        fields = cast("Fields", schema)
        total = PROPERTY + self._text(f"{name}:{fields.get('type', '')}:{describe(fields)}")
        values = fields.get("enum")
        if isinstance(values, list):
            listed = [str(each) for each in cast("list[Any]", values)]
            total += ENUM + sum(ENUM_VALUE + self._text(each) for each in listed)
        return total + self._count_schema(fields)


def describe(fields: Fields) -> str:
    return str(fields.get("description") or "").removesuffix(".")


def list_objects(value: Any) -> list[Fields]:
    """Return the objects of a list; empty for anything else."""
    if not isinstance(value, list):
        return []
    return [cast("Fields", each) for each in cast("list[Any]", value) if isinstance(each, dict)]
