"""Connects applications to projects on behalf of people, lists and revokes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import Person, Project
from headgate.accounts.model.tenant import NAME_CHARACTERS_MAX
from headgate.accounts.service import AccountService, PersonService
from headgate.audit.model import SYSTEM, Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.keys.model import Key, KeyRequest, KeyState, find_state
from headgate.keys.service import Authority, KeyService
from headgate.kit.clock import Clock
from headgate.kit.ids import IdGenerator
from headgate.oauth.model.client import OAuthClient
from headgate.oauth.model.errors import AccessDeniedError, ApplicationNotFoundError
from headgate.oauth.model.grant import ConnectedApplication, GrantRecord
from headgate.oauth.model.redirects import find_host
from headgate.oauth.model.request import AuthorizationRequest
from headgate.oauth.model.tokens import hash_token, make_code
from headgate.oauth.service.rights import may_manage
from headgate.oauth.store import applications as store
from headgate.oauth.store import grants as grant_store
from headgate.oauth.store.applications import ApplicationFilter

GRANTS_MAX = 50
"""How many grants one application has at a time; the oldest ends for a new one."""
PROJECTS_MAX = 200
"""How many projects of an organization a person may choose from."""
CODE_SECONDS = 60.0
UNCONNECTED_AT_ONCE = 100

CheckQuota = Callable[[sa.Connection, str], None]
"""Raise a `HeadgateError` where an organization has as many keys as its plan allows."""


class ProjectChoice(msgspec.Struct, frozen=True):
    """Offer a project to which an application can be connected."""

    project: Project
    organization_name: str


class ApplicationDetails(msgspec.Struct, frozen=True):
    """Hold a connected application with its key, its person, and the grants that have not ended."""

    application: ConnectedApplication
    key: Key
    person: Person
    grants: Sequence[GrantRecord]

    @property
    def scopes(self) -> tuple[str, ...]:
        """Return the widest scopes of its grants."""
        return max((each.scopes for each in self.grants), key=len, default=())


class ApplicationService:
    """Manage connected applications. The caller commits the transaction."""

    def __init__(
        self,
        accounts: AccountService,
        people: PersonService,
        keys: KeyService,
        audit: AuditLog,
        *,
        clock: Clock,
        ids: IdGenerator,
    ) -> None:
        self._accounts = accounts
        self._people = people
        self._keys = keys
        self._audit = audit
        self._clock = clock
        self._ids = ids

    def list_choices(self, connection: sa.Connection, person_id: str) -> list[ProjectChoice]:
        """Return the projects to which a person may connect applications."""
        found: list[ProjectChoice] = []
        for membership in self._people.list_memberships(connection, person_id):
            if not may_manage(membership):
                continue
            projects, _ = self._accounts.list_projects(
                connection, membership.organization_id, limit=PROJECTS_MAX
            )
            found += [ProjectChoice(each, membership.organization_name) for each in projects]
        return found

    def connect(
        self,
        connection: sa.Connection,
        person: Person,
        client: OAuthClient,
        request: AuthorizationRequest,
        *,
        project_id: str,
        by: Actor,
        check_quota: CheckQuota = lambda _connection, _organization_id: None,
    ) -> str:
        """Connect an application to a project, and return the authorization code.

        A client that the person has connected to the project before keeps its key, with its limits.
        Raise `AccessDeniedError` for a project that the person may not choose, and as
        `KeyService.create` and `check_quota`, which is asked before a key is created.
        """
        choices = {
            each.project.id: each.project for each in self.list_choices(connection, person.id)
        }
        project = choices.get(project_id)
        if project is None:
            raise AccessDeniedError("You cannot connect an application to this project.")
        now = self._clock.now()
        application = self._find_same(connection, person, project, client, now)
        if application is None:
            check_quota(connection, project.organization_id)
            application = self._create(connection, person, project, client, request, by=by)
        grants = grant_store.select_grants(connection, [application.id]).get(application.id, [])
        for old in grants[: max(0, len(grants) - GRANTS_MAX + 1)]:
            grant_store.end_grant(connection, old.id, at=now)
        grant = GrantRecord(
            id=self._ids.make("oag"),
            application_id=application.id,
            scopes=request.scopes,
            resource=request.resource,
            created_at=now,
        )
        grant_store.insert_grant(connection, grant)
        code = make_code()
        grant_store.insert_code(
            connection,
            hash_token(code),
            grant.id,
            redirect_uri=request.redirect_uri,
            challenge=request.challenge,
            expires_at=now + CODE_SECONDS,
        )
        changes = {
            "client_id": client.id[:200],
            "client_name": client.name,
            "redirect_host": find_host(request.redirect_uri),
            "project_id": project.id,
            "key_id": application.key_id,
            "scopes": list(request.scopes),
        }
        self._record(connection, by, "application.connected", application, changes)
        return code

    def list_page(
        self,
        connection: sa.Connection,
        selected: ApplicationFilter,
        *,
        limit: int,
        offset: int = 0,
    ) -> tuple[list[ApplicationDetails], int]:
        """Return a page of connected applications, the newest first, and their total number."""
        page = store.select_applications(connection, selected, limit=limit, offset=offset)
        return self._describe(connection, page), store.count_applications(connection, selected)

    def get(
        self, connection: sa.Connection, organization_id: str | None, application_id: str
    ) -> ApplicationDetails:
        """Return an application of this organization, or of any for None. Raise
        `ApplicationNotFoundError`, also for one that was revoked."""
        found = store.select_application(
            connection, application_id, organization_id=organization_id
        )
        if found is None or found.revoked_at is not None:
            raise ApplicationNotFoundError("There is no such connected application.", param="id")
        return self._describe(connection, [found])[0]

    def revoke(
        self, connection: sa.Connection, application: ConnectedApplication, *, by: Actor
    ) -> None:
        """Disconnect an application for good: end its grants, and revoke its key."""
        self._revoke(connection, application, {}, by=by)

    def revoke_unconnected(self, connection: sa.Connection, *, before: float) -> int:
        """Revoke some applications that were created before a time, and never came back with a
        code; so their keys do not count any more. Return how many."""
        found = grant_store.select_unconnected(connection, before=before, limit=UNCONNECTED_AT_ONCE)
        for each in found:
            self._revoke(connection, each, {"reason": "never_connected"}, by=SYSTEM)
        return len(found)

    def _revoke(
        self,
        connection: sa.Connection,
        application: ConnectedApplication,
        changes: Mapping[str, object],
        *,
        by: Actor,
    ) -> None:
        if not grant_store.mark_revoked(connection, application.id, at=self._clock.now()):
            return
        self._keys.revoke(connection, application.key_id, by=by)
        self._record(connection, by, "application.revoked", application, changes)

    def _describe(
        self, connection: sa.Connection, page: Sequence[ConnectedApplication]
    ) -> list[ApplicationDetails]:
        grants = grant_store.select_grants(connection, [each.id for each in page])
        return [
            ApplicationDetails(
                each,
                self._keys.get(connection, each.organization_id, each.key_id),
                self._people.get(connection, each.person_id),
                grants.get(each.id, []),
            )
            for each in page
        ]

    def _find_same(
        self,
        connection: sa.Connection,
        person: Person,
        project: Project,
        client: OAuthClient,
        now: float,
    ) -> ConnectedApplication | None:
        """Return the connection that the person renews: one whose key is still active."""
        for each in store.select_same_applications(
            connection, person_id=person.id, project_id=project.id, client_id=client.id
        ):
            key = self._keys.get(connection, each.organization_id, each.key_id)
            if find_state(key, now) is KeyState.ACTIVE:
                return each
        return None

    def _create(
        self,
        connection: sa.Connection,
        person: Person,
        project: Project,
        client: OAuthClient,
        request: AuthorizationRequest,
        *,
        by: Actor,
    ) -> ConnectedApplication:
        host = find_host(request.redirect_uri)
        wanted = KeyRequest(
            name=f"{client.name} ({person.email})"[:NAME_CHARACTERS_MAX],
            organization_id=project.organization_id,
            project_id=project.id,
            description=f"Connected application of {person.email}; it leads back to {host}",
        )
        # Nobody gets the token of this key: calls come with access tokens only.
        key = self._keys.create(connection, wanted, by=by, authority=Authority()).key
        application = ConnectedApplication(
            id=self._ids.make("app"),
            organization_id=project.organization_id,
            project_id=project.id,
            person_id=person.id,
            key_id=key.id,
            client_id=client.id,
            client_name=client.name,
            redirect_host=host,
            created_at=self._clock.now(),
        )
        store.insert_application(connection, application)
        return application

    def _record(
        self,
        connection: sa.Connection,
        by: Actor,
        action: str,
        application: ConnectedApplication,
        changes: Mapping[str, object],
    ) -> None:
        event = AuditEvent(action, application.organization_id, application.id, dict(changes))
        self._audit.record(connection, by, event)
