"""Analytics in the envelope of the dashboard: success, organization, data, position."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headgate.accounts.model import Member
from headgate.api.schemas.fields import to_datetime
from headgate.api.schemas.money import show_dollars
from headgate.api.schemas.plans import NANO_PER_CREDIT
from headgate.api.schemas.usage import UsageSums, describe_measures
from headgate.audit.model import AuditEntry
from headgate.billing.service.plans import BillingState
from headgate.llm.usage import Usage
from headgate.metering.model import MICROSECONDS
from headgate.metering.model.usage import Measures
from headgate.metering.model.zones import HOUR, Period, ceil_quarter
from headgate.metering.service.usage import UsageRow
from headgate.relay.ports import Receipt

LIMIT_MAX = 500
OFFSET_MAX = 100_000
PERIODS: Mapping[str, int] = {"24h": 24, "7d": 7 * 24, "30d": 30 * 24, "90d": 90 * 24}
"""The periods that end now, in hours."""

AnalyticsPeriod = Literal["24h", "7d", "30d", "90d"]


class DashboardQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select the period that ends now, and a page of the list."""

    period: AnalyticsPeriod = "30d"
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = 50
    offset: Annotated[int, Meta(ge=0, le=OFFSET_MAX)] = 0

    def find_range(self, now: float) -> Period:
        end = ceil_quarter(int(now * MICROSECONDS))
        return Period(end - PERIODS[self.period] * HOUR, end)


class AnalyticsMeta(msgspec.Struct):
    """The period and the position of the page. `cached` is false: the data are of now."""

    period: AnalyticsPeriod
    limit: int
    offset: int
    cached: bool = False


class DashboardAnswer(msgspec.Struct, kw_only=True):
    """Hold what every answer of the dashboard has. The class that inherits from it adds `data`."""

    success: bool = True
    organization_id: str
    meta: AnalyticsMeta


class OverviewData(msgspec.Struct, kw_only=True):
    """The plan with its credits of this month, the wallet, and the usage of the period."""

    plan: str | None
    used_credit: float
    max_credit: float
    remaining_credit: float
    next_reset_date: datetime.datetime
    wallet: str
    usage: UsageSums
    success_rate: float


class OverviewAnswer(DashboardAnswer, kw_only=True):
    """Credits, wallet and usage at a glance."""

    data: OverviewData


class LlmCallResponse(msgspec.Struct, kw_only=True):
    """A call of a model. `request_duration` is in milliseconds."""

    request_id: str
    provider: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: str
    request_time: datetime.datetime
    request_duration: float
    status: Literal["success", "error"]
    credential_id: str | None
    credential_name: str | None


class LlmUsageTotal(msgspec.Struct, kw_only=True):
    """The sums of a provider and a model."""

    provider: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: str
    success_rate: float


class LlmUsageData(msgspec.Struct, kw_only=True):
    """The calls of this page, the sums by provider and model, and the sums over all calls."""

    usage: list[LlmCallResponse]
    totals: list[LlmUsageTotal]
    total_requests: int
    total_prompt_tokens: int
    total_completion_tokens: int
    total_tokens: int
    total_cost: str
    success_rate: float


class LlmUsageAnswer(DashboardAnswer, kw_only=True):
    """Calls of models, and their sums by provider and model."""

    data: LlmUsageData


class ToolUsage(msgspec.Struct):
    """How often a hosted tool was called, and by how many calls of a model."""

    tool: str
    calls: int
    requests: int


class ToolUsageData(msgspec.Struct):
    """The hosted tools that were called, most often first. `is_complete` is false where only the
    newest 100,000 calls were examined."""

    tools: list[ToolUsage]
    total_calls: int
    is_complete: bool


class ToolUsageAnswer(DashboardAnswer, kw_only=True):
    """Calls of the provider's hosted tools, such as `web_search`."""

    data: ToolUsageData


class LogResponse(msgspec.Struct, kw_only=True):
    """An action in the organization: an entry of the audit log."""

    id: int
    timestamp: datetime.datetime
    action: str
    object_id: str
    user_id: str
    user_name: str
    user_kind: str
    ip_address: str
    user_agent: str
    changes: dict[str, Any]


class LogData(msgspec.Struct):
    """The actions of this page, newest first."""

    logs: list[LogResponse]
    total: int


class LogAnswer(DashboardAnswer, kw_only=True):
    """Who did what in the organization."""

    data: LogData


