"""Admit a call: check the scopes and rate limits of its key from memory."""

from __future__ import annotations

import fnmatch

from msgspec.structs import replace

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.addresses import check_address
from headgate.kit.rate_limiter import RateLimiter
from headgate.llm.endpoint import Endpoint, Pricing
from headgate.llm.estimate import estimate_input_tokens
from headgate.llm.request import JsonRequest
from headgate.relay.call import Call, Caller
from headgate.relay.concurrency import ConcurrencyLimiter
from headgate.relay.managed_calls import ManagedCallLimiter
from headgate.relay.ports import Grant, ModelCatalog, Receipt

OUTPUT_TOKENS_ASSUMED = 1_000
"""Output tokens that the estimate counts for a call without a maximum of its own."""


class KeyWithoutInferenceError(HeadgateError):
    """A management key (`hg_admin_...`) was used for a model call.

    Use an inference key (`hg_live_...`).
    """

    kind = Kind.FORBIDDEN
    code = "management_key_cannot_call_models"


class EndpointOutOfScopeError(HeadgateError):
    """The key may not use this endpoint.

    Use another key, or widen the key's `endpoints`.
    """

    kind = Kind.FORBIDDEN
    code = "endpoint_out_of_scope"


class ModelOutOfScopeError(HeadgateError):
    """The key may not use this model.

    Call a model that the message names, or widen the key's `models`.
    """

    kind = Kind.FORBIDDEN
    code = "model_out_of_scope"


class ProjectOutOfScopeError(HeadgateError):
    """The project in `x-headgate-project` is none of the key's.

    Name a project of the key, or leave the header out.
    """

    kind = Kind.FORBIDDEN
    code = "project_out_of_scope"


class ResourceOutOfScopeError(HeadgateError):
    """The key may not use this resource.

    Use another key, or widen the key's `resources`.
    """

    kind = Kind.FORBIDDEN
    code = "API_KEY_RESOURCE_NOT_AUTHORIZED"


class UnsupportedEndpointError(HeadgateError):
    """The gateway does not carry this endpoint of the provider's API.

    Use the alternative that the message names.
    """

    kind = Kind.UNSUPPORTED
    code = "unsupported_endpoint"


