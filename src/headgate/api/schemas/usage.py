"""Usage as the platform API shows it."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.api.errors import InvalidFieldError
from headgate.api.schemas.credentials import Day
from headgate.api.schemas.money import show_dollars
from headgate.kit.money import divide_half_up
from headgate.kit.time_zones import UTC
from headgate.metering.model import MICROSECONDS
from headgate.metering.model.usage import TOKENS, Measures
from headgate.metering.model.usage_groups import METADATA, is_metadata, parse_group_by
from headgate.metering.model.usage_range import read_range
from headgate.metering.model.usage_table import find_latencies, to_local_time
from headgate.metering.model.zones import Period
from headgate.metering.service.export import ExportFormat
from headgate.metering.service.usage import UsageAnswer, UsageRequest, UsageRow
from headgate.metering.store.usage import UsageFilter

LIMIT_MAX = 1_000

Text = Annotated[str, Meta(max_length=256)]
GroupBy = Annotated[str, Meta(max_length=2_000)]


class UsageFilterQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select the calls that are added up."""

    start: Day = ""
    end: Day = ""
    time_zone: Text = ""
    project_id: Text = ""
    key_id: Text = ""
    credential_id: Text = ""
    provider: Text = ""
    model: Text = ""
    managed: bool | None = None
    metadata: Annotated[str, Meta(max_length=1_000)] = ""


