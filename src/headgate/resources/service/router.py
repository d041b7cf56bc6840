"""Find the route of a call by what its `model` names, from memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Mapping
from typing import NoReturn, Protocol

import sqlalchemy as sa
import structlog
from msgspec.structs import replace

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError
from headgate.llm.endpoint import Pricing
from headgate.llm.request import JsonRequest
from headgate.relay.call import Call
from headgate.relay.ports import ModelCatalog
from headgate.relay.targets import ROUTING, CallEvent, CallRoute, Target
from headgate.resources.model.conditions import (
    REQUEST_CHARACTERS_MAX,
    Draw,
    RoutingBlockedError,
    RoutingDecision,
    choose,
    draw_sticky,
)
from headgate.resources.model.overrides import OVERRIDES, choose_secondary, name_place, override
from headgate.resources.model.request_view import ANTHROPIC, CHAT, RESPONSES, RequestView
from headgate.resources.model.resource import (
    InvalidOverridesError,
    Resource,
    ResourceNotFoundError,
    list_slots,
)
from headgate.resources.model.slot import ModelSlot, WeightedCredential
from headgate.resources.service.compiled import CompiledResource, make_target
from headgate.resources.service.live_values import LiveValuesSource
from headgate.resources.store import resources as store

SURFACES = {"chat.completions": CHAT, "messages": ANTHROPIC}
"""How the rules name the API of a call; all others are seen as Responses."""

log = structlog.get_logger(__name__)


class NamedCredentials(Protocol):
    def has_named(self, organization_id: str, name: str) -> bool:
        """Return whether an organization can use a credential of this id or name."""
        ...


class ResourceIndex:
    """Hold the resources of all projects, compiled (`relay.resource_router.ResourceRouter`).

    `load` refreshes them. `draw` gives numbers from 0 to less than 1 for shares of traffic.
    """

    def __init__(
        self,
        credentials: NamedCredentials,
        models: ModelCatalog,
        clock: Clock,
        *,
        live_values: LiveValuesSource | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._credentials = credentials
        self._models = models
        self._clock = clock
        self._draw = draw
        self.live_values = live_values or LiveValuesSource()
        self._by_project: Mapping[str, Mapping[str, CompiledResource]] = {}
        self.is_loaded = False

    @property
    def projects(self) -> Container[str]:
        return self._by_project

    def load(self, connection: sa.Connection) -> None:
        """Reload all resources. Calls that run meanwhile use the previous state."""
        by_project: dict[str, dict[str, CompiledResource]] = {}
        for resource in store.select_all(connection):
            compiled = self._compile(resource)
            if compiled is not None:
                by_project.setdefault(resource.project_id, {})[resource.name] = compiled
        self._by_project = by_project
        self.is_loaded = True

    def list_routes(self, project_id: str) -> list[tuple[str, float, CallRoute]]:
        """Return name, time of creation and usual route of the resources of a project, by name."""
        found = self._by_project.get(project_id, {})
        return [(name, found[name].created_at, found[name].route) for name in sorted(found)]

    def find(self, project_id: str, name: str) -> CompiledResource | None:
        return self._by_project.get(project_id, {}).get(name)

    def route(self, call: Call) -> CallRoute | None:
        """Return the route of a call; None where its `model` is one of the catalog or of a
        provider.

        Raise `ResourceNotFoundError`, `SecondaryModelNotFoundError`, `InvalidOverridesError`,
        `InvalidRoutingError` and `RoutingBlockedError`.
        """
        if call.endpoint.pricing is Pricing.FREE:
            return None
        options, name = call.route_options, call.model or ""
        resource = self.find(call.grant.project_id, name)
        if options is not None and options.overrides is not None:
            resource = self._override(call, resource, options.overrides)
        if resource is None:
            return self._route_without_resource(call)
        if options is not None and options.secondary_index is not None:
            slot = choose_secondary(resource.config.secondary_models, options.secondary_index)
            return resource.make_route(make_target(slot))
        if resource.routing is None:
            return resource.route
        return self._decide(call, resource)

    def _route_without_resource(self, call: Call) -> CallRoute | None:
        """Return the route of an ad-hoc target (`credential/model`). A name of a provider before
        the slash means the provider's model, whatever credential serves it."""
        options, name = call.route_options, call.model or ""
        prefix, _, model = name.partition("/")
        is_known = self._models.match(name).model is not None
        is_of_provider = bool(model) and prefix in self._models.providers
        if (
            model
            and not is_of_provider
            and call.credential_name is None
            and self._credentials.has_named(call.grant.organization_id, prefix)
        ):
            if options is not None and options.secondary_index is not None:
                choose_secondary((), options.secondary_index)
            return CallRoute(name, (Target(model, prefix),))
        if options is not None and (options.secondary_index is not None or options.is_required):
            if options.secondary_index is None and (is_known or is_of_provider):
                return None
            raise ResourceNotFoundError(
                f"There is no resource {name!r} in this project, nor a credential and model of "
                "that name (`credential/model`). `GET /v1/models` lists what this key can call.",
                param="model",
                should_retry=False,
            )
        return None

    def _override(
        self, call: Call, stored: CompiledResource | None, overrides: Mapping[str, object]
    ) -> CompiledResource:
        config = override(None if stored is None else stored.config, overrides)
        for place, slot in list_slots(config):
            if slot.provider and slot.provider not in self._models.providers:
                refuse(f"{place}.provider", f"there is no provider {slot.provider!r}")
            self._check_credential(call, place, slot)
            for index, each in enumerate(slot.credentials):
                self._check_credential(call, f"{place}.credentials[{index}]", each)
        stored_id = None if stored is None else stored.id
        return CompiledResource(
            call.model or "",
            config,
            stored_id,
            stored=stored,
            place=f"{OVERRIDES}.routing",
            characters_max=REQUEST_CHARACTERS_MAX,
        )

    def _check_credential(
        self, call: Call, place: str, slot: ModelSlot | WeightedCredential
    ) -> None:
        """Raise `InvalidOverridesError` for the name of a credential that does not exist."""
        field = "credential_name" if slot.credential_id is None else "credential_id"
        reference: str | None = getattr(slot, field)
        organization_id = call.grant.organization_id
        if reference is not None and not self._credentials.has_named(organization_id, reference):
            refuse(f"{place}.{field}", f"there is no connection {reference!r}")

    def _decide(self, call: Call, resource: CompiledResource) -> CallRoute:
        """Return the route that the rules choose. Raise `RoutingBlockedError`."""
        routing = resource.routing
        assert routing is not None, "the caller looked"
        began = self._clock.monotonic()
        view = make_view(call, resource)
        live = self.live_values.make(call.grant, resource.subject)
        decision = choose(routing, view, live, self._make_draw(call))
        if decision.is_blocked:
            raise RoutingBlockedError(explain_block(resource.name, decision), should_retry=False)
        route, events = resource.route, ()
        if decision.model is not None:
            target, original = make_target(decision.model), route.targets[0]
            route = resource.make_route(target)
            events = (
                CallEvent(
                    ROUTING,
                    self._clock.now(),
                    reason=decision.description,
                    original_provider=original.integration,
                    original_model=original.model,
                    routed_provider=target.integration,
                    routed_model=target.model,
                ),
            )
        elapsed = self._clock.monotonic() - began
        return replace(route, events=events, routing_seconds=elapsed)

    def _make_draw(self, call: Call) -> Draw:
        """Return draws that are the same for all calls of a correlation id, else at random."""
        if call.correlation_id is not None:
            return draw_sticky(call.model or "", call.correlation_id)
        return lambda _index: self._draw() * 100

    def _compile(self, resource: Resource) -> CompiledResource | None:
        try:
            return CompiledResource(
                resource.name, resource.config, resource.id, created_at=resource.created_at
            )
        # One that an older version accepted must not keep the others from loading.
        except HeadgateError as error:
            log.error("resources.unusable", resource=resource.id, reason=error.message)
            return None


def refuse(place: str, reason: str) -> NoReturn:
    """Raise `InvalidOverridesError` for a place in the overrides of a request."""
    param = f"{OVERRIDES}.{name_place(place)}"
    raise InvalidOverridesError(f"Invalid '{param}': {reason}.", param=param, should_retry=False)


def make_view(call: Call, resource: CompiledResource) -> RequestView:
    """Return a call as the rules of a resource see it."""
    body = call.body
    return RequestView(
        body.body if isinstance(body, JsonRequest) else b"{}",
        surface=SURFACES.get(call.endpoint.name, RESPONSES),
        model=call.model,
        metadata=call.metadata,
        native=None if call.native_body is None else call.native_body.body,
        resource={"id": resource.id, "name": resource.name},
    )


def explain_block(resource_name: str, decision: RoutingDecision) -> str:
    """Return why a rule refuses a call, in words for its caller."""
    described = f": {decision.description}" if decision.description else ""
    if decision.is_cut:
        return (
            f"A routing rule of the resource {resource_name!r} could refuse this request and takes "
            f"too long to evaluate{described}. Send a smaller request."
        )
    return f"A routing rule of the resource {resource_name!r} refuses this request{described}."
