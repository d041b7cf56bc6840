"""Hold money before a call is sent: in the wallet, and in the budgets that count it (law 2)."""

from __future__ import annotations

import asyncio
from collections.abc import Container

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Timeouts
from headgate.kit.money import format_dollars
from headgate.llm.endpoint import Pricing
from headgate.relay.call_bound import CallBound, bound_call
from headgate.relay.call_state import CallState
from headgate.relay.deadlines import merge_timeouts
from headgate.relay.managed_calls import ManagedCallLimiter
from headgate.relay.ports import (
    Budget,
    Budgets,
    Grant,
    Hold,
    HoldRefusedError,
    ModelCatalog,
    Receipt,
    Wallet,
)

SETTLING_SECONDS_MAX = 300
"""How long a lease lasts beyond the total deadline of its call: for slow clients and databases."""
OUTPUT_TOKENS_MIN = 256
"""The least output that a caller who states no limit is sold: a shorter answer is of no use."""
REASONING_OUTPUT_TOKENS_MIN = 1_024
"""The same for a model that reasons first: with less, it may answer nothing."""
FITTED_TOKENS_MIN = 16
"""The least output limit that a caller who asks for a fitted one gets; OpenAI accepts no less."""


class UnpricedModelError(HeadgateError):
    """The model has no price that bounds the cost of the call, so neither credits nor a budget can
    pay for it.

    Use a model of the catalog, or have the operator add its price. In a managed call, an own
    credential helps, too.
    """

    kind = Kind.INVALID
    code = "model_unpriced"


class InvalidOutputLimitError(HeadgateError):
    """The request states an output limit that is not positive, and what it could cost without a
    limit is not covered.

    State a positive limit, or none.
    """

    kind = Kind.INVALID
    code = "invalid_output_limit"


class NoBudgets:
    """Have no budget for anybody (`relay.ports.Budgets`)."""

    organizations: Container[str] = frozenset[str]()

    def find(self, grant: Grant, *, managed: bool) -> tuple[Budget, ...]:
        return ()


NO_BUDGETS: Budgets = NoBudgets()


class Reservation:
    """Hold the most that a call can cost, if the wallet pays it or a budget counts it.

    A call without an output limit gets the largest one that wallet and budgets cover, which is sent
    to its provider (decision 0025). `tool_calls_assumed` is the number of tool calls to hold for if
    the request sets no maximum. `timeouts` apply where neither model nor credential set any; a hold
    outlasts them.
    """

    def __init__(
        self,
        wallet: Wallet,
        models: ModelCatalog,
        clock: Clock,
        *,
        timeouts: Timeouts,
        budgets: Budgets = NO_BUDGETS,
        managed_calls: ManagedCallLimiter | None = None,
        tool_calls_assumed: int = 10,
    ) -> None:
        self._wallet = wallet
        self._models = models
        self._clock = clock
        self._timeouts = timeouts
        self._budgets = budgets
        self._managed_calls = managed_calls
        self._tool_calls_assumed = tool_calls_assumed

    async def hold(self, state: CallState) -> None:
        """Hold the money, or raise: `UnpricedModelError` (fail closed), `HoldRefusedError`,
        `InvalidOutputLimitError`, or for a managed call what its plan does not allow."""
        credential, call = state.credential, state.call
        if credential is None:
            return
        # A look without a function call, since every call with an own credential takes it.
        has_budgets = call.grant.organization_id in self._budgets.organizations
        if not (credential.managed or has_budgets) or call.endpoint.pricing is Pricing.FREE:
            return
        budgets: tuple[Budget, ...] = ()
        if has_budgets:
            budgets = self._budgets.find(call.grant, managed=credential.managed)
        if not (credential.managed or budgets):
            return
        bound = bound_call(state, self._models, self._clock.now(), self._tool_calls_assumed)
        amount = None if bound is None else bound.cost(bound.limit)
        if bound is None or amount is None:
            raise make_unpriced_error(state, budgets)
        if credential.managed and self._managed_calls is not None:
            self._managed_calls.admit(call)
        hold = self._make_hold(state, bound, amount, budgets)
        try:
            state.hold = await self._wallet.hold(hold)
        except asyncio.CancelledError:
            # The server stops. The hold is queued already, and the receipt that is queued behind it
            # releases it.
            state.hold = hold
            raise
        except HoldRefusedError as error:
            if bound.has_invalid_limit:
                raise make_invalid_limit_error(state, bound) from None
            explain_fit(error, state, bound)
            raise
        self._limit_output(state, bound, amount)

    async def release(self, state: CallState, receipt: Receipt | None) -> None:
        """Give back what is held for a target that failed, less the cost of `receipt`. Raise a
        `HeadgateError` of kind UNAVAILABLE."""
        call, hold = state.call, state.hold
        if call.has_plan_place and self._managed_calls is not None:
            self._managed_calls.release(call)
        if hold is not None:
            await self._wallet.release(hold, receipt)

    def _make_hold(
        self, state: CallState, bound: CallBound, amount: int, budgets: tuple[Budget, ...]
    ) -> Hold:
        credential, call, model = state.credential, state.call, state.model
        assert credential is not None, "routing comes first"
        timeouts = merge_timeouts(self._timeouts, model and model.deadlines, credential.deadlines)
        least = find_least_amount(state, bound)
        return Hold(
            request_id=call.request_id,
            organization_id=call.grant.organization_id,
            amount_nano=amount,
            project_id=call.grant.project_id,
            key_id=call.grant.key_id,
            credential_id=credential.id,
            endpoint=call.endpoint.name,
            method=call.method,
            provider=credential.integration,
            model=call.model,
            price_id=bound.price.id,
            lease_seconds=timeouts.total_seconds + SETTLING_SECONDS_MAX,
            managed=credential.managed,
            budgets=budgets,
            amount_min_nano=-1 if least is None or least >= amount else least,
            shares_rest=not bound.stated,
            target_index=state.target_index,
        )

    def _limit_output(self, state: CallState, bound: CallBound, amount: int) -> None:
        """Send the output limit that the hold covers, where the request does not state it."""
        hold = state.hold
        assert hold is not None, "it was granted"
        limit = bound.limit
        if hold.amount_nano < amount:
            limit = bound.find_limit(hold.amount_nano)
        elif not bound.has_excess_limit:
            return
        state.limit_output(limit, bound.limit_fields)


