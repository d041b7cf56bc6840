"""Where a call goes: which credential, which model, which address at the provider."""

from __future__ import annotations

import functools
import urllib.parse

from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.endpoint import Body, Pricing
from headgate.llm.request import JsonRequest
from headgate.relay.admission import ModelOutOfScope, is_in_scope
from headgate.relay.breaker import Breakers
from headgate.relay.call import Call
from headgate.relay.ports import Credential, Credentials, Models, Offer, Offers
from headgate.relay.trip import Trip

INTEGRATION = "openai"
"""The integration whose wire the OpenAI face speaks."""
DEFAULTED = frozenset({"chat.completions", "responses"})
"""Where an unknown managed model may be served by the default one: it can do what was asked."""


class PathUnsafe(HeadgateError):
    kind = Kind.INVALID
    code = "invalid_path"


class ModelNotOffered(HeadgateError):
    kind = Kind.MISSING
    code = "model_not_found"


class OfferElsewhere(HeadgateError):
    kind = Kind.INVALID
    code = "credential_unusable"


class AccountShared(HeadgateError):
    kind = Kind.FORBIDDEN
    code = "shared_account"


class Routing:
    """Plans the attempt: the resolved credential, the catalog's wire model, the body to send."""

    def __init__(
        self,
        credentials: Credentials,
        models: Models,
        breakers: Breakers,
        offers: Offers | None = None,
    ) -> None:
        self._credentials = credentials
        self._models = models
        self._breakers = breakers
        self._offers = offers

    def plan(self, trip: Trip) -> None:
        """Fill in credential, model, target and body, or raise what is missing.

        The credential whose provider rests is refused here, before money is set aside: this is
        the place where another one could be chosen. `Upstream` looks again when it sends.
        """
        call = trip.call
        offer = None
        credential = self._credentials.resolve(
            call.grant.organization_id,
            integration=INTEGRATION,
            name=call.credential_name,
            model=call.model,
            is_free=call.endpoint.pricing is Pricing.FREE,
        )
        if credential.managed:
            offer = self._choose_offer(call, credential)
            if offer is not None:
                credential = offer.credential
        trip.credential = credential
        self._breakers.check(credential)
        trip.target = credential.base_path + check_path(call.path) + call.query
        trip.body = call.body
        if isinstance(call.body, JsonRequest):
            self._prepare(trip, call.body, offer)

    def _choose_offer(self, call: Call, credential: Credential) -> Offer | None:
        """What serves a managed call; None where its model goes to the credential as it is named.

        The key's scope holds for the model that serves, too: a replacement opens no door.
        """
        if call.model is None:
            check_shared(call)
            return None
        offers = self._offers
        if not offers:
            return None
        offer = offers.find(call.model)
        if offer is None:
            if call.endpoint.pricing is Pricing.FREE:
                return None
            offer = offers.default() if call.endpoint.name in DEFAULTED else None
        if offer is None:
            message = f"The model '{call.model}' does not exist among the managed models."
            raise ModelNotOffered(message, param="model", should_retry=False)
        if not is_in_scope(offer.model_id, call.grant.models):
            message = (
                f"`{call.model}` is served by `{offer.model_id}`, which this key is not issued "
                f"for: it is limited to the models {', '.join(call.grant.models)}."
            )
            raise ModelOutOfScope(message, param="model")
        if call.credential_name is not None and offer.credential.id != credential.id:
            message = (
                f"The credential {call.credential_name!r} does not serve the managed model "
                f"'{call.model}'; no other one is taken in its place."
            )
            raise OfferElsewhere(message, should_retry=False)
        return offer

    def _prepare(self, trip: Trip, body: JsonRequest, offer: Offer | None) -> None:
        """The client's own bytes wherever nothing has to change (law 4)."""
        call = trip.call
        trip.streams = body.stream
        body = body.with_envelopes_removed()
        if body.stream and call.endpoint.asks_usage and not body.includes_usage:
            body = body.with_usage_asked()
            trip.asked_usage = True
        if offer is not None:
            body = self._serve(trip, body, offer)
        elif call.model is not None:
            trip.model = self._models.find(call.model)
            if trip.model is not None and trip.model.wire_id != call.model:
                body = body.with_model(trip.model.wire_id)
        trip.body = body

    def _serve(self, trip: Trip, body: JsonRequest, offer: Offer) -> JsonRequest:
        """The request for the model that serves; hold, price and receipt are of that one."""
        models = self._models
        trip.model = model = models.find(offer.wire_id) or models.find(offer.model_id)
        served = offer.model_id if model is None else model.id
        if served != trip.call.model:
            trip.reading.model = served
        return body.with_model(offer.wire_id or (served if model is None else model.wire_id))


def check_shared(call: Call) -> None:
    """Refuse what reads or changes things that lie in the provider's account: the platform's own
    is shared by all organizations. Raises `AccountShared`."""
    endpoint = call.endpoint
    if endpoint.pricing is not Pricing.FREE or endpoint.body is Body.JSON:
        return
    if endpoint.lists_models and call.method in ("GET", "HEAD"):
        return
    message = (
        f"`{call.method} {call.path.decode('latin-1')}` works on what lies in the provider's "
        "account, and the platform's account is shared by all organizations. Use an own credential."
    )
    raise AccountShared(message, should_retry=False)


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
