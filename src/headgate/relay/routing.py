"""Where a call goes: which credential, which model, which address at the provider."""

from __future__ import annotations

import functools
import urllib.parse

from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.endpoint import Pricing
from headgate.llm.request import JsonRequest
from headgate.relay.breaker import Breakers
from headgate.relay.ports import Credentials, Models
from headgate.relay.trip import Trip

INTEGRATION = "openai"
"""The integration whose wire the OpenAI face speaks."""


class PathUnsafe(HeadgateError):
    kind = Kind.INVALID
    code = "invalid_path"


class Routing:
    """Plans the attempt: the resolved credential, the catalog's wire model, the body to send."""

    def __init__(self, credentials: Credentials, models: Models, breakers: Breakers) -> None:
        self._credentials = credentials
        self._models = models
        self._breakers = breakers

    def plan(self, trip: Trip) -> None:
        """Fill in credential, model, target and body, or raise what is missing.

        The credential whose provider rests is refused here, before money is set aside: this is
        the place where another one could be chosen. `Upstream` looks again when it sends.
        """
        call = trip.call
        trip.credential = self._credentials.resolve(
            call.grant.organization_id,
            integration=INTEGRATION,
            name=call.credential_name,
            model=call.model,
            is_free=call.endpoint.pricing is Pricing.FREE,
        )
        self._breakers.check(trip.credential)
        trip.target = trip.credential.base_path + check_path(call.path) + call.query
        trip.body = call.body
        if isinstance(call.body, JsonRequest):
            self._prepare(trip, call.body)

    def _prepare(self, trip: Trip, body: JsonRequest) -> None:
        """The client's own bytes wherever nothing has to change (law 4)."""
        call = trip.call
        trip.streams = body.stream
        body = body.with_envelopes_removed()
        if body.stream and call.endpoint.asks_usage and not body.includes_usage:
            body = body.with_usage_asked()
            trip.asked_usage = True
        if call.model is not None:
            trip.model = self._models.find(call.model)
            if trip.model is not None and trip.model.wire_id != call.model:
                body = body.with_model(trip.model.wire_id)
        trip.body = body


@functools.lru_cache(maxsize=1024)
def check_path(path: bytes) -> bytes:
    """The path below the provider's base address; PathUnsafe for one that could leave it."""
    if b"%" in path or b"/." in path or b"//" in path or b"\\" in path:
        decoded = path
        while (further := urllib.parse.unquote_to_bytes(decoded)) != decoded:
            decoded = further
        segments = decoded.replace(b"\\", b"/").split(b"/")
        if b"//" in path or b".." in segments or b"." in segments or min(decoded) < 0x20:
            raise PathUnsafe(
                "The path must not have empty or dotted segments, or control characters."
            )
    return path