def is_in_scope(value: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a name matches one of the patterns (`gpt-5*`). No pattern at all allows
    everything."""
    return not patterns or any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)


def is_any_in_scope(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    """Return whether one of the spellings of a model matches. No pattern at all allows
    everything."""
    return not patterns or any(is_in_scope(name, patterns) for name in names)


class Admission:
    """Check calls against the grants of their keys, and count them. `models` resolves the spellings
    of a model, so that a scope holds for all of them."""

    def __init__(
        self,
        rate_limiter: RateLimiter,
        concurrency: ConcurrencyLimiter,
        models: ModelCatalog | None = None,
        *,
        managed_calls: ManagedCallLimiter | None = None,
    ) -> None:
        self._rate_limiter = rate_limiter
        self._managed_calls = managed_calls
        self._concurrency = concurrency
        self._models = models

    def admit(self, call: Call, caller: Caller) -> None:
        """Admit a call, or raise the error that names the limit in its way. An admitted call
        occupies a place of the concurrency limiter until `release`."""
        grant = call.grant
        # A key without restrictions, the usual one, pays for this one look.
        if not grant.is_restricted:
            check_endpoint(grant, call.endpoint)
            self._concurrency.acquire(grant.key_id)
            return
        if grant.networks:
            check_address(caller.client_address, grant.networks)
        check_scope(grant, call, self._models)
        self._concurrency.acquire(grant.key_id)
        # The rate comes last, so that a call which is rejected for anything else is not counted.
        if grant.requests_per_minute or grant.tokens_per_minute:
            self._count(call, grant)

    def check_head(self, grant: Grant, endpoint: Endpoint, caller: Caller) -> None:
        """Reject a call of a restricted key by its request head, before memory is taken for its
        body.

        Nothing is counted: `admit` counts, and checks the model as well.
        """
        if grant.networks:
            check_address(caller.client_address, grant.networks)
        check_endpoint_scope(grant, endpoint)
        if grant.requests_per_minute or grant.tokens_per_minute:
            self._rate_limiter.check(grant, with_tokens=endpoint.pricing is not Pricing.FREE)

    def release(self, call: Call) -> None:
        self._concurrency.release(call.grant.key_id)
        if call.has_plan_place and self._managed_calls is not None:
            self._managed_calls.release(call)

    def settle(self, call: Call, receipt: Receipt) -> None:
        """Replace the tokens that were reserved for a call by those that it used. A call that was
        charged although its usage is not known counts with its reservation."""
        used = call.tokens_reserved
        if receipt.usage is not None:
            used = receipt.usage.input_tokens + receipt.usage.output_tokens
        elif receipt.pricing == "free":
            used = 0
        self._rate_limiter.settle(call.grant, reserved=call.tokens_reserved, used=used)

    def _count(self, call: Call, grant: Grant) -> None:
        tokens = 0
        if grant.tokens_per_minute and call.endpoint.pricing is not Pricing.FREE:
            # At most a whole bucket: a call with a larger estimate could otherwise never pass.
            tokens = min(estimate_tokens(call), grant.tokens_per_minute)
        try:
            call.rate_limits = self._rate_limiter.take(grant, tokens=tokens)
        except HeadgateError:
            self._concurrency.release(grant.key_id)
            raise
        call.tokens_reserved = tokens


def check_endpoint(grant: Grant, endpoint: Endpoint) -> None:
    """Reject an unsupported endpoint, and a restricted one that the key does not name."""
    if endpoint.unsupported:
        raise UnsupportedEndpointError(endpoint.unsupported, should_retry=False)
    if endpoint.restricted and endpoint.name not in grant.endpoints:
        raise EndpointOutOfScopeError(
            f"`{endpoint.name}` is open only to keys that name it among their endpoints."
        )


def check_endpoint_scope(grant: Grant, endpoint: Endpoint) -> None:
    """Reject a management key, and an endpoint outside the key's scope."""
    if grant.management and not endpoint.unsupported:
        raise KeyWithoutInferenceError(
            "This is a management key (hg_admin_...); model calls need an inference key "
            "(hg_live_...). Create one with `headgate keys create`."
        )
    check_endpoint(grant, endpoint)
    if grant.endpoints and not is_in_scope(endpoint.name, grant.endpoints):
        raise EndpointOutOfScopeError(
            f"This key has no access to `{endpoint.name}`; "
            f"it may use: {', '.join(grant.endpoints)}."
        )


def check_scope(grant: Grant, call: Call, models: ModelCatalog | None = None) -> None:
    """Reject an endpoint, a model or a resource outside the key's scope."""
    check_endpoint_scope(grant, call.endpoint)
    if call.endpoint.pricing is Pricing.FREE:
        return
    named = f"this request names `{call.model}`" if call.model else "this request names none"
    # The models of a route are checked when their turn comes.
    if grant.models and not (call.route or is_model_in_scope(call.model, grant.models, models)):
        raise ModelOutOfScopeError(
            f"This key is limited to the models {', '.join(grant.models)}; {named}.",
            param="model",
        )
    if (grant.models or grant.resources) and isinstance(call.body, JsonRequest):
        check_model_field(call.body)
    if grant.resources and call.model not in grant.resources:
        raise ResourceOutOfScopeError(
            f"This key is limited to the resources {', '.join(grant.resources)}; {named}.",
            param="model",
        )
    if grant.resources and call.route_options and call.route_options.overrides:
        raise ResourceOutOfScopeError(
            f"This key is limited to the resources {', '.join(grant.resources)}, so a request may "
            "not change what they do.",
            param="vmx.resourceConfigOverrides",
        )


def check_model_field(body: JsonRequest) -> None:
    """Reject a body that names a model twice (`model`, `MODEL`): a provider that ignores the case
    of keys would take the one that was not checked."""
    for name in body.fields:
        if name != "model" and name.casefold() == "model":
            raise ModelOutOfScopeError(
                f"This key is limited to some models, and the request names one as `{name}`.",
                param=name,
            )


def is_model_in_scope(
    model: str | None, patterns: tuple[str, ...], models: ModelCatalog | None
) -> bool:
    """Return whether a requested model is allowed under any of its spellings; False for None."""
    if model is None:
        return False
    if is_in_scope(model, patterns):
        return True
    return models is not None and is_any_in_scope(models.match(model).names, patterns)


def choose_project(grant: Grant, project_id: str) -> Grant:
    """Return the grant for calls of the project that the caller names.

    Raise `ProjectOutOfScopeError`.
    """
    if project_id == grant.project_id:
        return grant
    if project_id not in grant.projects:
        raise ProjectOutOfScopeError(
            "This key may not use the project that x-headgate-project names."
        )
    return replace(grant, project_id=project_id)


def estimate_tokens(call: Call) -> int:
    """Estimate the tokens of a call: its body as input, and its maximum of output for each
    answer."""
    body = call.body
    if not isinstance(body, JsonRequest):
        return OUTPUT_TOKENS_ASSUMED
    output = OUTPUT_TOKENS_ASSUMED if body.output_tokens_max is None else body.output_tokens_max
    return estimate_input_tokens(body.body, call.model) + output * max(1, body.n or 1)
