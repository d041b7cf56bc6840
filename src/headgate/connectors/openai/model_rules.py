"""What OpenAI's models take, as data: of chat completions by families of ids, of images by model.

Actions have the fields of their documents. A model that refuses one of them gets the request that
it understands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec


class ChatRules(msgspec.Struct, frozen=True):
    """Say which fields of a chat completion a family of models refuses or names differently."""

    ids: re.Pattern[str]
    refused: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = {}


CHAT_RULES = (
    # Models that search the web: `gpt-4o-search-preview`, `gpt-5-search-api`.
    ChatRules(re.compile(r".*-search-"), refused=frozenset({"temperature", "top_p", "n"})),
    # Models that reason: `o3-mini`, `gpt-5.4`, but not `gpt-5-chat-latest`.
    ChatRules(
        re.compile(r"o\d|gpt-5(?!.*chat)|gpt-[6-9]|codex-|computer-use"),
        refused=frozenset({"temperature", "top_p"}),
        renamed={"max_tokens": "max_completion_tokens"},
    ),
)
"""The first whose pattern matches counts; no other model has rules."""
NO_RULES = ChatRules(re.compile(r"(?!)"))
FINE_TUNED = "ft:"


def find_chat_rules(model: str) -> ChatRules:
    """Return the rules of a model. Its id may have the name of a credential in front, as in
    `work/o3-mini`, or be that of a fine-tuned model."""
    plain = model.rpartition("/")[2].removeprefix(FINE_TUNED)
    return next((rules for rules in CHAT_RULES if rules.ids.match(plain)), NO_RULES)


def apply_chat_rules(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a chat completion that its model takes."""
    rules = find_chat_rules(fields["model"])
    return {
        rules.renamed.get(name, name): value
        for name, value in fields.items()
        if name not in rules.refused
    }


class ImageRules(msgspec.Struct, frozen=True, kw_only=True):
    """Say what a model for images takes.

    `qualities` are those of the action and what is sent for each, None for nothing; `replaced` are
    sizes of the action that the model does not make, and what it makes instead.
    """

    sizes: frozenset[str]
    qualities: Mapping[str, str | None]
    images_max: int
    replaced: Mapping[str, str] = {}
    takes_style: bool = False
    takes_response_format: bool = False
    """Whether it can answer with an address. One that cannot answers with base64."""


DALL_E_3 = ImageRules(
    sizes=frozenset({"1024x1024", "1024x1792", "1792x1024"}),
    qualities={"standard": "standard", "hd": "hd"},
    images_max=1,
    takes_style=True,
    takes_response_format=True,
)
GPT_IMAGE = ImageRules(
    sizes=frozenset({"1024x1024", "1024x1536", "1536x1024", "auto"}),
    qualities={"standard": None, "low": "low", "medium": "medium", "high": "high"},
    images_max=4,
    # The document promises them; the models make nothing smaller than the first size above.
    replaced={"256x256": "1024x1024", "512x512": "1024x1024"},
)
IMAGE_RULES: Mapping[str, ImageRules] = {
    "dall-e-3": DALL_E_3,
    "gpt-image-1": GPT_IMAGE,
    "gpt-image-2": GPT_IMAGE,
}
"""By the models that the action offers."""
