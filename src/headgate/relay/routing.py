"""Route a call: choose its credential, its model, and its path at the provider."""

from __future__ import annotations

import functools
import urllib.parse
from collections.abc import Collection

from headgate.kit.errors import HeadgateError, Kind
from headgate.llm import form
from headgate.llm.convert.field_rules import apply_rules
from headgate.llm.convert.reasoning_text import MARK as REASONING_MARK
from headgate.llm.convert.reasoning_text import cut_reasoning_text
from headgate.llm.endpoint import CHAT_COMPLETIONS, RESPONSES, Body, Endpoint, Pricing
from headgate.llm.request import JsonRequest
from headgate.relay.admission import ModelOutOfScopeError, is_any_in_scope
from headgate.relay.breaker import Breakers
from headgate.relay.call import Call
from headgate.relay.call_state import CallState
from headgate.relay.conversion import Conversion, Conversions
from headgate.relay.losses import check_losses
from headgate.relay.ports import (
    DEFAULT_INTEGRATION,
    Credential,
    Credentials,
    ManagedModelRoute,
    ManagedModelRoutes,
    ModelCatalog,
    ModelMatch,
)
from headgate.relay.stream_usage import UsageRefusals

ENDPOINTS_OF_DEFAULT_MODEL = frozenset({"chat.completions", "responses"})
"""Endpoints where the default managed model may serve an unknown id: it can do what was asked."""

PATHS = {CHAT_COMPLETIONS: "/chat/completions", RESPONSES: "/responses"}
"""Where requests of each surface go, below `/v1`."""


class ModelEndpointMismatchError(HeadgateError):
    """The model does not answer by this API, and the request cannot be converted for it.

    Send the request to the endpoint that the message names, or choose another model.
    """

    kind = Kind.INVALID
    code = "model_endpoint_mismatch"


class UnsafePathError(HeadgateError):
    """The path has empty or dotted segments, or control characters.

    Use the path as documented.
    """

    kind = Kind.INVALID
    code = "invalid_path"


class ModelNotFoundError(HeadgateError):
    """No integration of the organization serves this model.

    List the models of the key with `GET /v1/models`.
    """

    kind = Kind.MISSING
    code = "model_not_found"


class ModelRoutedElsewhereError(HeadgateError):
    """The call names a credential, and its model belongs to another integration.

    Name a credential of that integration, or none.
    """

    kind = Kind.INVALID
    code = "credential_unusable"


class SharedAccountError(HeadgateError):
    """The endpoint would show the data of other organizations that share the provider's account.

    Use an own credential.
    """

    kind = Kind.FORBIDDEN
    code = "shared_account"


