"""What is used of limits, and priority pools, as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.api.schemas.fields import to_datetime
from headgate.capacity.model.pools import (
    POOLS_MAX,
    PriorityPool,
    PriorityPools,
)
from headgate.capacity.model.windows import WindowState


class PoolsSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The priority pools of a project. They replace those before."""

    pools: Annotated[tuple[PriorityPool, ...], Meta(min_length=1, max_length=POOLS_MAX)]


class PoolsResponse(msgspec.Struct, kw_only=True):
    """The priority pools of a project."""

    project_id: str
    pools: list[PriorityPool]
    created_at: datetime.datetime
    updated_at: datetime.datetime
    version: int


class WindowResponse(msgspec.Struct, kw_only=True):
    """What is used of one limit in its current window, as the process that answers knows it. A
    limit with a dimension has one window for each value, the most used ones first."""

    period: str
    dimension: str | None
    dimension_field: str | None
    value: str | None
    requests_limit: int | None
    requests_used: int
    requests_remaining: int | None
    tokens_limit: int | None
    tokens_used: int
    tokens_remaining: int | None
    resets_at: datetime.datetime | None


class CapacityResponse(msgspec.Struct):
    """What is used of the limits of an object."""

    windows: list[WindowResponse]


def to_pools_response(pools: PriorityPools) -> PoolsResponse:
    return PoolsResponse(
        project_id=pools.project_id,
        pools=list(pools.pools),
        created_at=to_datetime(pools.created_at),
        updated_at=to_datetime(pools.updated_at),
        version=pools.version,
    )


def to_capacity_response(shown: list[WindowState]) -> CapacityResponse:
    return CapacityResponse([_to_window(each) for each in shown])


def _to_window(shown: WindowState) -> WindowResponse:
    counted, usage = shown.counted, shown.usage
    return WindowResponse(
        period=counted.period,
        dimension="model" if counted.discovered else counted.dimension,
        dimension_field=counted.dimension_field,
        value=shown.bucket or None,
        requests_limit=usage.requests_limit,
        requests_used=usage.requests_used,
        requests_remaining=usage.remaining_requests,
        tokens_limit=usage.tokens_limit,
        tokens_used=usage.tokens_used,
        tokens_remaining=usage.remaining_tokens,
        resets_at=None if shown.ends_at is None else to_datetime(shown.ends_at),
    )
