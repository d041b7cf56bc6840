"""Refuse what Chat Completions cannot be asked for."""

from __future__ import annotations

from typing import NoReturn

from headgate.llm.convert.openai_validation import to_param
from headgate.llm.request import InvalidRequestError


class NotInChatCompletionsError(InvalidRequestError):
    """The model is served by a provider that only has Chat Completions, and the request needs
    something that only Responses has.

    Leave it out, as the message says, or use a model whose provider has the Responses API.
    """

    code = "unsupported_on_chat_completions"


def refuse(place: str, remedy: str) -> NoReturn:
    """Raise `NotInChatCompletionsError` for a place."""
    param = to_param(place)
    raise NotInChatCompletionsError(
        f"'{param}' has no counterpart in Chat Completions, which is all that the provider of this "
        f"model serves. {remedy}",
        param=param,
        should_retry=False,
    )