class UsageGroupQuery(UsageFilterQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select the calls that are added up, and say by what."""

    group_by: GroupBy = ""


class UsageExportQuery(UsageGroupQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select the calls that are added up, and the format of the file."""

    format: ExportFormat = "csv"


class UsageReportQuery(UsageGroupQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select the calls that are added up, and a page of their sums."""

    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = 100
    cursor: Annotated[str, Meta(max_length=4_000)] = ""


class UsageLatency(msgspec.Struct, kw_only=True):
    """How long the completed calls took, from the request to the end of the answer, in
    milliseconds. Percentiles are at most 2 % beside the exact ones; null without completed
    calls."""

    average_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class UsageAverages(msgspec.Struct, kw_only=True):
    """Averages of one call; null without calls."""

    cost: str | None
    input_tokens: float | None
    output_tokens: float | None


class UsageSums(msgspec.Struct, kw_only=True):
    """Sums over calls. Amounts are US dollars; corrections of calls count in them, and are no
    calls."""

    requests: int
    completed: int
    errors: int
    cache_hits: int
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    input_audio_tokens: int
    input_image_tokens: int
    output_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int
    output_image_tokens: int
    cost: str
    wallet_debit: str
    credits: str
    average: UsageAverages
    latency: UsageLatency


class UsageReportRow(UsageSums, kw_only=True):
    """The sums of one period and group. It has the fields that it is grouped by."""

    start: datetime.datetime
    end: datetime.datetime
    project_id: str | UnsetType = UNSET
    key_id: str | UnsetType = UNSET
    credential_id: str | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    managed: bool | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


class UsageReport(msgspec.Struct, kw_only=True):
    """Usage by time and group, oldest first, and the sums over the whole range."""

    start: datetime.datetime
    end: datetime.datetime
    time_zone: str
    group_by: list[str]
    data: list[UsageReportRow]
    total: UsageSums
    next_cursor: str | None


class ErrorRateQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select the calls of the last minutes."""

    window_minutes: Annotated[int, Meta(ge=1, le=1_440)] = 10
    status_code: Annotated[int, Meta(ge=100, le=599)] | None = None
    project_id: Text = ""
    key_id: Text = ""
    credential_id: Text = ""
    provider: Text = ""
    model: Text = ""

    def select(
        self,
        organization_id: str,
        *,
        projects: tuple[str, ...],
        own_key_id: str | None,
        now: float,
    ) -> tuple[UsageFilter, Period]:
        """Return which calls are counted, and the window that ends now."""
        filters = UsageFilter(
            organization_id=organization_id,
            projects=projects,
            own_key_id=own_key_id or "",
            project_id=self.project_id,
            key_id=self.key_id,
            credential_id=self.credential_id,
            provider=self.provider,
            model=self.model,
        )
        end = int(now * MICROSECONDS)
        return filters, Period(end - self.window_minutes * 60 * MICROSECONDS, end)


class ErrorRateResponse(msgspec.Struct, kw_only=True):
    """The error rate of a window, from 0 to 1; 0 without calls."""

    window_minutes: int
    start: datetime.datetime
    end: datetime.datetime
    requests: int
    errors: int
    error_rate: float


def to_error_rate(
    query: ErrorRateQuery, window: Period, calls: int, errors: int
) -> ErrorRateResponse:
    return ErrorRateResponse(
        window_minutes=query.window_minutes,
        start=to_local_time(UTC, window.start),
        end=to_local_time(UTC, window.end),
        requests=calls,
        errors=errors,
        error_rate=errors / calls if calls else 0.0,
    )


def build_usage_request(
    query: UsageGroupQuery,
    *,
    organization_id: str,
    zone: str,
    now: float,
    projects: tuple[str, ...] = (),
    own_key_id: str | None = None,
    cursor: str = "",
    limit: int = 100,
) -> UsageRequest:
    """Return the query of a request, in the zone that it names or else in that of the organization.
    Raise `InvalidFieldError`, `InvalidGroupError`, `UsageRangeError` and `UnknownZoneError`."""
    zone = query.time_zone or zone
    granularity, group_by = parse_group_by(split_names(query.group_by))
    start, end = read_range(query.start, query.end, zone=zone, now=now)
    return UsageRequest(
        filters=UsageFilter(
            organization_id=organization_id,
            projects=projects,
            project_id=query.project_id,
            key_id=query.key_id,
            credential_id=query.credential_id,
            provider=query.provider,
            model=query.model,
            managed=query.managed,
            metadata=_read_pair(query.metadata),
            own_key_id=own_key_id or "",
        ),
        start=start,
        end=end,
        zone=zone,
        granularity=granularity,
        group_by=group_by,
        cursor=cursor,
        limit=limit,
    )


def split_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _read_pair(text: str) -> dict[str, str]:
    if not text:
        return {}
    name, colon, value = text.partition(":")
    if not (name and colon):
        raise InvalidFieldError("Write a name and a value: `team:search`.", ("query", "metadata"))
    return {name: value}


def to_usage_report(query: UsageRequest, answer: UsageAnswer) -> UsageReport:
    fields = {name: name for name in query.group_by}
    return UsageReport(
        start=to_local_time(query.zone, answer.period.start),
        end=to_local_time(query.zone, answer.period.end),
        time_zone=query.zone,
        group_by=[*([query.granularity] if query.granularity else []), *fields],
        data=[to_usage_row(query, row) for row in answer.rows],
        total=UsageSums(**describe_measures(answer.total)),
        next_cursor=answer.next_cursor,
    )


def to_usage_row(query: UsageRequest, row: UsageRow) -> UsageReportRow:
    fields: dict[str, Any] = {}
    for name, value in zip(query.group_by, row.group, strict=True):
        if is_metadata(name):
            fields.setdefault("metadata", {})[name.removeprefix(METADATA)] = value
        else:
            fields[name] = bool(value) if name == "managed" else value
    return UsageReportRow(
        start=to_local_time(query.zone, row.period.start),
        end=to_local_time(query.zone, row.period.end),
        **fields,
        **describe_measures(row.measures),
    )


def describe_measures(measures: Measures) -> dict[str, Any]:
    """Return the fields of `UsageSums`."""
    requests = measures.requests
    return {
        "requests": requests,
        "completed": measures.completed,
        "errors": measures.errors,
        "cache_hits": measures.cache_hits,
        **{name: getattr(measures, name) for name in TOKENS},
        "cost": show_dollars(measures.cost_nano),
        "wallet_debit": show_dollars(measures.wallet_nano),
        "credits": show_dollars(measures.credit_nano),
        "average": UsageAverages(
            cost=show_dollars(divide_half_up(measures.cost_nano, requests)) if requests else None,
            input_tokens=_divide(measures.input_tokens, requests),
            output_tokens=_divide(measures.output_tokens, requests),
        ),
        "latency": UsageLatency(**find_latencies(measures)),
    }


def _divide(total: int, count: int) -> float | None:
    return round(total / count, 3) if count else None
