"""Tell what would happen to a request of a resource, without sending it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.convert.messages_to_responses.request import convert_request
from headgate.relay.ports import Grant
from headgate.relay.targets import CallRoute, Target
from headgate.resources.model.conditions import CompiledRouting, Draw, RoutingDecision, draw_sticky
from headgate.resources.model.explanation import RuleResult, explain
from headgate.resources.model.live import CapacityState, LiveValues
from headgate.resources.model.request_view import ANTHROPIC, CHAT, RESPONSES, RequestView
from headgate.resources.model.resource import Resource
from headgate.resources.model.routing_config import RoutingConfig
from headgate.resources.service.compiled import CompiledResource, make_target
from headgate.resources.service.live_values import LiveValuesSource, RuleSubject

FORMATS = (CHAT, RESPONSES, ANTHROPIC)
NO_RULES = CompiledRouting(RoutingConfig())


class InvalidDryRunError(HeadgateError):
    """The request of a dry run is none that a client could send.

    Correct what the message names.
    """

    kind = Kind.INVALID
    code = "invalid_dry_run"


class DryRunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a call that is not made.

    `surface` is one of `FORMATS`; empty for the one that the fields of the body suggest. `drawn`
    takes the place of chance, from 0 to less than 100; None draws. `error_rate` and
    `capacity_state` take the place of the live values of all targets.
    """

    body: Mapping[str, Any]
    surface: str = ""
    metadata: Mapping[str, str] = {}
    correlation_id: str | None = None
    drawn: float | None = None
    error_rate: float | None = None
    capacity_state: CapacityState | None = None


class DryRunTarget(msgspec.Struct, frozen=True):
    """Hold a target with one credential, and the seconds for which that is still ejected."""

    target: Target
    rest_seconds: float = 0.0
    weight: int | None = None


class DryRunResult(msgspec.Struct, frozen=True):
    """Hold the decision, the targets in the order in which they would be tried, and all rules."""

    decision: RoutingDecision
    targets: tuple[DryRunTarget, ...]
    rules: tuple[RuleResult, ...]
    surface: str
    input_tokens: int


FindRest = Callable[[str, str, str], float]
"""Returns the seconds for which a credential is still ejected, by organization, name and model."""


def find_no_rest(_organization_id: str, _name: str, _model: str) -> float:
    """Know no credential that is ejected."""
    return 0.0


class FixedLiveValues:
    """Answer with given values, and ask the real ones for all others (`LiveValues`)."""

    def __init__(self, request: DryRunRequest, live: LiveValues) -> None:
        self._request = request
        self._live = live

    def error_rate(
        self, window_minutes: int, status: int | None, connection: str | None, model: str | None
    ) -> float | None:
        given = self._request.error_rate
        if given is not None:
            return given
        return self._live.error_rate(window_minutes, status, connection, model)

    def capacity_usage(
        self, period: str, connection: str | None, model: str | None
    ) -> CapacityState | None:
        given = self._request.capacity_state
        if given is not None:
            return given
        return self._live.capacity_usage(period, connection, model)


class DryRuns:
    def __init__(
        self,
        live: LiveValuesSource,
        *,
        find_rest: FindRest = find_no_rest,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._live = live
        self.find_rest = find_rest
        self._draw = draw

    def run(
        self, resource: Resource, request: DryRunRequest, routing: RoutingConfig | None = None
    ) -> DryRunResult:
        """Return what would happen to a request. `routing` are rules to try in the place of those
        of the resource.

        Raise `InvalidDryRunError`, `InvalidMessagesRequestError` and `InvalidRoutingError`.
        """
        config = resource.config
        if routing is not None:
            config = msgspec.structs.replace(config, routing=routing)
        compiled = CompiledResource(resource.name, config, resource.id)
        view = make_view(resource, request)
        grant = Grant("", resource.organization_id, resource.project_id)
        subject = RuleSubject(config.model, resource.id, compiled.route.capacity)
        told = explain(
            compiled.routing or NO_RULES,
            view,
            FixedLiveValues(request, self._live.make(grant, subject)),
            self._find_draw(resource, request),
        )
        route, chosen = compiled.route, told.decision.model
        if chosen is not None:
            route = compiled.make_route(make_target(chosen))
        targets = () if told.decision.is_blocked else self._list_targets(resource, route)
        return DryRunResult(told.decision, targets, told.rules, view.surface, view.input_tokens)

    def _find_draw(self, resource: Resource, request: DryRunRequest) -> Draw:
        drawn = request.drawn
        if drawn is not None:
            return lambda _index: drawn
        if request.correlation_id is not None:
            return draw_sticky(resource.name, request.correlation_id)
        return lambda _index: self._draw() * 100

    def _list_targets(self, resource: Resource, route: CallRoute) -> tuple[DryRunTarget, ...]:
        found: list[DryRunTarget] = []
        for target in route.targets:
            if not target.credentials:
                found.append(DryRunTarget(target))
            for name, weight in target.credentials:
                rest = self.find_rest(resource.organization_id, name, target.model)
                single = msgspec.structs.replace(target, credential_name=name, credentials=())
                found.append(DryRunTarget(single, rest, weight))
        return tuple(found)


def make_view(resource: Resource, request: DryRunRequest) -> RequestView:
    """Return a request as the rules see that of a client. Raise `InvalidDryRunError` and
    `InvalidMessagesRequestError`."""
    fields = {**request.body, "model": resource.name}
    surface = request.surface or guess_surface(fields)
    if surface not in FORMATS:
        raise InvalidDryRunError(
            f"`format` is one of {', '.join(FORMATS)}, not {surface[:64]!r}.", param="format"
        )
    sent = msgspec.json.encode(fields)
    body = sent
    if surface == ANTHROPIC:
        body = msgspec.json.encode(convert_request({"max_tokens": 1_024, **fields}).body)
    return RequestView(
        body,
        surface=surface,
        model=resource.name,
        metadata=msgspec.json.encode(request.metadata).decode(),
        native=sent,
        resource={"id": resource.id, "name": resource.name},
    )


def guess_surface(fields: Mapping[str, Any]) -> str:
    """Return the API whose field the input is in."""
    return CHAT if "messages" in fields else RESPONSES
