"""Connected applications as the platform API shows them."""

from __future__ import annotations

import datetime

import msgspec

from headgate.api.schemas.fields import build_response, to_optional_datetime
from headgate.api.schemas.pages import Page, PageQuery
from headgate.keys.model import KeyState, find_state
from headgate.oauth.service import ApplicationDetails


class ConnectedApplicationQuery(PageQuery, frozen=True, kw_only=True):
    """Select a page of connected applications."""

    person_id: str | None = None


class ConnectedApplicationResponse(msgspec.Struct, kw_only=True):
    """An application that a person connected to a project. Its limits, its budget and its receipts
    are those of its API key."""

    id: str
    client_name: str
    client_id: str
    redirect_host: str
    project_id: str
    person_id: str
    person_email: str
    key_id: str
    state: KeyState
    scopes: list[str]
    open_grants: int
    created_at: datetime.datetime
    last_used_at: datetime.datetime | None


class ConnectedApplicationPage(Page):
    """A page of connected applications, newest first."""

    applications: list[ConnectedApplicationResponse]


def to_application_response(
    details: ApplicationDetails, now: float
) -> ConnectedApplicationResponse:
    return build_response(
        ConnectedApplicationResponse,
        details.application,
        person_email=details.person.email,
        state=find_state(details.key, now),
        scopes=list(details.scopes),
        open_grants=len(details.grants),
        last_used_at=to_optional_datetime(details.key.last_used_at),
    )
