"""Chat completions: `chat-completion` for agents, `create-chat-completion` for integrations."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict, cast

import msgspec

from headgate.connectors.model.action import ActionContext
from headgate.connectors.model.schema import SHORT_DESCRIPTION
from headgate.connectors.openai import provider_calls
from headgate.connectors.openai.model_rules import apply_chat_rules
from headgate.connectors.openai.models import AccountModelId

PATH = "/v1/chat/completions"
ChatModelId = Literal[
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1-mini",
    "gpt-4.1-nano",
    "o3-mini",
    "gpt-5.4-mini",
]
"""The five of the document, and one that followed them."""
SAMPLE_MESSAGES: tuple[dict[str, Any], ...] = (
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Who won the world series in 2020?"},
    {"role": "assistant", "content": "The Los Angeles Dodgers won the World Series in 2020."},
    {"role": "user", "content": "Where was it played?"},
)


class ChatTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant"]
    content: str


class ChatCompletionInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    messages: Annotated[
        tuple[ChatTurn, ...],
        msgspec.Meta(
            min_length=1,
            title="Messages",
            description="Objects with a role and a text. `system` sets behavior, `user` asks.",
            extra_json_schema={SHORT_DESCRIPTION: ""},
        ),
    ]
    model: Annotated[
        ChatModelId,
        msgspec.Meta(
            title="Model",
            description="The model to use.",
            extra_json_schema={SHORT_DESCRIPTION: ""},
        ),
    ] = "gpt-4o-mini"
    max_tokens: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            title="Maximum tokens",
            description="The most tokens that the answer may have; one is about 0.75 words.",
            extra_json_schema={SHORT_DESCRIPTION: ""},
        ),
    ] = 1024
    temperature: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=2,
            title="Temperature",
            description="Lower is more focused, higher more creative. Reasoning models ignore it.",
            extra_json_schema={SHORT_DESCRIPTION: ""},
        ),
    ] = 1.0


class ChatTokens(TypedDict, total=False):
    """Hold the usage of a chat completion, as OpenAI names it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatReply(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what the model said. `finish_reason` is `length` where the limit of tokens cut it."""

    content: str
    model: str
    finish_reason: str
    usage: dict[str, int]
    refusal: str | msgspec.UnsetType = msgspec.UNSET


class CreateChatCompletionInput(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    model: AccountModelId = "gpt-3.5-turbo"
    messages: Annotated[
        tuple[dict[str, Any], ...],
        msgspec.Meta(
            min_length=1,
            title="Messages",
            description="Messages, with the members of OpenAI's API.",
        ),
    ] = SAMPLE_MESSAGES
    temperature: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=2,
            title="Temperature",
            description="Higher values make the output more random, lower ones more focused.",
        ),
    ] = 1
    top_p: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=1,
            title="top_p",
            description="Consider only the tokens of this share of the probability mass.",
        ),
    ] = 1
    n: Annotated[
        int,
        msgspec.Meta(
            ge=1, le=128, title="Number of choices", description="How many choices to generate."
        ),
    ] = 1


class ChatMessageBody(TypedDict, total=False):
    role: str
    content: str | None
    refusal: str | None


class ChatChoiceBody(TypedDict, total=False):
    index: int
    message: ChatMessageBody
    finish_reason: str | None


class ChatCompletionBody(TypedDict, total=False):
    """Hold OpenAI's answer with all its members; these are the ones to rely on."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoiceBody]
    usage: ChatTokens


async def complete(context: ActionContext, given: ChatCompletionInput) -> ChatReply:
    fields = apply_chat_rules(msgspec.to_builtins(given))
    answer = await provider_calls.post(context, PATH, fields)
    body = provider_calls.convert(answer, ChatCompletionBody)
    choice = next(iter(body.get("choices", ())), ChatChoiceBody())
    message = choice.get("message", ChatMessageBody())
    return ChatReply(
        content=message.get("content") or "",
        model=body.get("model", given.model),
        finish_reason=choice.get("finish_reason") or "",
        usage=cast("dict[str, int]", body.get("usage", {})),
        refusal=message.get("refusal") or msgspec.UNSET,
    )


async def create(context: ActionContext, given: CreateChatCompletionInput) -> ChatCompletionBody:
    fields = apply_chat_rules(msgspec.to_builtins(given))
    return cast("ChatCompletionBody", await provider_calls.post(context, PATH, fields))
