"""Credentials as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.api.errors import InvalidFieldError
from headgate.api.schemas.fields import Metadata, Name, Timestamp, to_datetime, to_optional_datetime
from headgate.api.schemas.pages import PageQuery
from headgate.audit.model import AuditEntry
from headgate.catalog.service.catalog import Catalog
from headgate.credentials.model.auth import AUTH_TYPE_OF_FIELD
from headgate.credentials.model.credential import CredentialRecord, MetadataValue
from headgate.credentials.model.secret import SECRET_CHARACTERS_MAX
from headgate.credentials.service.tester import ENDPOINT
from headgate.metering.model import Outcomes
from headgate.relay.ports import DEADLINE_SECONDS_MAX, DEADLINE_SECONDS_MIN
from headgate.vault.model.base_url import BASE_URL_CHARACTERS_MAX

DAY_SECONDS = 86_400
USAGE_DAYS = 30
USAGE_DAYS_MAX = 92

Secret = Annotated[str, Meta(min_length=1, max_length=SECRET_CHARACTERS_MAX)]
Url = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=BASE_URL_CHARACTERS_MAX,
        extra_json_schema={"pattern": "^https?://.*"},
    ),
]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Day = Annotated[
    str,
    Meta(
        max_length=40,
        description="A day (`2026-01-31`) or an RFC 3339 time.",
        extra_json_schema={"anyOf": [{"format": "date"}, {"format": "date-time"}]},
    ),
]


Seconds = Annotated[float, Meta(ge=DEADLINE_SECONDS_MIN, le=DEADLINE_SECONDS_MAX)]


class AuthData(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A secret, in the field that names its kind, and optionally the `base_url` that it is
    sent to."""

    api_key: Secret | None = None
    token: Secret | None = None
    bearer_token: Secret | None = None
    access_token: Secret | None = None
    header: Word | None = None
    value: Secret | None = None
    base_url: Url | None = None
    organization: Annotated[str, Meta(min_length=1, max_length=200)] | None = None

    @property
    def secrets(self) -> dict[str, str]:
        """Return the given fields that hold a secret."""
        given = {name: getattr(self, name) for name in AUTH_TYPE_OF_FIELD}
        return {name: secret for name, secret in given.items() if secret is not None}

    def __repr__(self) -> str:
        return f"AuthData({', '.join(self.secrets)})"


OauthConfig = Annotated[dict[Word, Any], Meta(max_length=32)]


class CredentialCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new credential."""

    integration_name: Word
    auth_data: AuthData
    auth_type: Word | None = None
    oauth_config: OauthConfig | None = None
    display_name: Name | None = None
    metadata: Metadata | None = None
    make_default: bool = False
    expires_at: Timestamp | None = None
    first_byte_seconds: Seconds | None = None
    idle_seconds: Seconds | None = None
    total_seconds: Seconds | None = None


class TemporaryTestRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A secret to test without storing it."""

    integration_name: Word
    auth_data: AuthData
    auth_type: Word | None = None
    oauth_config: OauthConfig | None = None


class CredentialUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A partial update; fields that are missing stay the same."""

    display_name: Name | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    first_byte_seconds: Seconds | UnsetType | None = UNSET
    idle_seconds: Seconds | UnsetType | None = UNSET
    total_seconds: Seconds | UnsetType | None = UNSET


class CredentialQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select credentials."""

    integration_name: Word | None = None
    auth_type: Word | None = None


class DetailQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Select what is returned of a credential."""

    include_masked: bool = False


class UsageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The period to count. If `end_date` is a day without a time, that day is included."""

    start_date: Day | None = None
    end_date: Day | None = None


class CredentialResponse(msgspec.Struct, kw_only=True):
    """A credential without its secret."""

    credential_id: str
    integration_name: str
    integration_type: str
    display_name: str
    auth_type: str
    is_default: bool
    created_at: datetime.datetime
    updated_at: datetime.datetime
    last_used_at: datetime.datetime | None
    expires_at: datetime.datetime | None
    credentials_metadata: dict[str, MetadataValue]
    first_byte_seconds: float | None
    idle_seconds: float | None
    total_seconds: float | None
    version: int


