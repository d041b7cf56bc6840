"""Turn a refused model call into the error of an action, with what to do next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from headgate.connectors.model.action import ActionAnswer
from headgate.connectors.model.errors import CallRefusedError, ProviderRefusedError
from headgate.kit.errors import Kind
from headgate.llm.convert.fields import (
    UnreadableResponseError,
    as_object,
    decode_answer,
    read_object,
)
from headgate.llm.provider_errors import CREDENTIAL_REJECTED, ErrorCategory, classify

SOURCE_HEADER = "x-headgate-error-source"
GATEWAY = "gateway"
KINDS = {kind.value: kind for kind in Kind}

_NEW_KEY = (
    "The provider does not accept the stored API key. Do not retry. Call `setup_integration` for "
    "`openai` with a valid key, or ask the owner of the account."
)
_SET_UP = "Call `setup_integration` for `openai` with an API key, or ask somebody who may."
_CONNECTION = "Leave `connection` out, or name a credential of the organization that is valid."
_MODEL = "Use a model that `list-models` (the tool `openai_list_models`) returns."
_SHORTER = "Send less text, ask for fewer tokens, or use a model with a larger context."
_REWORD = "The provider rejects the content. Word it differently; the same request fails again."

_RUNNING = "The same call still runs. Wait some seconds and make it again, to get its answer."
_RUN_ANEW = (
    "The same call was made before, and is billed if it was answered. To run it again, and to pay "
    "again, use `call_tool` with `repeat`, or another `Idempotency-Key` over HTTP."
)

RECOVERY_BY_CODE: Mapping[str, str] = {
    CREDENTIAL_REJECTED: _NEW_KEY,
    "invalid_api_key": _NEW_KEY,
    "credential_missing": _SET_UP,
    "credential_unusable": _CONNECTION,
    "model_not_found": _MODEL,
    "context_length_exceeded": _SHORTER,
    "string_above_max_length": _SHORTER,
    "content_filter": _REWORD,
    "content_policy_violation": _REWORD,
    "moderation_blocked": _REWORD,
    "idempotency_key_in_use": _RUNNING,
    "idempotent_answer_missing": _RUN_ANEW,
    "idempotency_outcome_unknown": _RUN_ANEW,
    "model_unpriced": "Use a model whose price is known, such as `gpt-image-1` for images.",
}
"""By the code of the error, of the provider or of the gateway."""
RECOVERY_BY_CATEGORY: Mapping[ErrorCategory, str] = {
    ErrorCategory.RATE: "Wait half a minute, then try again.",
    ErrorCategory.QUOTA: (
        "The account at the provider has no credit left. Do not retry; tell its owner."
    ),
    ErrorCategory.AUTH: "The key or the account may not do this. Do not retry; ask its owner.",
    ErrorCategory.CLIENT: "Correct what the message names, then call again.",
    ErrorCategory.SERVER: "The provider failed. Try again in half a minute, at most three times.",
}
RECOVERY_BY_KIND: Mapping[Kind, str] = {
    Kind.UNPAID: (
        "A budget, the plan or the wallet does not cover the call. Do not retry. Ask for less "
        "output, or tell the owner of the key."
    ),
    Kind.FORBIDDEN: "This key may not do it. Do not retry; ask its owner.",
}
"""What the gateway itself refused, where the category would speak of the provider."""


def make_refusal(answer: ActionAnswer) -> CallRefusedError | ProviderRefusedError:
    """Return the error of an answer with a status of failure."""
    found = classify(answer.status, answer.body)
    data = _decode(answer.body)
    param = _read_param(data)
    message = found.message or f"The provider answered {answer.status} without a message."
    recovery = RECOVERY_BY_CODE.get(found.code) or RECOVERY_BY_CATEGORY[found.category]
    refused: CallRefusedError | ProviderRefusedError
    if answer.headers.get(SOURCE_HEADER) == GATEWAY:
        kind = KINDS.get(answer.status, Kind.UPSTREAM)
        refused = CallRefusedError(message, kind=kind, code=found.code, param=param)
        recovery = RECOVERY_BY_KIND.get(kind, recovery)
    else:
        refused = ProviderRefusedError(message, status=answer.status, data=data, param=param)
    refused.recovery = recovery
    seconds = refused.retry_after_seconds = answer.find_wait()
    if seconds is not None and found.category is ErrorCategory.RATE:
        refused.recovery = f"Wait {math.ceil(seconds)} seconds, then try again."
    return refused


def _decode(body: bytes) -> Any:
    try:
        return decode_answer(body)
    except UnreadableResponseError:
        return body.decode("utf-8", "replace")


def _read_param(data: Any) -> str | None:
    param = read_object(as_object(data), "error").get("param")
    return param if isinstance(param, str) else None