class Routing:
    """Plan a call: resolve the credential, the model as its provider spells it, and the body to
    send."""

    def __init__(
        self,
        credentials: Credentials,
        models: ModelCatalog,
        breakers: Breakers,
        managed_routes: ManagedModelRoutes | None = None,
        usage_refusals: UsageRefusals | None = None,
        conversions: Conversions | None = None,
    ) -> None:
        self._credentials = credentials
        self._models = models
        self._breakers = breakers
        self._managed_routes = managed_routes
        self._usage_refusals = usage_refusals
        self._conversions = conversions

    def plan(self, state: CallState) -> None:
        """Fill in credential, model, target and body, or raise what is missing.

        A credential whose breaker is open is rejected here, before money is held. `Upstream` checks
        again when it sends.
        """
        call = state.call
        match = None if call.model is None else self._models.match(call.model)
        integration = DEFAULT_INTEGRATION if match is None else match.integration
        if call.credential_name is not None:
            integration, match = self._find_named_integration(call, call.credential_name, match)
        try:
            credential = self._resolve(call, integration, match)
        except HeadgateError:
            found = self._resolve_elsewhere(call, integration, match)
            # The error of the integration that was meant, which says what is missing.
            if found is None:
                raise
            credential, match = found
        managed_route = None
        if credential.managed:
            managed_route = self._choose_managed_route(call, credential, match)
            if managed_route is not None:
                credential = managed_route.credential
        state.credential = credential
        self._breakers.check(credential, call.model)
        state.target = credential.base_path + check_path(call.path) + call.query
        state.body, state.conversion = call.body, None
        if isinstance(call.body, JsonRequest):
            self._prepare(state, call.body, managed_route, match)
        elif match is not None:
            state.model, state.model_id = match.model, match.model_id
            if (
                (match.wire_id != call.model or call.route is not None)
                and managed_route is None
                and isinstance(call.body, bytes)
            ):
                state.body = rename_in_form(call, call.body, choose_wire_id(match, credential))
        # The rewritten body is kept beside the client's own, so it counts as well.
        if state.body is not call.body:
            state.reserve_copies()

    def _resolve(self, call: Call, integration: str, match: ModelMatch | None) -> Credential:
        return self._credentials.resolve(
            call.grant.organization_id,
            integration=integration,
            name=call.credential_name,
            model=None if match is None else match.model_id,
            is_free=call.endpoint.pricing is Pricing.FREE,
        )

    def _find_named_integration(
        self, call: Call, name: str, match: ModelMatch | None
    ) -> tuple[str, ModelMatch | None]:
        """Return the integration of the named credential, and its model of the requested id. A key
        that is limited to models must allow the model of that integration, too."""
        preferred = DEFAULT_INTEGRATION if match is None else match.integration
        organization_id = call.grant.organization_id
        integration = self._credentials.find_integration(organization_id, name, preferred)
        if integration not in self._models.providers:
            integration = preferred  # where it is not known: a tool's secret is for no model
        if call.model is None or integration == preferred:
            return integration, match
        match = self._models.match(call.model, integration)
        if call.endpoint.pricing is not Pricing.FREE:
            check_model_scope(call, match)
        return integration, match

    def _resolve_elsewhere(
        self, call: Call, integration: str, match: ModelMatch | None
    ) -> tuple[Credential, ModelMatch | None] | None:
        """Return what else can serve a call whose integration has no credential at all.

        That is another integration with a model of that id, a managed model, or for a list any
        other integration.
        """
        credentials, organization_id = self._credentials, call.grant.organization_id
        if call.credential_name is not None or credentials.has_any(organization_id, integration):
            return None
        if call.endpoint.lists_models:
            for other in self._models.providers:
                if credentials.has_any(organization_id, other):
                    return self._resolve(call, other, None), None
        if match is None:
            return None
        for other_match in match.others:
            if credentials.has_any(organization_id, other_match.integration):
                if call.endpoint.pricing is not Pricing.FREE:
                    check_model_scope(call, other_match)
                return self._resolve(call, other_match.integration, other_match), other_match
        managed_route = self._find_managed_route(call, match)
        return None if managed_route is None else (managed_route.credential, match)

    def _choose_managed_route(
        self, call: Call, credential: Credential, match: ModelMatch | None
    ) -> ManagedModelRoute | None:
        """Return what serves a managed call; None where its model goes to the credential as it is
        named.

        The key's scope holds for the model that serves, too: a replacement grants no more.
        """
        if match is None:
            check_shared_account(call, credential)
            return None
        managed_routes = self._managed_routes
        if not managed_routes:
            return None
        managed_route = self._find_managed_route(call, match)
        if managed_route is None:
            if call.endpoint.pricing is Pricing.FREE:
                return None
            message = f"The model '{call.model}' does not exist among the managed models."
            raise ModelNotFoundError(message, param="model", should_retry=False)
        serving = self._models.match(managed_route.model_id, managed_route.credential.integration)
        names = (managed_route.model_id, *serving.names)
        if call.grant.models and not is_any_in_scope(names, call.grant.models):
            message = (
                f"`{call.model}` is served by `{managed_route.model_id}`, which this key is not "
                f"issued for: it is limited to the models {', '.join(call.grant.models)}."
            )
            raise ModelOutOfScopeError(message, param="model")
        if call.credential_name is not None and managed_route.credential.id != credential.id:
            message = (
                f"The credential {call.credential_name!r} does not serve the managed model "
                f"'{call.model}'; no other one is taken in its place."
            )
            raise ModelRoutedElsewhereError(message, should_retry=False)
        return managed_route

    def _find_managed_route(self, call: Call, match: ModelMatch) -> ManagedModelRoute | None:
        """Return the route of the id as it is spelled, or of the bare id; else the default route. A
        model that is requested of an integration by name is not served by another one's."""
        managed_routes = self._managed_routes
        if not managed_routes or call.model is None:
            return None
        managed_route = managed_routes.find(call.model)
        if managed_route is not None:
            return managed_route
        if match.is_qualified:
            managed_route = managed_routes.find(match.model_id)
        if managed_route is None and call.endpoint.name in ENDPOINTS_OF_DEFAULT_MODEL:
            managed_route = managed_routes.default()
        if managed_route is not None and match.is_qualified:
            return (
                managed_route if managed_route.credential.integration == match.integration else None
            )
        return managed_route

    def _prepare(
        self,
        state: CallState,
        body: JsonRequest,
        managed_route: ManagedModelRoute | None,
        match: ModelMatch | None,
    ) -> None:
        """Choose the body to send: the client's own bytes wherever nothing has to change (law
        4)."""
        call = state.call
        body = body.with_envelopes_removed()
        if call.route is not None and call.route.default_arguments:
            body = body.with_defaults(call.route.default_arguments, call.endpoint.checked)
        state.streams = body.stream
        if managed_route is not None:
            body = self._use_managed_route(state, body, managed_route)
        elif match is not None:
            state.model, state.model_id = match.model, match.model_id
            if match.wire_id != call.model or call.route is not None:
                credential = state.credential
                assert credential is not None, "it is chosen first"
                body = body.with_model(choose_wire_id(match, credential))
        endpoint = call.endpoint
        if endpoint.surface:
            credential = state.credential
            assert credential is not None, "it is chosen first"
            model = state.model
            is_own = model is not None and model.surfaces and credential.has_catalog_models
            surfaces = model.surfaces if model is not None and is_own else credential.surfaces
            if surfaces and endpoint.surface not in surfaces:
                endpoint, body = self._convert(state, body, credential, surfaces)
            elif endpoint.surface == RESPONSES and REASONING_MARK in body.body:
                body = cut_reasoning_text(body)
        if call.route is not None or state.conversion is not None or call.envelope is not None:
            body = self._adapt(state, body, endpoint)
        if body.stream and endpoint.asks_usage and not body.includes_usage:
            body = self._request_usage(state, body)
        state.body = body

    def _adapt(self, state: CallState, body: JsonRequest, endpoint: Endpoint) -> JsonRequest:
        """Return the request as this one provider wants it: the fields that it takes, then those
        that the caller has for it alone."""
        if state.call.route is not None or state.conversion is not None:
            body = self._adapt_fields(state, body, endpoint)
        envelope = state.call.envelope
        return (
            body if envelope is None else body.with_fields(envelope.provider_args, endpoint.checked)
        )

    def _adapt_fields(self, state: CallState, body: JsonRequest, endpoint: Endpoint) -> JsonRequest:
        """Return the request with the fields that the provider takes: its client did not choose
        the provider alone (decision 0038)."""
        assert state.credential is not None, "it is chosen first"
        rules = self._models.field_rules(
            state.credential.integration, endpoint.surface or endpoint.name
        )
        if rules is None:
            return body
        body, losses = apply_rules(body, rules)
        check_losses(state.call, losses)
        if state.conversion is not None:
            state.conversion.losses.extend(losses)
        elif losses:
            state.losses = losses
        return body

    def _convert(
        self,
        state: CallState,
        body: JsonRequest,
        credential: Credential,
        surfaces: Collection[str],
    ) -> tuple[Endpoint, JsonRequest]:
        """Return the provider's endpoint, and the request as its API wants it."""
        conversion = self._begin_conversion(state, surfaces)
        endpoint = conversion.endpoint
        state.target = credential.base_path + endpoint.path.encode()
        body = conversion.convert_request(body)
        check_losses(state.call, conversion.losses)
        return endpoint, body

    def _begin_conversion(self, state: CallState, surfaces: Collection[str]) -> Conversion:
        """Begin to convert a call for a provider that does not speak the client's API. Raise
        `ModelEndpointMismatchError`."""
        call, conversion = state.call, None
        if self._conversions is not None and (state.model is None or state.model.converts):
            conversion = self._conversions.begin(call.endpoint.surface, surfaces, state.model)
        if conversion is None:
            paths = " or ".join(f"/v1{PATHS[each]}" for each in sorted(surfaces))
            message = (
                f"The model '{call.model}' does not answer requests to /v1{call.endpoint.path}. "
                f"Send them to {paths}."
            )
            raise ModelEndpointMismatchError(message, param="model", should_retry=False)
        state.conversion = conversion
        return conversion

    def _request_usage(self, state: CallState, body: JsonRequest) -> JsonRequest:
        """Return the request with the field that asks for usage, unless the provider is known to
        reject it."""
        credential, refusals = state.credential, self._usage_refusals
        assert credential is not None, "it is chosen first"
        if not credential.asks_usage or (
            refusals is not None and refusals.has(credential, state.call.model)
        ):
            return body
        state.requested_usage, state.body_without_usage = True, body
        return body.with_usage_asked()

    def _use_managed_route(
        self, state: CallState, body: JsonRequest, managed_route: ManagedModelRoute
    ) -> JsonRequest:
        """Return the request for the model that serves; hold, price and receipt are of that one."""
        models, integration = self._models, managed_route.credential.integration
        model = models.find(managed_route.wire_id, integration) or models.find(
            managed_route.model_id, integration
        )
        state.model = model
        served = managed_route.model_id if model is None else model.id
        if served != state.call.model:
            state.parsed_usage.model = served
        return body.with_model(
            managed_route.wire_id or (served if model is None else model.wire_id)
        )


