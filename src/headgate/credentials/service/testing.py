"""Tests a credential with the one small call that its integration's manifest describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.credentials.model.integration import CredentialTestCall
from headgate.kit.http.errors import EgressError
from headgate.kit.http.message import Client, Request, Timeouts
from headgate.kit.log import mask_text
from headgate.llm import provider_errors
from headgate.relay.ports import Credential

ANSWER_BYTES_MAX = 1 << 20
EXCERPT_CHARACTERS_MAX = 300
CONTENT_TYPE = (b"content-type", b"application/json")
TIMEOUTS = Timeouts(
    connect_seconds=5.0, first_byte_seconds=30.0, idle_seconds=30.0, total_seconds=60.0
)


OLD_LIMIT_FIELD, NEW_LIMIT_FIELD = "max_tokens", "max_completion_tokens"
"""The field that current models refuse, and its replacement."""
LIMIT_MIN = 16
"""The smallest value that providers accept in the new field."""
INVALID_KEY_CODES = frozenset(
    {
        "api_key_invalid",
        "expired_api_key",
        "incorrect_api_key",
        "invalid_api_key",
        "invalid_authentication",
        "invalid_token",
        "token_expired",
        "unauthenticated",
    }
)
"""Error codes by which providers reject the key itself, whatever the status."""
VALID_KEY_CODES = frozenset(
    {
        "account_deactivated",
        "billing_not_active",
        "insufficient_permissions",
        "insufficient_quota",
        "invalid_organization",
        "invalid_project",
        "ip_not_authorized",
        "mismatched_organization",
        "mismatched_project",
        "missing_scope",
    }
)
"""Error codes of a 401 that do not mean that the key is invalid."""
TRANSIENT_STATUS_CODES = frozenset({408, 425})
NOT_FOUND = 404


class CredentialTestResult(msgspec.Struct, frozen=True):
    """Hold the verdict on a credential. `status` is 0 if the provider did not answer. `is_valid` is
    False if the provider rejects the key, and None if its answer does not show it."""

    is_valid: bool | None
    message: str
    status: int


class CredentialTestOutcome(msgspec.Struct, frozen=True):
    """Hold a result with its call: answer body, transport error, and the number of requests."""

    result: CredentialTestResult
    body: bytes = b""
    error: EgressError | None = None
    calls: int = 1

    def __repr__(self) -> str:
        return f"CredentialTestOutcome({self.result})"


async def run_credential_test(
    client: Client, credential: Credential, call: CredentialTestCall
) -> CredentialTestResult:
    """Make the call and judge the answer. No answer and no failure of the provider raises."""
    return (await send_test_call(client, credential, call)).result


async def send_test_call(
    client: Client, credential: Credential, call: CredentialTestCall
) -> CredentialTestOutcome:
    """Make the call, and return the answer as well, so that it can be metered.

    Send it once more with `max_completion_tokens` if the provider answers 400 and names
    `max_tokens`.
    """
    made = await _send(client, credential, call, call.body)
    if made.result.status == 400 and OLD_LIMIT_FIELD in call.body and _refuses_limit(made.body):
        again = await _send(client, credential, call, _rename_limit(call.body))
        return msgspec.structs.replace(again, calls=2)
    return made


async def _send(
    client: Client, credential: Credential, call: CredentialTestCall, asked: Mapping[str, Any]
) -> CredentialTestOutcome:
    request = Request(
        origin=credential.origin,
        method=call.method.encode(),
        target=credential.base_path + call.path.encode(),
        headers=[*credential.headers, *((CONTENT_TYPE,) if asked else ())],
        body=msgspec.json.encode(asked) if asked else b"",
        timeouts=TIMEOUTS,
        purpose=credential.purpose,
    )
    try:
        response = await client.send(request)
        body = await response.read(ANSWER_BYTES_MAX)
    except EgressError as error:
        message = f"{credential.origin} did not answer: {error}"
        return CredentialTestOutcome(CredentialTestResult(None, message, 0), error=error)
    return CredentialTestOutcome(_judge(credential, call, response.status, body=body), body)


def _refuses_limit(body: bytes) -> bool:
    return OLD_LIMIT_FIELD.encode() in body


def _rename_limit(asked: Mapping[str, Any]) -> dict[str, Any]:
    limit = asked[OLD_LIMIT_FIELD]
    if isinstance(limit, int):
        limit = max(limit, LIMIT_MIN)
    return {
        NEW_LIMIT_FIELD if name == OLD_LIMIT_FIELD else name: limit
        if name == OLD_LIMIT_FIELD
        else value
        for name, value in asked.items()
    }


def _judge(
    credential: Credential, call: CredentialTestCall, status: int, *, body: bytes
) -> CredentialTestResult:
    if status not in call.status_codes:
        excerpt = body.replace(credential.secret, b"...").decode("utf-8", "replace")
        shown = mask_text(excerpt[:EXCERPT_CHARACTERS_MAX])
        is_valid = _judge_refusal(status, body)
        return CredentialTestResult(
            is_valid, f"{credential.origin} {VERDICT_TEXTS[is_valid] % status}: {shown}", status
        )
    try:
        answer = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return CredentialTestResult(
            None, f"{credential.origin} answered {status}, but not in JSON.", status
        )
    missing = [field for field in call.response_fields if field not in answer]
    if missing:
        message = f"{credential.origin} answered {status}, but without {', '.join(missing)}."
        return CredentialTestResult(_judge_refusal(status, body), message, status)
    return CredentialTestResult(True, f"{credential.origin} accepts it.", status)


VERDICT_TEXTS = {
    False: "answered %d",
    True: "accepts the key, but answered the test call with %d",
    None: "answered %d, which does not show whether the key is valid",
}


def _judge_refusal(status: int, body: bytes) -> bool | None:
    """Tell whether the key is valid although the call was refused; None if unknown.

    Only an explicit answer about the key makes it invalid. An error about a rate, a quota, a
    region, a permission, a model or a field comes from a provider that knows the key.
    """
    fault = provider_errors.classify(status, body)
    codes = {fault.code.lower(), fault.type.lower()}
    if not codes.isdisjoint(INVALID_KEY_CODES) or b"API_KEY_INVALID" in body:
        return False
    if status == 401:
        return not codes.isdisjoint(VALID_KEY_CODES)
    if status >= 500 or status < 400 or status in TRANSIENT_STATUS_CODES:
        return None
    if status == NOT_FOUND and "model" not in fault.code:
        return None
    return True if fault.message or fault.code else None