class CredentialDetailResponse(CredentialResponse, kw_only=True):
    """A credential with the address that its secret is sent to and the person who added it.
    `auth_data_masked` is present if it was asked for: the first and last characters of the
    secret, or the reference to a stored secret."""

    organization_id: str
    base_url: str
    created_by: str | None
    created_by_email: str | None
    auth_data_masked: str | UnsetType = UNSET


class AppliedCredentialFilters(msgspec.Struct):
    """The filters and the page that were asked for."""

    integration_name: str | None
    auth_type: str | None
    limit: int
    offset: int


class CredentialGroup(msgspec.Struct):
    """The credentials of one integration. `total_count` counts those on other pages, too."""

    integration_name: str
    integration_type: str
    total_count: int
    auth_types: list[str]
    credentials: list[CredentialResponse]


class CredentialList(msgspec.Struct, kw_only=True):
    """A page of credentials. Without `integration_name` in the query it has groups: `integrations`,
    `total_credentials` and `total_integrations`. With it, it has one list: `credentials`,
    `total_count` and `integration_name`."""

    integrations: dict[str, CredentialGroup] | UnsetType = UNSET
    total_credentials: int | UnsetType = UNSET
    total_integrations: int | UnsetType = UNSET
    credentials: list[CredentialResponse] | UnsetType = UNSET
    total_count: int | UnsetType = UNSET
    integration_name: str | UnsetType = UNSET
    filters: AppliedCredentialFilters


class CredentialTestResponse(msgspec.Struct):
    """The result of a credential test."""

    credential_id: str
    is_valid: bool | None
    message: str
    tested_at: datetime.datetime


class TemporaryTestResponse(msgspec.Struct, kw_only=True):
    """The result of a test. `status_code` is null if the provider did not answer."""

    is_valid: bool | None
    message: str
    tested_at: datetime.datetime
    test_method: str
    integration_name: str
    auth_type: str
    test_endpoint: str
    status_code: int | None
    cost_level: str


class CredentialUsageResponse(msgspec.Struct, kw_only=True):
    """Counts of calls that reached the provider. `success_rate` is between 0 and 1, and 0 without
    calls."""

    total_calls: int
    successful_calls: int
    failed_calls: int
    success_rate: float
    action_breakdown: dict[str, int]
    start_date: datetime.datetime
    end_date: datetime.datetime

    @classmethod
    def of(cls, outcomes: Sequence[Outcomes], start: float, end: float) -> CredentialUsageResponse:
        """Sum the calls of all endpoints. Credential tests are not counted."""
        runs = [each for each in outcomes if each.endpoint != ENDPOINT]
        total, good = sum(each.calls for each in runs), sum(each.completed for each in runs)
        return cls(
            total_calls=total,
            successful_calls=good,
            failed_calls=total - good,
            success_rate=good / total if total else 0.0,
            action_breakdown={each.endpoint: each.calls for each in runs},
            start_date=to_datetime(start),
            end_date=to_datetime(end),
        )


class CredentialAuditEntryResponse(msgspec.Struct, kw_only=True):
    """An entry of the audit log. `user_id` is the id of the person or of the API key that acted."""

    id: str
    credential_id: str
    event_type: str
    user_id: str
    changes: dict[str, Any]
    ip_address: str
    user_agent: str
    timestamp: datetime.datetime


def to_credential_response(catalog: Catalog, record: CredentialRecord) -> CredentialResponse:
    return CredentialResponse(**_describe(catalog, record))


def to_credential_detail_response(
    catalog: Catalog, record: CredentialRecord, *, is_masked: bool
) -> CredentialDetailResponse:
    return CredentialDetailResponse(
        **_describe(catalog, record),
        organization_id=record.organization_id or "",
        base_url=record.base_url,
        created_by=record.created_by,
        created_by_email=record.created_by_email,
        auth_data_masked=record.hint if is_masked else UNSET,
    )