class DashboardUser(msgspec.Struct, kw_only=True):
    """A person of the organization, with the number of their actions in the period."""

    user_id: str
    email: str
    name: str
    role: str
    joined_at: datetime.datetime
    is_active: bool
    actions: int
    last_action_at: datetime.datetime | None


class DashboardUserData(msgspec.Struct):
    """The people of this page, oldest membership first."""

    users: list[DashboardUser]
    total: int


class DashboardUserAnswer(DashboardAnswer, kw_only=True):
    """The people of the organization."""

    data: DashboardUserData


def to_overview(state: BillingState, total: Measures) -> OverviewData:
    plan = state.plan
    return OverviewData(
        plan=None if plan is None else plan.id,
        used_credit=(state.credits_nano - state.remaining_nano) / NANO_PER_CREDIT,
        max_credit=state.credits_nano / NANO_PER_CREDIT,
        remaining_credit=state.remaining_nano / NANO_PER_CREDIT,
        next_reset_date=to_datetime(state.resets_at),
        wallet=show_dollars(state.wallet_nano),
        usage=UsageSums(**describe_measures(total)),
        success_rate=find_success_rate(total),
    )


def to_llm_usage(
    calls: Sequence[Receipt], rows: Sequence[UsageRow], total: Measures, names: Mapping[str, str]
) -> LlmUsageData:
    """`rows` are grouped by provider and model; `names` are those of credentials."""
    ordered = sorted(rows, key=lambda row: (-row.measures.cost_nano, row.group))
    return LlmUsageData(
        usage=[_to_call(receipt, names) for receipt in calls],
        totals=[_to_total(row) for row in ordered if row.measures.requests],
        total_requests=total.requests,
        total_prompt_tokens=total.input_tokens,
        total_completion_tokens=total.output_tokens,
        total_tokens=total.input_tokens + total.output_tokens,
        total_cost=show_dollars(total.cost_nano),
        success_rate=find_success_rate(total),
    )


def _to_call(receipt: Receipt, names: Mapping[str, str]) -> LlmCallResponse:
    usage = receipt.usage or Usage()
    credential_id = receipt.credential_id
    return LlmCallResponse(
        request_id=receipt.request_id,
        provider=receipt.provider,
        model=receipt.model_requested or receipt.model_served or "",
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        cost=show_dollars(receipt.cost_nano),
        request_time=to_datetime(receipt.created_at),
        request_duration=max(0, receipt.total_microseconds) / 1_000,
        status="success" if receipt.outcome == "completed" else "error",
        credential_id=credential_id,
        credential_name=names.get(credential_id or ""),
    )


def _to_total(row: UsageRow) -> LlmUsageTotal:
    provider, model = row.group
    sums = row.measures
    return LlmUsageTotal(
        provider=provider,
        model=model,
        requests=sums.requests,
        prompt_tokens=sums.input_tokens,
        completion_tokens=sums.output_tokens,
        total_tokens=sums.input_tokens + sums.output_tokens,
        cost=show_dollars(sums.cost_nano),
        success_rate=find_success_rate(sums),
    )


def find_success_rate(sums: Measures) -> float:
    """Return the share of calls that completed, from 0 to 1; 0 without calls."""
    return round(sums.completed / sums.requests, 6) if sums.requests else 0.0


def to_tool_usage(some: Sequence[Usage], *, is_complete: bool) -> ToolUsageData:
    calls: Counter[str] = Counter()
    requests: Counter[str] = Counter()
    for usage in some:
        calls.update(usage.tool_calls)
        requests.update(usage.tool_calls.keys())
    tools = [ToolUsage(tool, count, requests[tool]) for tool, count in calls.most_common()]
    return ToolUsageData(tools, calls.total(), is_complete)


def to_log_response(entry: AuditEntry) -> LogResponse:
    actor, event = entry.actor, entry.event
    return LogResponse(
        id=entry.number,
        timestamp=to_datetime(entry.at),
        action=event.action,
        object_id=event.object_id,
        user_id=actor.id,
        user_name=actor.name,
        user_kind=actor.kind.value,
        ip_address=actor.address,
        user_agent=actor.user_agent,
        changes=event.changes,
    )


def to_dashboard_user(member: Member, actions: int, last: AuditEntry | None) -> DashboardUser:
    return DashboardUser(
        user_id=member.person_id,
        email=member.email,
        name=member.name,
        role=member.role.value,
        joined_at=to_datetime(member.created_at),
        is_active=member.disabled_at is None,
        actions=actions,
        last_action_at=None if last is None else to_datetime(last.at),
    )
