"""Take reasoning that a chat server has shown out of a request for OpenAI's Responses.

A conversation may be answered by a server of Chat Completions first, and by OpenAI next. The
reasoning of the former has no form that OpenAI could decrypt, and is refused there.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec.structs import replace

from headgate.llm import json_members
from headgate.llm.convert.responses_to_chat.items import REASONING_FIELDS, REASONING_PREFIX
from headgate.llm.request import JsonRequest

MARK = f'"{REASONING_PREFIX}reasoning'.encode()
"""Is in every request that has such reasoning."""
_FORMS = frozenset(REASONING_PREFIX + field for field in REASONING_FIELDS)


def cut_reasoning_text(request: JsonRequest) -> JsonRequest:
    """Return a Responses request without reasoning items that a chat server has shown."""
    items = msgspec.json.decode(request.fields.get("input", b"null"))
    if not isinstance(items, list):
        return request
    kept = [item for item in cast("list[Any]", items) if not _is_shown(item)]
    body = json_members.put(request.body, "input", msgspec.json.encode(kept))
    return replace(request, body=body)


def _is_shown(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    fields = cast("dict[str, Any]", item)
    return fields.get("type") == "reasoning" and fields.get("encrypted_content") in _FORMS
