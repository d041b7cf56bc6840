"""The errors that refuse a hold, each with the limit that refused it, in nano-dollars."""

from __future__ import annotations

from headgate.billing.model.budgets import BudgetMonth, end_of_month, format_time
from headgate.kit.money import format_dollars
from headgate.relay.ports import Budget, Denial, HoldRefusedError


class InsufficientFundsError(HoldRefusedError):
    """The wallet does not cover the highest cost that the call can have.

    Add funds with `headgate wallet fund`, or state a smaller output limit.
    """

    code = "insufficient_funds"

    def __init__(
        self, *, needed_nano: int, available_nano: int, held_nano: int = 0, scope_id: str = ""
    ) -> None:
        held = f", with {format_dollars(held_nano)} held for running calls" if held_nano else ""
        super().__init__(
            f"This call can cost up to {format_dollars(needed_nano)} US dollars and the wallet has "
            f"{format_dollars(available_nano)} available{held}. Top up the wallet, or lower the "
            "limit of output tokens.",
            denial=Denial(
                layer="wallet",
                key="wallet",
                scope_id=scope_id,
                limit_nano=available_nano + held_nano,
                used_nano=0,
                held_nano=held_nano,
                needed_nano=needed_nano,
                available_nano=available_nano,
            ),
        )


class CreditsExhaustedError(HoldRefusedError):
    """The credits of the plan for this month do not cover the call, and the plan allows no overage.

    Change the plan, allow overage from the wallet, or wait for the next month.
    """

    code = "credits_exhausted"

    def __init__(
        self,
        *,
        organization_id: str,
        plan: str,
        needed_nano: int,
        available_nano: int,
        held_nano: int,
        limit_nano: int,
        month: str,
    ) -> None:
        resets_at = end_of_month(month)
        super().__init__(
            f"This call can cost up to {format_dollars(needed_nano)} US dollars and of the "
            f"{format_dollars(limit_nano)} of monthly credits of the plan {plan}, "
            f"{format_dollars(available_nano)} is left and {format_dollars(held_nano)} is held for "
            f"running calls. New credits come at {format_time(resets_at)}. Change the plan, "
            "allow overage from the wallet, or lower the limit of output tokens.",
            denial=Denial(
                layer="credit",
                key="credits.monthly",
                scope_id=organization_id,
                limit_nano=limit_nano,
                used_nano=max(0, limit_nano - available_nano - held_nano),
                held_nano=held_nano,
                needed_nano=needed_nano,
                available_nano=available_nano,
                resets_at=resets_at,
            ),
        )


class BudgetExceededError(HoldRefusedError):
    """A monthly budget of the key, its project or its organization does not cover the call.

    Raise the budget, wait for the next month, or state a smaller output limit.
    """

    code = "budget_exceeded"

    def __init__(self, budget: Budget, counter: BudgetMonth, *, needed_nano: int) -> None:
        resets_at = end_of_month(counter.month)
        available_nano = max(0, counter.find_left(budget))
        used_nano, held_nano = counter.find_used(budget), counter.find_held(budget)
        super().__init__(
            f"The monthly budget of the {budget.scope} {budget.scope_id} does not cover this call, "
            f"which can cost up to {format_dollars(needed_nano)} US dollars: of "
            f"{format_dollars(budget.limit_nano)}, {format_dollars(used_nano)} is used, "
            f"{format_dollars(held_nano)} is held for running calls and "
            f"{format_dollars(available_nano)} is left. It is reset at {format_time(resets_at)}. "
            "Raise the budget, or lower the limit of output tokens.",
            denial=Denial(
                layer="quota",
                key=f"budget.{budget.scope}",
                scope_id=budget.scope_id,
                limit_nano=budget.limit_nano,
                used_nano=used_nano,
                held_nano=held_nano,
                needed_nano=needed_nano,
                available_nano=available_nano,
                resets_at=resets_at,
            ),
        )