def choose_wire_id(match: ModelMatch, credential: Credential) -> str:
    """Return the model id that the provider gets.

    A custom address may itself have ids such as `openai/gpt-oss-120b`, so the prefix of the default
    integration stays there.
    """
    if (
        match.is_qualified
        and match.integration == DEFAULT_INTEGRATION
        and not credential.has_integration_address
    ):
        return f"{match.integration}/{match.model_id}"
    return match.wire_id


def rename_in_form(call: Call, body: bytes, wire_id: str) -> bytes:
    """Return a form with the model's id as the provider spells it."""
    for name, value in call.headers:
        if name == b"content-type":
            return form.replace_field(body, value.decode("latin-1"), "model", wire_id)
    return body


def check_model_scope(call: Call, match: ModelMatch) -> None:
    """Reject a model outside the key's scope. Raise `ModelOutOfScopeError`."""
    if call.grant.models and not is_any_in_scope(match.names, call.grant.models):
        message = (
            f"This key is limited to the models {', '.join(call.grant.models)}; with this "
            f"credential, the request names `{match.names[0]}`."
        )
        raise ModelOutOfScopeError(message, param="model")


def check_shared_account(call: Call, credential: Credential) -> None:
    """Reject a managed call that reads or changes what is stored in the provider's account, which
    all organizations share; but not what this project itself created there.

    Raise `SharedAccountError`.
    """
    endpoint = call.endpoint
    if endpoint.pricing is not Pricing.FREE or endpoint.body is Body.JSON:
        return
    if call.account_id == credential.id:
        return
    if endpoint.lists_models and call.method in ("GET", "HEAD"):
        return
    message = (
        f"`{call.method} {call.path.decode('latin-1')}` works on what lies in the provider's "
        "account, and the platform's account is shared by all organizations. Use an own credential."
    )
    raise SharedAccountError(message, should_retry=False)


@functools.lru_cache(maxsize=1024)
def check_path(path: bytes) -> bytes:
    """Return the path; raise `UnsafePathError` for one that could leave the provider's base
    path."""
    if b"%" in path or b"/." in path or b"//" in path or b"\\" in path:
        # The provider may decode more than once, so every level of encoding is undone.
        decoded = path
        while (further := urllib.parse.unquote_to_bytes(decoded)) != decoded:
            decoded = further
        segments = [
            segment.partition(b";")[0] for segment in decoded.replace(b"\\", b"/").split(b"/")
        ]
        if b"//" in path or b".." in segments or b"." in segments or min(decoded) < 0x20:
            raise UnsafePathError(
                "The path must not have empty or dotted segments, or control characters."
            )
    return path
