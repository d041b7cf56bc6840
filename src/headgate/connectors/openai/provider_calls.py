"""Send what an action asks of OpenAI through the call pipeline, and read the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import msgspec

from headgate.connectors.model.action import ActionAnswer, ActionContext
from headgate.connectors.model.errors import ToolError
from headgate.connectors.openai.refusals import make_refusal
from headgate.kit.errors import Kind
from headgate.llm.convert.fields import UnreadableResponseError, decode_answer

JSON_HEADERS = {"content-type": "application/json", "accept": "application/json"}
NO_HEADERS: Mapping[str, str] = {}


class UnreadableAnswerError(ToolError):
    """The provider answered with success, but with something else than a JSON object.

    Check the base URL of the credential. The call may have been charged; its receipt tells.
    """

    kind = Kind.UPSTREAM
    code = "unreadable_answer"
    recovery = "Do not retry: the call may have been charged. Tell the owner of the key."


Body = TypeVar("Body")


async def read(context: ActionContext, target: str) -> dict[str, Any]:
    """Return what OpenAI has at a target below `/v1`. Raise as `post`."""
    answer = await context.models.send(
        context.caller,
        "GET",
        target,
        headers=NO_HEADERS,
        credential=context.connection,
        timeout_seconds=context.timeout_seconds,
    )
    return read_answer(answer)


async def post(context: ActionContext, target: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return OpenAI's answer to a JSON object.

    Raise `ProviderRefusedError`, `CallRefusedError` for what the gateway refused,
    `UnreadableAnswerError` and `ActionTimedOutError`.
    """
    answer = await context.models.send(
        context.caller,
        "POST",
        target,
        headers=JSON_HEADERS,
        body=msgspec.json.encode(fields),
        credential=context.connection,
        idempotency_key=context.idempotency_key,
        timeout_seconds=context.timeout_seconds,
    )
    return read_answer(answer)


def read_answer(answer: ActionAnswer) -> dict[str, Any]:
    if answer.is_failure:
        raise make_refusal(answer)
    try:
        body = decode_answer(answer.body)
    except UnreadableResponseError as error:
        raise UnreadableAnswerError(str(error)) from None
    if not isinstance(body, dict):
        raise UnreadableAnswerError("The provider's answer is not a JSON object.")
    return cast("dict[str, Any]", body)


def convert(body: dict[str, Any], kind: type[Body]) -> Body:
    """Return an answer as a type. Raise `UnreadableAnswerError`."""
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise UnreadableAnswerError(
            f"The provider's answer is not as documented: {error}."
        ) from error
