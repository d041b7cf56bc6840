"""Dry runs of resources as the platform API shows them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headgate.resources.model.explanation import RuleResult
from headgate.resources.model.live import CapacityState
from headgate.resources.model.routing_config import RoutingConfig
from headgate.resources.service.dry_runs import DryRunRequest, DryRunResult, DryRunTarget

MILLISECONDS = 1_000
METADATA_PAIRS_MAX = 16

Percentage = Annotated[float, Meta(ge=0, le=100)]
Count = Annotated[int, Meta(ge=0)]


class LiveState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What rules are told of the state of targets; what is missing is as it is now."""

    error_rate: Percentage | None = None
    requests_usage_percent: Percentage | None = None
    tokens_usage_percent: Percentage | None = None
    remaining_requests: Count | None = None
    remaining_tokens: Count | None = None


class DryRunCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request as a client would send it, and what its rules shall find."""

    request: dict[str, Any]
    format: Annotated[str, Meta(max_length=32)] = ""
    metadata: Annotated[
        dict[str, Annotated[str, Meta(max_length=512)]], Meta(max_length=METADATA_PAIRS_MAX)
    ] = {}
    correlation_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    draw: Annotated[float, Meta(ge=0, lt=100)] | None = None
    live: LiveState = LiveState()
    routing: RoutingConfig | None = None


class DryRunTargetResponse(msgspec.Struct, kw_only=True):
    """One model and credential that the call would be sent to."""

    model: str
    provider: str
    credential: str | None
    weight: int | None
    max_retries: int | None
    timeout_ms: int | None
    rest_seconds: float


class RoutingDecisionResponse(msgspec.Struct, kw_only=True):
    """What the rules decide: `rule`, `default` or `block`."""

    outcome: str
    rule: int | None
    description: str
    explanation: str


class DryRunResponse(msgspec.Struct, kw_only=True):
    """What would happen to the request, and why."""

    resource_id: str
    resource_name: str
    format: str
    input_tokens: int
    decision: RoutingDecisionResponse
    targets: list[DryRunTargetResponse]
    rules: list[RuleResult]


def read_dry_run(body: DryRunCreate) -> DryRunRequest:
    live = body.live
    usage = {
        name: value
        for name in live.__struct_fields__
        if name != "error_rate" and (value := getattr(live, name)) is not None
    }
    return DryRunRequest(
        body=body.request,
        surface=body.format,
        metadata=body.metadata,
        correlation_id=body.correlation_id,
        drawn=body.draw,
        error_rate=live.error_rate,
        capacity_state=CapacityState(**usage) if usage else None,
    )


def to_dry_run_response(
    resource_id: str, name: str, result: DryRunResult, credentials: dict[str, str]
) -> DryRunResponse:
    """Return a dry run for a reader. `credentials` are the names of credentials, by id."""
    return DryRunResponse(
        resource_id=resource_id,
        resource_name=name,
        format=result.surface,
        input_tokens=result.input_tokens,
        decision=describe_decision(result),
        targets=[to_target_response(each, credentials) for each in result.targets],
        rules=list(result.rules),
    )


def to_target_response(found: DryRunTarget, credentials: dict[str, str]) -> DryRunTargetResponse:
    target = found.target
    reference, timeout = target.credential_name, target.timeout_seconds
    return DryRunTargetResponse(
        model=target.model,
        provider=target.integration,
        credential=None if reference is None else credentials.get(reference, reference),
        weight=found.weight,
        max_retries=target.retries_max,
        timeout_ms=None if timeout is None else int(timeout * MILLISECONDS),
        rest_seconds=round(found.rest_seconds, 1),
    )


def describe_decision(result: DryRunResult) -> RoutingDecisionResponse:
    decision = result.decision
    if decision.index < 0:
        explanation = "No rule takes the call, so the resource's own model answers first."
        if not result.rules:
            explanation = "The resource has no rules that are switched on."
        return RoutingDecisionResponse(
            outcome="default", rule=None, description="", explanation=explanation
        )
    rule = result.rules[decision.index]
    what = "refuses the call" if decision.is_blocked else "chooses the model"
    return RoutingDecisionResponse(
        outcome="block" if decision.is_blocked else "rule",
        rule=decision.index,
        description=decision.description,
        explanation=f"The rule at index {decision.index} {what}. {rule.reason}",
    )
