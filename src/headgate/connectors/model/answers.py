"""Read the answers of plain HTTP services."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from headgate.connectors.model.action import ActionAnswer
from headgate.connectors.model.errors import ProviderRefusedError

EXCERPT_CHARACTERS_MAX = 500
RECOVERY_BY_STATUS = {
    401: "The stored secret is not accepted. Do not retry; store a valid one by setting the "
    "integration up again, or ask the owner of the account.",
    403: "The account may not do this. Do not retry; ask its owner.",
    404: "Check the names in the input.",
    429: "The account's limit is reached. Wait a minute, then try again.",
}
"""What to do next, by the status of an answer."""


def read_object(answer: ActionAnswer, service: str) -> dict[str, Any]:
    """Return the JSON object of an answer. Raise `ProviderRefusedError`, also for an answer that is
    no object. `service` is its name for people."""
    data = _decode(answer.body)
    if answer.is_failure:
        raise make_refusal(answer, service, data)
    if not isinstance(data, dict):
        message = f"{service} answered {answer.status}, but not with a JSON object."
        raise ProviderRefusedError(message, status=answer.status)
    return cast("dict[str, Any]", data)


def make_refusal(answer: ActionAnswer, service: str, data: Any) -> ProviderRefusedError:
    """Return the error of an answer whose status is one of failure."""
    said = _find_message(data) or answer.body[:EXCERPT_CHARACTERS_MAX].decode("utf-8", "replace")
    error = ProviderRefusedError(
        f"{service} answered {answer.status}: {said}", status=answer.status, data=data
    )
    error.recovery = RECOVERY_BY_STATUS.get(answer.status)
    error.retry_after_seconds = answer.find_wait()
    return error


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _find_message(data: Any) -> str:
    """Return the sentence of an error in the usual members of a JSON object; empty without one."""
    found = data
    for _ in range(3):
        if isinstance(found, str):
            return found[:EXCERPT_CHARACTERS_MAX]
        if not isinstance(found, dict):
            return ""
        members = cast("dict[str, Any]", found)
        names = ("message", "detail", "error_description", "error", "title")
        found = next((members[name] for name in names if members.get(name)), None)
    return ""
