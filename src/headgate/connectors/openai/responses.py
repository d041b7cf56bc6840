"""`create-response`: a text through OpenAI's Responses API."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict, cast

import msgspec

from headgate.connectors.model.action import ActionContext
from headgate.connectors.openai import provider_calls
from headgate.connectors.openai.models import AccountModelId

PATH = "/v1/responses"


class CreateResponseInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    input: Annotated[
        str,
        msgspec.Meta(min_length=1, title="Input", description="The input text to process."),
    ]
    model: AccountModelId = "gpt-4.1"


class ResponseTokens(TypedDict, total=False):
    input_tokens: int
    output_tokens: int
    total_tokens: int


class ResponseBody(TypedDict, total=False):
    """Hold OpenAI's answer with all its members; these are the ones to rely on."""

    id: str
    object: str
    created_at: float
    status: str
    model: str
    output: list[dict[str, Any]]
    usage: ResponseTokens | None


async def create(context: ActionContext, given: CreateResponseInput) -> ResponseBody:
    fields = msgspec.to_builtins(given)
    return cast("ResponseBody", await provider_calls.post(context, PATH, fields))
