"""Endpoints: addresses that receive events, and what they subscribe to."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Origin
from headgate.kit.http.url import parse_url
from headgate.webhooks.model.event_names import EVENTS

EVERY_EVENT = "*"
DESCRIPTION_CHARACTERS_MAX = 1000


class InvalidWebhookEndpointError(HeadgateError):
    """A field of a webhook endpoint has a value that cannot be used.

    Correct the field that the message names. A URL begins with `https://` and leads to a public
    address, unless the operator allows it in `HEADGATE_EGRESS_ALLOW`.
    """

    kind = Kind.INVALID
    code = "invalid_webhook_endpoint"


class UnknownWebhookEventError(HeadgateError):
    """An endpoint cannot subscribe to an event of this name.

    Use the names in the message, or `*` for all events.
    """

    kind = Kind.INVALID
    code = "unknown_webhook_event"


class WebhookEndpointNotFoundError(HeadgateError):
    """There is no such webhook endpoint in this organization.

    List the endpoints to see their ids.
    """

    kind = Kind.MISSING
    code = "webhook_endpoint_not_found"


class TooManyWebhookEndpointsError(HeadgateError):
    """The organization has as many webhook endpoints as it may have.

    Delete one that is not used.
    """

    kind = Kind.CONFLICT
    code = "too_many_webhook_endpoints"


class WebhookEndpointDisabledError(HeadgateError):
    """The webhook endpoint is disabled, so nothing is sent to it.

    Enable it first.
    """

    kind = Kind.CONFLICT
    code = "webhook_endpoint_disabled"


class DisabledReason(enum.Enum):
    """Say why nothing is sent to an endpoint."""

    REQUESTED = "requested"
    GONE = "gone"
    """It answered with status 410."""
    FAILING = "failing"
    """For days, every delivery failed."""


class WebhookEndpointRequest(msgspec.Struct, frozen=True, kw_only=True):
    organization_id: str
    url: str
    enabled_events: tuple[str, ...]
    description: str = ""
    ordered: bool = False


class WebhookEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Represent an endpoint without its secrets. Times are in unix seconds.

    `failing_since` is the first failure after the last success. With `ordered`, the events of one
    key are delivered one after the other.
    """

    id: str
    organization_id: str
    url: str
    enabled_events: tuple[str, ...]
    description: str
    ordered: bool
    disabled_at: float | None = None
    disabled_reason: DisabledReason | None = None
    failing_since: float | None = None
    created_at: float
    updated_at: float
    version: int = 1


def parse_destination(url: str) -> tuple[Origin, bytes]:
    """Return the origin and the target of an endpoint's URL. Raise `InvalidWebhookEndpointError`.

    Whether its address may be reached is for the egress rules to say.
    """
    try:
        return parse_url(url)
    except ValueError as error:
        raise InvalidWebhookEndpointError(
            f"The URL cannot be used: {error}.", param="url"
        ) from error


def check_events(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names without duplicates, in order. Raise `UnknownWebhookEventError`."""
    chosen = tuple(dict.fromkeys(names))
    unknown = [name for name in chosen if name != EVERY_EVENT and name not in EVENTS]
    if unknown or not chosen:
        problem = f"There is no event {unknown[0]!r}" if unknown else "Name at least one event"
        raise UnknownWebhookEventError(
            f"{problem}. The events are: {', '.join(sorted(EVENTS))}; or {EVERY_EVENT} for all.",
            param="enabled_events",
        )
    return (EVERY_EVENT,) if EVERY_EVENT in chosen else tuple(sorted(chosen))


def check_description(text: str) -> str:
    if len(text) > DESCRIPTION_CHARACTERS_MAX or "\0" in text:
        raise InvalidWebhookEndpointError(
            f"A description has at most {DESCRIPTION_CHARACTERS_MAX} characters of text.",
            param="description",
        )
    return text
