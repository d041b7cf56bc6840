"""Projects as the platform API reads and writes them."""

from __future__ import annotations

import datetime

import msgspec

from headgate.accounts.model import Project
from headgate.api.schemas.fields import Name, build_response
from headgate.api.schemas.pages import Page, PageQuery


class ProjectQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select projects."""

    archived: bool = False


class ProjectFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The name of the project."""

    name: Name


class ProjectResponse(msgspec.Struct):
    """A project. `archived_at` is when it was archived; its API keys are rejected since then."""

    id: str
    organization_id: str
    name: str
    created_at: datetime.datetime
    archived_at: datetime.datetime | None
    version: int


class ProjectPage(Page):
    """A page of projects, oldest first."""

    projects: list[ProjectResponse]


def to_project_response(project: Project) -> ProjectResponse:
    return build_response(ProjectResponse, project)
