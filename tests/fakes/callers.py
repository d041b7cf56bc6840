"""Every kind of caller of the platform API, and what the rules allow each of them.

The rules are written here a second time, as plainly as possible, so that the gate does not judge
itself. `tests/unit/api/test_access.py` calls every operation as each of them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from headgate.accounts.model import Role
from headgate.api.access import Access, Audience
from headgate.audit.model import SYSTEM
from headgate.keys.model import KeyKind, KeyRequest
from tests.fakes.api import OPERATOR_KEY, Api, OperatorKeyIndex
from tests.fakes.people import add_person, open_browser

DAY_SECONDS = 86_400


class Outcome(enum.Enum):
    """Name what the gate answers."""

    UNKNOWN = 401
    UNSEEN = 404
    HEADERLESS = 400
    REFUSED = 403
    ADMITTED = 200


@dataclass
class Caller:
    """Hold a caller's credentials and rights. `permissions` are those of a management key, None for
    other callers. `role` is that of a person in the named organization."""

    name: str
    headers: dict[str, str]
    is_known: bool = True
    is_person: bool = False
    is_operator: bool = False
    role: Role | None = None
    permissions: tuple[str, ...] | None = None
    is_theirs: bool = True
    """Whether they belong to the organization in the header."""
    sees_own_project: bool = True
    is_inference_key: bool = False
    is_of_organization: bool = True
    """Whether they belong to the organization of the test, whatever their headers say."""
    more: Mapping[str, str] = field(default_factory=dict[str, str])

    def expects(
        self, access: Access, *, is_v1: bool = False, names_workspace: bool = False
    ) -> Outcome:
        if access.audience is Audience.ANYONE:
            return Outcome.ADMITTED
        if not self.is_known:
            return Outcome.UNKNOWN
        judge = {
            Audience.PERSON: self._as_person,
            Audience.PLATFORM: self._as_operator,
            Audience.ORGANIZATION: self._as_manager,
            Audience.TOOLS: self._as_tool_caller,
        }[access.audience]
        if names_workspace:
            return self._as_member(access)
        if is_v1 and access.audience is Audience.ORGANIZATION:
            return self._as_v1_caller(access)
        return judge(access)

    def _as_v1_caller(self, access: Access) -> Outcome:
        """Below `/v1`, a key names its organization, and inference keys may see their own."""
        if self.is_inference_key:
            return Outcome.ADMITTED if access.own_key and self.is_theirs else Outcome.REFUSED
        if not self.is_person and "x-organization-id" not in self.headers:
            held = not self.permissions or access.permission in self.permissions
            return Outcome.ADMITTED if held and access.permission else Outcome.REFUSED
        return self._as_manager(access)

    def _as_member(self, access: Access) -> Outcome:
        """Where the path names the organization, headers do not, and others do not see it."""
        if not self.is_of_organization:
            return Outcome.UNSEEN
        if self.is_person:
            return Outcome.ADMITTED if self.role in access.roles else Outcome.REFUSED
        if self.permissions is None:
            return Outcome.REFUSED
        held = not self.permissions or access.permission in self.permissions
        return Outcome.ADMITTED if held and access.permission else Outcome.REFUSED

    def _as_tool_caller(self, access: Access) -> Outcome:
        """A key names its organization. People see what only reads, and run nothing yet."""
        if self.is_person:
            return self._as_manager(access) if access.roles else Outcome.REFUSED
        if not self.is_theirs:
            return Outcome.REFUSED
        held = not self.permissions or access.permission in self.permissions
        return Outcome.ADMITTED if self.is_inference_key or held else Outcome.REFUSED

    def _as_person(self, _access: Access) -> Outcome:
        return Outcome.ADMITTED if self.is_person else Outcome.REFUSED

    def _as_operator(self, access: Access) -> Outcome:
        if self.is_operator or (self.permissions and access.permission in self.permissions):
            return Outcome.ADMITTED
        return Outcome.REFUSED

    def _as_manager(self, access: Access) -> Outcome:
        if not self.is_person and self.permissions is None:
            return Outcome.REFUSED
        if "x-organization-id" not in self.headers:
            return Outcome.HEADERLESS
        if not self.is_theirs:
            return Outcome.REFUSED
        if self.is_person:
            return Outcome.ADMITTED if self.role in access.roles else Outcome.REFUSED
        held = not self.permissions or access.permission in self.permissions
        return Outcome.ADMITTED if held and access.permission else Outcome.REFUSED


def list_callers(api: Api) -> Iterator[Caller]:
    """Yield all callers."""
    yield from list_plain_callers(api)
    for make in STORED_CALLERS.values():
        yield make(api)


def make_caller(api: Api, name: str) -> Caller:
    """Return the caller of a name. None of the others is made."""
    if name in STORED_CALLERS:
        return STORED_CALLERS[name](api)
    return next(caller for caller in list_plain_callers(api) if caller.name == name)


def list_plain_callers(api: Api) -> Sequence[Caller]:
    """Return the callers that need nothing in the database but what every `Api` has."""
    own, other = api.own, api.other
    return (
        Caller("nobody", with_organization(own.organization_id), is_known=False),
        Caller("garbage", bearer("garbage", own.organization_id), is_known=False),
        Caller("broken key", bearer(own.key[:-1] + "*", own.organization_id), is_known=False),
        Caller("inference key", bearer(own.live_key, own.organization_id), is_inference_key=True),
        Caller("inference key, no header", bearer(own.live_key, None), is_inference_key=True),
        Caller(
            "inference key, another organization named",
            bearer(own.live_key, other.organization_id),
            is_inference_key=True,
            is_theirs=False,
        ),
        Caller("management key", bearer(own.key, own.organization_id), permissions=()),
        Caller("management key, no header", bearer(own.key, None), permissions=()),
        Caller(
            "management key of another organization",
            bearer(other.key, own.organization_id),
            permissions=(),
            is_theirs=False,
            is_of_organization=False,
        ),
        Caller(
            "management key, another organization named",
            bearer(own.key, other.organization_id),
            permissions=(),
            is_theirs=False,
        ),
        Caller(
            "management key, an unknown organization named",
            bearer(own.key, "org_unknown"),
            permissions=(),
            is_theirs=False,
        ),
        Caller(
            "key of the operator",
            bearer(OPERATOR_KEY, own.organization_id),
            permissions=OperatorKeyIndex.operator.permissions,
            is_theirs=False,
            is_of_organization=False,
        ),
    )


def with_organization(organization_id: str | None) -> dict[str, str]:
    return {} if organization_id is None else {"x-organization-id": organization_id}


def bearer(token: str, organization_id: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", **with_organization(organization_id)}


def make_revoked(api: Api) -> Caller:
    """Return a management key that was created and revoked in one transaction."""
    application, own = api.application, api.own
    with application.database.transaction() as connection:
        project = application.accounts.create_project(
            connection, "Callers", organization_id=own.organization_id, by=SYSTEM
        )
        request = KeyRequest(
            name="caller",
            organization_id=own.organization_id,
            project_id=project.id,
            kind=KeyKind.ADMIN,
        )
        issued = application.keys.create(connection, request, by=SYSTEM)
        application.keys.revoke(connection, issued.key.id, by=SYSTEM)
    return Caller("revoked key", bearer(issued.token, api.organization_id), is_known=False)


def make_person(
    api: Api, name: str, role: Role | None, *, organization_id: str, is_operator: bool = False
) -> Caller:
    """Return a person who is signed in by cookie and sends the CSRF token."""
    email = f"{name.replace(' ', '-')}@example.com"
    person = add_person(api, email, role, organization_id=organization_id, is_operator=is_operator)
    return Caller(
        name,
        open_browser(api, person).identity | with_organization(api.organization_id),
        is_person=True,
        is_operator=is_operator,
        role=role,
        is_theirs=role is not None and organization_id == api.organization_id,
        is_of_organization=role is not None and organization_id == api.organization_id,
    )


def make_owner(api: Api) -> Caller:
    return make_person(api, "owner", Role.OWNER, organization_id=api.organization_id)


def make_admin(api: Api) -> Caller:
    return make_person(api, "admin", Role.ADMIN, organization_id=api.organization_id)


def make_retired_member(api: Api) -> Caller:
    return make_person(api, "retired member", Role.MEMBER, organization_id=api.organization_id)


def make_other_owner(api: Api) -> Caller:
    other = api.other.organization_id
    return make_person(api, "owner of another organization", Role.OWNER, organization_id=other)


def make_operator(api: Api) -> Caller:
    nowhere = api.other.organization_id
    return make_person(api, "operator", None, organization_id=nowhere, is_operator=True)


def make_headerless_owner(api: Api) -> Caller:
    own = api.organization_id
    caller = make_person(api, "owner without header", Role.OWNER, organization_id=own)
    del caller.headers["x-organization-id"]
    return caller


def make_suspended_owner(api: Api) -> Caller:
    application = api.application
    with application.database.transaction() as connection:
        accounts = application.accounts
        organization = accounts.create_organization(connection, "Suspended", by=SYSTEM)
        accounts.suspend_organization(connection, organization, by=SYSTEM)
    caller = make_person(
        api, "owner of what is suspended", Role.OWNER, organization_id=organization.id
    )
    caller.headers["x-organization-id"] = organization.id
    return caller


def make_disabled(api: Api) -> Caller:
    application = api.application
    caller = make_person(api, "disabled", Role.OWNER, organization_id=api.organization_id)
    with application.database.transaction() as connection:
        person = application.people.find(connection, "disabled@example.com")
        assert person is not None
        application.people.disable(connection, person, by=SYSTEM)
    caller.is_known = False
    return caller


def make_signed_out(api: Api) -> Caller:
    caller = make_person(api, "signed out", Role.OWNER, organization_id=api.organization_id)
    assert api.request("DELETE", "/api/session", key="", headers=caller.headers).status == 204
    caller.is_known = False
    return caller


STORED_CALLERS: Mapping[str, Callable[[Api], Caller]] = {
    "revoked key": make_revoked,
    "owner": make_owner,
    "admin": make_admin,
    "retired member": make_retired_member,
    "owner of another organization": make_other_owner,
    "operator": make_operator,
    "owner without header": make_headerless_owner,
    "owner of what is suspended": make_suspended_owner,
    "disabled": make_disabled,
    "signed out": make_signed_out,
}
"""Callers that have to be created in the database first."""
