"""Sends any request to the connection's provider, with the caller's own retries."""

from __future__ import annotations

import asyncio
import base64
import binascii
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from headgate.connectors.model.action import ActionAnswer, ActionContext
from headgate.connectors.model.errors import (
    ActionTimedOutError,
    InvalidInputError,
    ProviderRefusedError,
)
from headgate.connectors.model.raw_answer import (
    BinaryData,
    RawResponse,
    describe_answer,
    describe_request,
    read_data,
)
from headgate.connectors.model.raw_request import (
    CONTENT_TYPE,
    IDEMPOTENCY_KEY,
    FileContent,
    FileEntry,
    RawRequestInput,
    build_data,
    build_headers,
    build_parts,
    build_target,
    check_body,
    check_form_size,
)
from headgate.connectors.model.retries import RetryRules
from headgate.connectors.model.tool import ToolContent, ToolResult
from headgate.connectors.openai.refusals import make_refusal
from headgate.kit.errors import HeadgateError
from headgate.kit.form_body import write_form
from headgate.llm import provider_errors
from headgate.llm.headers import HOP_BY_HOP

ONE_ATTEMPT: Mapping[str, str] = {"x-headgate-retries": "0"}
"""The caller says how often the request is tried, so the gateway does not try again by itself."""

SHOWN_HEADERS = frozenset(
    {
        *("content-type", "location", "retry-after", "x-request-id"),
        *("x-headgate-cost", "x-headgate-request-id"),
    }
)
"""What agents see of the headers of an answer."""

log = structlog.get_logger(__name__)


class Timing(msgspec.Struct, frozen=True):
    """Hold the clocks, the wait and the chance of retries; tests have their own."""

    monotonic: Callable[[], float] = time.monotonic
    unix_time: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random


TIMING = Timing()


class PreparedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the request that every attempt sends. `overridden` are the headers of the input that the
    connection has itself."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    overridden: list[str]
    timeout_seconds: float


async def send(
    context: ActionContext, given: RawRequestInput, timing: Timing = TIMING
) -> RawResponse:
    """Return the provider's answer. The time-out spans all attempts and the waits between them.

    Raise `InvalidInputError`, `ProviderRefusedError` or `CallRefusedError` for the last answer of
    several that failed, and `ActionTimedOutError`.
    """
    request = await prepare(context, given)
    answer, attempts = await send_until_done(context, request, read_rules(given), timing)
    debug: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    if given.debug_request:
        debug = describe(request, answer, attempts)
        log.info("connector.raw_request", request_id=context.request_id, **debug)
    if not is_success(answer):
        raise refuse(answer, len(attempts))
    return RawResponse(
        data=read_data(given.response_type, answer.headers, answer.body),
        status=answer.status,
        headers=list_headers(answer),
        debug=debug,
    )


async def prepare(context: ActionContext, given: RawRequestInput) -> PreparedRequest:
    """Build the request. Raise `InvalidInputError`, and what a handle is refused with."""
    target = build_target(given.url, given.query_parameters)
    headers, overridden = build_headers(given.headers)
    check_body(given)
    if given.form_data or given.file_data:
        boundary = f"headgate-{secrets.token_hex(16)}"
        parts = build_parts(given, await read_files(context, given.file_data))
        body = write_form(parts, boundary)
        headers[CONTENT_TYPE] = f"multipart/form-data; boundary={boundary}"
    else:
        body, content_type = build_data(given.data)
        if content_type:
            headers.setdefault(CONTENT_TYPE, content_type)
    return PreparedRequest(
        method=given.method,
        target=target,
        headers=headers,
        body=body,
        overridden=overridden,
        timeout_seconds=context.timeout_seconds,
    )


async def read_files(
    context: ActionContext, entries: Sequence[FileEntry]
) -> list[tuple[str, bytes, str | None]]:
    """Return key, content and media type of each file. Raise `InvalidInputError` for more bytes
    than a form may have, before the rest is read: one handle may be named a hundred times."""
    files: list[tuple[str, bytes, str | None]] = []
    for entry in entries:
        check_form_size(sum(len(content) for _, content, _ in files))
        value = entry.value
        if isinstance(value, str):
            files.append((entry.key, value.encode(), None))
        else:
            files.append((entry.key, *await read_content(context, value, entry.key)))
    return files


async def read_content(
    context: ActionContext, value: FileContent, key: str
) -> tuple[bytes, str | None]:
    if (value.data is None) is (value.handle is None):
        message = f"The file {key!r} has either `data` or `handle`."
        raise InvalidInputError(message, param="fileData")
    if value.handle is not None:
        info, content = await context.handles.get(context.caller, value.handle)
        return content, value.content_type or info.media_type
    try:
        text = "".join((value.data or "").split())
        return base64.b64decode(text, validate=True), value.content_type
    except (binascii.Error, ValueError):
        message = f"The file {key!r} is no base64. Give text as a string, without an object."
        raise InvalidInputError(message, param="fileData") from None


