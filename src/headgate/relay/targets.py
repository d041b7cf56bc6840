"""Say where a call may go: its targets in order, and what happened on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.relay.capacity_limits import CapacityLimit

FALLBACK = "fallback"
ROUTING = "routing"
TARGETS_MAX = 10
"""The targets of one call."""
CREDENTIALS_MAX = 20
"""The credentials among which the calls of one target are shared out."""
ATTEMPTS_MAX = TARGETS_MAX * CREDENTIALS_MAX
"""How often one call may go on: a target with several credentials is tried with each."""


class Target(msgspec.Struct, frozen=True):
    """Name one model that can answer a call, and the credential that carries it.

    `model` is spelled as in a request: a bare id or `integration/model`. `credential_name` is the
    id or name of a credential; None takes the one that a call without a named one would take.
    `credentials` are several of them with their weights, among which calls are shared out; they
    replace `credential_name`. `retries_max` and `timeout_seconds` are None where the settings
    apply.
    """

    model: str
    credential_name: str | None = None
    retries_max: int | None = None
    timeout_seconds: float | None = None
    credentials: tuple[tuple[str, int], ...] = ()
    integration: str = ""
    """The integration of `model` where the target names it; empty otherwise."""


class CallEvent(msgspec.Struct, frozen=True):
    """Tell one decision about a call. `at` is in unix seconds.

    A `fallback` has the model that failed, its provider and credential where they were chosen, the
    reason, and the status that the client would have got. A `routing` has the model that was asked
    for and the one that was chosen, each with its provider.
    """

    type: str
    at: float
    failed_model: str = ""
    reason: str = ""
    failed_provider: str = ""
    failed_credential_id: str | None = None
    status: int = 0
    attempts: int = 0
    """The attempts that were made on the failed model; 0 where it was refused before."""
    original_provider: str = ""
    original_model: str = ""
    routed_provider: str = ""
    routed_model: str = ""
    failed_credential: str = ""
    """The name of the credential that `failed_credential_id` is the id of."""


class CallRoute(msgspec.Struct, frozen=True):
    """Hold where a call goes: its targets, the first one first, and what its resource adds.

    `resource_id` is None for an ad-hoc target (`credential/model`) and for a resource that exists
    in the request only. `default_arguments` are fields for the body where the caller states none.
    `capacity` limits the resource; empty where it is not enforced. `routing_seconds` is the time
    that the conditions took; None where none were evaluated.
    """

    resource_name: str
    targets: tuple[Target, ...]
    resource_id: str | None = None
    default_arguments: Mapping[str, msgspec.Raw] = {}
    capacity: tuple[CapacityLimit, ...] = ()
    events: tuple[CallEvent, ...] = ()
    routing_seconds: float | None = None


class RouteOptions(msgspec.Struct, frozen=True):
    """Hold what a request asks of its route.

    `secondary_index` chooses a secondary model of the resource, from 0, in the place of its
    routing. `overrides` are merged into the stored resource, or are a whole one; their names are
    those of `/api/resources`. `is_required` says that `model` must be a resource or a target.
    """

    secondary_index: int | None = None
    overrides: Mapping[str, Any] | None = None
    is_required: bool = False
