"""Refuse what Responses cannot be asked for."""

from __future__ import annotations

from typing import NoReturn

from headgate.llm.convert.openai_validation import to_param
from headgate.llm.request import InvalidRequestError


class NotInResponsesError(InvalidRequestError):
    """The model answers by Responses only, and the request asks for something that only a chat
    completion can be.

    Leave it out, as the message says, or use a model that answers chat completions.
    """

    code = "unsupported_on_responses"


def refuse(place: str, remedy: str) -> NoReturn:
    """Raise `NotInResponsesError` for a place."""
    param = to_param(place)
    raise NotInResponsesError(
        f"'{param}' has no counterpart in Responses, which is all that this model answers by. "
        f"{remedy}",
        param=param,
        should_retry=False,
    )
