"""Faults on demand: `status=429,retry_after=2` in a header or after `@fault:` in the model's name.

The model's name passes through any gateway unchanged; a header may not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from headgate_simulator.bounded_store import BoundedStore
from headgate_simulator.messages import ApiError, ApiRequest, Frame

HEADER = "x-simulator-fault"
MARK = "@fault:"
COUNTED_MAX = 1024

_KINDS = {
    400: ("invalid_request_error", None, "The simulator refuses this request, as asked."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided: sk-sim****."),
    403: ("permission_error", "unsupported_country_region_territory", "Not supported here."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    409: ("invalid_request_error", "conflict", "The request conflicts with another one."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests. Try again later."),
    503: ("service_unavailable_error", None, "That model is currently overloaded."),
}
_SERVER = ("server_error", None, "The server had an error while processing your request. Sorry!")
_QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more"
    " information on this error, read the docs:"
    " https://platform.openai.com/docs/guides/error-codes/api-errors."
)


class FaultSpec(msgspec.Struct, frozen=True):
    """Hold the requested faults. Times are in milliseconds except `retry_after` (seconds); events
    are counted from 0. None and False mean no fault.
    """

    status: int | None = None
    code: str | None = None
    quota: bool = False
    retry_after: float | None = None
    should_retry: bool | None = None
    times: int | None = None
    delay: float = 0
    first_chunk: float = 0
    chunk: float = 0
    drop: bool = False
    stall: int | None = None
    cut: int | None = None
    cut_mid: int | None = None
    malformed: bool = False
    error: int | None = None
    failed: int | None = None
    no_usage: bool = False
    work: float = 0
    limit_requests: str | None = None
    remaining_requests: str | None = None
    reset_requests: str | None = None
    limit_tokens: str | None = None
    remaining_tokens: str | None = None
    reset_tokens: str | None = None


NONE = FaultSpec()
_NAMES = ", ".join(FaultSpec.__struct_fields__)


def read_fault(request: ApiRequest, header: str) -> FaultSpec:
    """Return the fault of the request, and remove it from the model's name."""
    model, mark, spec = request.model.partition(MARK)
    if mark:
        request.body["model"] = model
    return parse(",".join(part for part in (spec, header) if part))


def parse(spec: str) -> FaultSpec:
    """Parse `name=value,flag`. Raise `ApiError` for unknown names and bad values."""
    if not spec:
        return NONE
    pairs = (part.strip().partition("=") for part in spec.split(","))
    values = {name: value if equals else "true" for name, equals, value in pairs}
    unknown = values.keys() - set(FaultSpec.__struct_fields__)
    if unknown:
        message = f"Unknown simulator fault: {', '.join(sorted(unknown))}. Known: {_NAMES}."
        raise ApiError(400, message, code="unknown_fault")
    try:
        return msgspec.convert(values, FaultSpec, strict=False)
    except msgspec.ValidationError as error:
        raise ApiError(400, f"Bad simulator fault: {error}.", code="unknown_fault") from error


class FaultGate:
    """Refuse requests as their fault says, and count those that `times` bounds."""

    def __init__(self) -> None:
        # Any caller can name new keys, so the counts are bounded like everything else.
        self._counts = BoundedStore[int](COUNTED_MAX, bytes_max=COUNTED_MAX, measure=lambda _: 1)

    def check(self, fault: FaultSpec, key: str) -> FaultSpec:
        """Raise the requested error, or return the faults that are left for the answer."""
        if fault.times is not None:
            seen = self._counts.get(key) or 0
            self._counts.put(key, seen + 1)
            if seen >= fault.times:
                return NONE
        if fault.status is not None or fault.quota:
            raise make_error(fault)
        return fault


def make_error(fault: FaultSpec) -> ApiError:
    """Return the error that OpenAI sends with the fault's status."""
    status = 429 if fault.quota else fault.status or 500
    kind, code, message = _KINDS.get(status, _SERVER if status >= 500 else _KINDS[400])
    if fault.quota:
        kind, code, message = "insufficient_quota", "insufficient_quota", _QUOTA
    error = ApiError(status, message, kind=kind, code=fault.code or code)
    if fault.retry_after is not None:
        error.headers["retry-after"] = f"{fault.retry_after:g}"
        error.headers["retry-after-ms"] = f"{fault.retry_after * 1000:g}"
    if fault.should_retry is not None:
        error.headers["x-should-retry"] = str(fault.should_retry).lower()
    return error


def remove_usage(payload: Any) -> Any:
    """Return the payload without its usage, also without that of a response inside an event."""
    if not isinstance(payload, dict):
        return payload
    left = dict(cast(dict[str, Any], payload))
    left.pop("usage", None)
    if isinstance(left.get("response"), dict):
        left["response"] = {**left["response"], "usage": None}
    return left


def apply_faults(frames: Iterator[Frame], fault: FaultSpec) -> Iterator[Frame]:
    """Yield the events, with the faults that change their content."""
    last: dict[str, Any] = {}
    for number, (name, payload) in enumerate(frames):
        if fault.error == number:
            yield _error_frame(name, number)
            return
        if fault.failed == number and "response" in last:
            yield _failed_frame(last["response"], number)
            return
        if isinstance(payload, dict):
            last = payload if "response" in payload else last
            if fault.no_usage:
                if payload.get("choices") == [] and payload.get("usage"):
                    continue
                payload = remove_usage(payload)
        yield name, payload


def _error_frame(name: str | None, number: int) -> Frame:
    kind, code, message = _SERVER
    if name is None:
        return None, {"error": {"message": message, "type": kind, "param": None, "code": code}}
    event = {"type": "error", "code": kind, "message": message, "param": None}
    return "error", {**event, "sequence_number": number}


def _failed_frame(response: dict[str, Any], number: int) -> Frame:
    failed = {**response, "status": "failed", "usage": None}
    failed["error"] = {"code": "server_error", "message": _SERVER[2]}
    event = {"type": "response.failed", "sequence_number": number, "response": failed}
    return "response.failed", event
