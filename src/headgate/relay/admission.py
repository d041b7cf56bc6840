"""Who may make this call, now: the key's own limits, checked from memory."""

from __future__ import annotations

import fnmatch

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.endpoint import Pricing
from headgate.relay.call import Call
from headgate.relay.crowd import Crowd
from headgate.relay.ports import Grant


class KeyCannotInfer(HeadgateError):
    kind = Kind.FORBIDDEN
    code = "management_key_cannot_call_models"


class EndpointOutOfScope(HeadgateError):
    kind = Kind.FORBIDDEN
    code = "endpoint_out_of_scope"


class ModelOutOfScope(HeadgateError):
    kind = Kind.FORBIDDEN
    code = "model_out_of_scope"


class RateLimited(HeadgateError):
    kind = Kind.LIMITED
    code = "rate_limited"


class RouteUnsupported(HeadgateError):
    kind = Kind.UNSUPPORTED
    code = "unsupported_endpoint"


def is_in_scope(value: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name matches one of the patterns (`gpt-5*`); none at all allows everything."""
    return not patterns or any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)


class Admission:
    """Checks a call against its grant. One instance holds the rates of one process."""

    def __init__(self, clock: Clock, crowd: Crowd) -> None:
        self._clock = clock
        self._crowd = crowd
        self._rates = Rates()

    def admit(self, call: Call) -> None:
        """Let the call pass or raise the error that says which limit stands in its way."""
        grant = call.grant
        check_scope(grant, call)
        if grant.requests_per_minute:
            wait = self._rates.wait_seconds(
                grant.key_id, grant.requests_per_minute, self._clock.monotonic()
            )
            if wait > 0:
                raise RateLimited(
                    f"This key may make {grant.requests_per_minute} requests per minute. "
                    f"Try again in {wait:.1f} seconds.",
                    retry_after_seconds=wait,
                )
        self._crowd.enter(grant.key_id)

    def release(self, call: Call) -> None:
        """The provider's part of an admitted call is over: its place is free."""
        self._crowd.leave(call.grant.key_id)


def check_scope(grant: Grant, call: Call) -> None:
    """Refuse what the key was not issued for."""
    endpoint = call.endpoint
    if endpoint.unsupported:
        raise RouteUnsupported(endpoint.unsupported, should_retry=False)
    if grant.management:
        raise KeyCannotInfer(
            "This is a management key (hg_admin_...); model calls need an inference key "
            "(hg_live_...). Create one with `headgate keys create`."
        )
    if endpoint.restricted and endpoint.name not in grant.endpoints:
        raise EndpointOutOfScope(
            f"`{endpoint.name}` is open only to keys that name it among their endpoints."
        )
    if grant.endpoints and not is_in_scope(endpoint.name, grant.endpoints):
        raise EndpointOutOfScope(
            f"This key has no access to `{endpoint.name}`; "
            f"it may use: {', '.join(grant.endpoints)}."
        )
    if not grant.models or endpoint.pricing is Pricing.FREE:
        return
    if call.model is None or not is_in_scope(call.model, grant.models):
        named = f"this request names `{call.model}`" if call.model else "this request names none"
        raise ModelOutOfScope(
            f"This key is limited to the models {', '.join(grant.models)}; {named}.",
            param="model",
        )


class Rates:
    """Requests per minute of each key, as the time at which the next one conforms (GCRA).

    A key may burst up to its whole minute at once. State exists only for keys that are limited,
    one float each.
    """

    def __init__(self) -> None:
        self._next_at: dict[str, float] = {}

    def wait_seconds(self, key_id: str, per_minute: int, now: float) -> float:
        """0 and the request is counted, or the seconds to wait and it is not."""
        interval = 60.0 / per_minute
        due = max(self._next_at.get(key_id, 0.0), now)
        wait = due - (now + 60.0 - interval)
        if wait > 0:
            return wait
        self._next_at[key_id] = due + interval
        return 0.0