def group_credentials(
    catalog: Catalog,
    query: CredentialQuery,
    records: Sequence[CredentialRecord],
    counts: Mapping[tuple[str, str], int],
) -> CredentialList:
    """Return a page in groups by integration, or as one list if the query names an integration."""
    filters = AppliedCredentialFilters(
        query.integration_name, query.auth_type, query.limit, query.offset
    )
    response = [to_credential_response(catalog, record) for record in records]
    total = sum(counts.values())
    if query.integration_name is not None:
        return CredentialList(
            credentials=response,
            total_count=total,
            integration_name=query.integration_name,
            filters=filters,
        )
    groups: dict[str, CredentialGroup] = {}
    for (integration, auth_type), count in counts.items():
        kind = _type_of(catalog, integration)
        group = groups.setdefault(integration, CredentialGroup(integration, kind, 0, [], []))
        group.total_count += count
        group.auth_types.append(auth_type)
    for each in response:
        groups[each.integration_name].credentials.append(each)
    return CredentialList(
        integrations=groups,
        total_credentials=total,
        total_integrations=len(groups),
        filters=filters,
    )


def to_credential_audit_entry_response(entry: AuditEntry) -> CredentialAuditEntryResponse:
    return CredentialAuditEntryResponse(
        id=str(entry.number),
        credential_id=entry.event.object_id,
        event_type=entry.event.action,
        user_id=entry.actor.id,
        changes=entry.event.changes,
        ip_address=entry.actor.address,
        user_agent=entry.actor.user_agent,
        timestamp=to_datetime(entry.at),
    )


def read_period(query: UsageQuery, now: float) -> tuple[float, float]:
    """Return start and end in unix seconds. Raise `InvalidFieldError`."""
    end = now if query.end_date is None else _read_day("end_date", query.end_date, is_end=True)
    start = end - USAGE_DAYS * DAY_SECONDS
    if query.start_date is not None:
        start = _read_day("start_date", query.start_date, is_end=False)
    if start > end:
        raise InvalidFieldError("The end is before the start.", ("query", "end_date"))
    if end - start > USAGE_DAYS_MAX * DAY_SECONDS:
        message = f"The period has at most {USAGE_DAYS_MAX} days."
        raise InvalidFieldError(message, ("query", "start_date"))
    return start, end


def _read_day(name: str, text: str, *, is_end: bool) -> float:
    try:
        day = datetime.date.fromisoformat(text) if len(text) == len("2026-01-01") else None
        if day is None:
            at = msgspec.convert(text, datetime.datetime)
        else:
            at = datetime.datetime.combine(day, datetime.time())
        if at.tzinfo is None:
            at = at.replace(tzinfo=datetime.UTC)
        seconds = at.timestamp() + (DAY_SECONDS if is_end and day is not None else 0)
        to_datetime(seconds)
    except (ValueError, msgspec.ValidationError, OverflowError) as error:
        message = "Give a day (2026-01-31) or a time in RFC 3339 format."
        raise InvalidFieldError(message, ("query", name)) from error
    return seconds


def _describe(catalog: Catalog, record: CredentialRecord) -> dict[str, Any]:
    return {
        "credential_id": record.id,
        "integration_name": record.integration,
        "integration_type": _type_of(catalog, record.integration),
        "display_name": record.name,
        "auth_type": record.auth_type,
        "is_default": record.is_default,
        "created_at": to_datetime(record.created_at),
        "updated_at": to_datetime(record.updated_at),
        "last_used_at": to_optional_datetime(record.last_used_at),
        "expires_at": to_optional_datetime(record.expires_at),
        "credentials_metadata": record.metadata,
        "first_byte_seconds": record.first_byte_seconds,
        "idle_seconds": record.idle_seconds,
        "total_seconds": record.total_seconds,
        "version": record.version,
    }


def _type_of(catalog: Catalog, integration: str) -> str:
    known = catalog.integrations.get(integration)
    return "" if known is None else known.integration_type