def find_least_amount(state: CallState, bound: CallBound) -> int | None:
    """Return the least amount with which a call is sent, if its output limit may be fitted."""
    fits = state.call.fits_budget
    if (bound.stated and not fits) or not bound.can_fit:
        return None
    if fits:
        least = FITTED_TOKENS_MIN
    else:
        reasons = state.model is not None and state.model.reasons
        least = REASONING_OUTPUT_TOKENS_MIN if reasons else OUTPUT_TOKENS_MIN
    return bound.cost(min(least, bound.limit))


def explain_fit(error: HoldRefusedError, state: CallState, bound: CallBound) -> None:
    """Add to a refusal which output limit would have been granted."""
    if not bound.limit_fields or bound.extra_output:
        return
    limit = max(0, bound.find_limit(error.denial.available_nano))
    if limit < FITTED_TOKENS_MIN:
        error.fits_tokens = 0
        error.message += " No useful output limit would make it fit."
        return
    error.fits_tokens, error.fits_nano = limit, bound.cost(limit) or 0
    error.message += (
        f" A limit of {limit} output tokens would fit ({format_dollars(error.fits_nano)} US"
        f" dollars): send `{name_limit(state, bound.limit_fields[0])}`: {limit}, or the header"
        " `x-headgate-budget: fit`."
    )


def make_unpriced_error(state: CallState, budgets: tuple[Budget, ...]) -> UnpricedModelError:
    call = state.call
    named = f"`{call.model or call.endpoint.name}` has no price that bounds its cost"
    if state.credential is not None and state.credential.managed:
        message = (
            f"{named}, so it cannot be paid in credits. Use an own credential, or a model of the "
            "catalog."
        )
    else:
        scopes = " and ".join(f"the {budget.scope} {budget.scope_id}" for budget in budgets)
        message = (
            f"{named}, so it cannot be counted in the budget of {scopes}. Use a model of the "
            "catalog, or have the operator add its price."
        )
    return UnpricedModelError(message, param="model", should_retry=False)


def name_limit(state: CallState, name: str) -> str:
    """Return the client's name of an output limit, where the provider has another one."""
    if state.conversion is None or not state.call.endpoint.output_limits:
        return name
    return state.call.endpoint.output_limits[0]


def make_invalid_limit_error(state: CallState, bound: CallBound) -> InvalidOutputLimitError:
    name, value = next((name, value) for name, value in bound.stated.items() if value <= 0)
    name = name_limit(state, name)
    return InvalidOutputLimitError(
        f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got {value} "
        "instead.",
        param=name,
        should_retry=False,
    )