def read_rules(given: RawRequestInput) -> RetryRules:
    return RetryRules(
        given.retries_max, given.retry_delay / 1000, given.retry_all_errors, given.uses_backoff
    )


async def send_until_done(
    context: ActionContext, request: PreparedRequest, rules: RetryRules, timing: Timing
) -> tuple[ActionAnswer, list[dict[str, Any]]]:
    """Return the last answer, and what is shown of each attempt. There is no wait beyond the
    time-out: the last answer tells more than a time-out would."""
    ends_at = timing.monotonic() + request.timeout_seconds
    attempts: list[dict[str, Any]] = []
    while True:
        answer = await send_once(context, request, ends_at - timing.monotonic())
        attempts.append({"status": answer.status})
        wait = None
        if not is_success(answer) and len(attempts) <= rules.retries_max:
            wait = find_wait(rules, len(attempts), answer, timing)
        if wait is None or timing.monotonic() + wait >= ends_at:
            return answer, attempts
        attempts[-1]["waitedMS"] = round(wait * 1000)
        await timing.sleep(wait)


async def send_once(
    context: ActionContext, request: PreparedRequest, rest_seconds: float
) -> ActionAnswer:
    """Make one attempt within the rest of the time. Raise `ActionTimedOutError`."""
    headers = {name: each for name, each in request.headers.items() if name != IDEMPOTENCY_KEY}
    try:
        return await context.models.send(
            context.caller,
            request.method,
            request.target,
            headers={**headers, **ONE_ATTEMPT},
            body=request.body,
            credential=context.connection,
            idempotency_key=request.headers.get(IDEMPOTENCY_KEY, context.idempotency_key),
            timeout_seconds=rest_seconds,
        )
    except ActionTimedOutError:
        milliseconds = round(request.timeout_seconds * 1000)
        message = f"The request was not answered within {milliseconds} ms."
        raise ActionTimedOutError(message, param="timeout") from None


def list_headers(answer: ActionAnswer) -> dict[str, str]:
    """Return the headers of an answer without those of the connection inside this process."""
    headers = answer.headers
    return {name: headers[name] for name in headers if name.encode() not in HOP_BY_HOP}


def is_success(answer: ActionAnswer) -> bool:
    return 200 <= answer.status < 300


def find_wait(rules: RetryRules, retry: int, answer: ActionAnswer, timing: Timing) -> float | None:
    """Return the seconds before the next attempt; None where this failure is not tried again."""
    code = provider_errors.classify(answer.status, answer.body).code
    if not rules.applies_to(answer.status, code):
        return None
    return rules.compute_wait(retry, answer.find_wait(timing.unix_time()), timing.draw)


def describe(
    request: PreparedRequest, answer: ActionAnswer, attempts: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the request and its last answer without secrets."""
    shown = describe_request(
        request.method,
        request.target,
        request.headers,
        request.body,
        timeout_seconds=request.timeout_seconds,
    )
    if request.overridden:
        shown["overriddenHeaders"] = request.overridden
    return {
        "request": shown,
        "response": describe_answer(answer.status, answer.headers, answer.body),
        "attempts": attempts,
    }


def refuse(answer: ActionAnswer, attempts: int) -> HeadgateError:
    """Build the error of a failing answer, with the status, data and headers of the provider's."""
    refused = make_refusal(answer)
    if attempts > 1:
        refused.message += f" (status {answer.status}, after {attempts} attempts)"
    if isinstance(refused, ProviderRefusedError):
        refused.headers = list_headers(answer)
    return refused


def to_tool_result(response: RawResponse) -> ToolResult:
    """Return an answer as agents get it: pictures and sound as content, and not as JSON as well; of
    the headers only those that a model has a use for."""
    data = response.data
    kind = data.content_type.partition("/")[0] if isinstance(data, BinaryData) else ""
    headers = {name: each for name, each in response.headers.items() if name in SHOWN_HEADERS}
    structured = msgspec.to_builtins(msgspec.structs.replace(response, headers=headers))
    if kind not in ("image", "audio"):
        return ToolResult(structured=structured)
    encoded = structured["data"].pop("base64")
    fields = {"data": encoded, "mimeType": data.content_type.partition(";")[0].strip()}
    return ToolResult(structured=structured, content=(ToolContent(type=kind, fields=fields),))
