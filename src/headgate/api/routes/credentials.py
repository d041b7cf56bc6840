"""Credentials of model providers: add, test, make default, delete. Secrets are never returned."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.api.access import organization
from headgate.api.errors import rename_params
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.credentials import (
    AuthData,
    CredentialAuditEntryResponse,
    CredentialCreate,
    CredentialDetailResponse,
    CredentialList,
    CredentialQuery,
    CredentialResponse,
    CredentialTestResponse,
    CredentialUpdate,
    CredentialUsageResponse,
    DetailQuery,
    TemporaryTestRequest,
    TemporaryTestResponse,
    UsageQuery,
    group_credentials,
    read_period,
    to_credential_audit_entry_response,
    to_credential_detail_response,
    to_credential_response,
)
from headgate.api.schemas.fields import Empty, to_datetime, to_timestamp
from headgate.api.schemas.pages import PageQuery
from headgate.audit.model import AuditEvent, AuditFilter
from headgate.credentials.model.auth import infer_material
from headgate.credentials.model.credential import (
    CredentialChange,
    CredentialRecord,
    CredentialRequest,
    UnusableCredentialError,
)
from headgate.credentials.service import CredentialFilter, CredentialTestResult
from headgate.metering import store as metering
from headgate.metering.model import Outcomes

OPERATIONS = Operations(
    "Credentials", "Secrets of model providers. They are stored encrypted and never returned."
)
READ = organization("credentials:read")
WRITE = organization("credentials:write")
EXAMPLE_KEY = "sk-proj-EXAMPLE-0123456789abcdef"
METHOD = "api_call"
PARAMS = {
    "integration": "integration_name",
    "base_url": "auth_data.base_url",
    "provider_organization": "auth_data.organization",
    "name": "display_name",
}
"""The fields of the body, by the names that the credential service has for them."""


@OPERATIONS.post(
    "/api/credentials",
    access=WRITE,
    status=201,
    summary="Add a credential",
    example={
        "integration_name": "openai",
        "auth_data": {"api_key": EXAMPLE_KEY},
        "display_name": "Search team",
        "make_default": True,
    },
)
async def create_credential(context: RequestContext[Empty, CredentialCreate]) -> CredentialResponse:
    """Store a secret of a model provider, encrypted. Its type follows from the fields of
    `auth_data`: `api_key`, `token` or `bearer_token` is a bearer token, `access_token` with
    `oauth_config` is an OAuth 2 token, and `header` with `value` is a custom header. The secret
    can be a reference to a stored secret, `{{vault:name}}`. The provider is not contacted; test
    the credential to see whether it works."""
    context.principal.check_organization_wide()
    body = context.body
    request, params = read_request(
        context.organization_id,
        body.integration_name,
        body.auth_data,
        auth_type=body.auth_type,
        has_oauth_config=body.oauth_config is not None,
    )
    request = msgspec.structs.replace(
        request,
        name=body.display_name,
        metadata=body.metadata or {},
        is_default=body.make_default,
        expires_at=to_timestamp(body.expires_at),
        first_byte_seconds=body.first_byte_seconds,
        idle_seconds=body.idle_seconds,
        total_seconds=body.total_seconds,
    )

    def add(connection: sa.Connection) -> CredentialResponse:
        with rename_params(params):
            record = context.services.credentials.add(connection, request, by=context.actor)
        return to_credential_response(context.services.catalog, record)

    return await context.create(add)


@OPERATIONS.get("/api/credentials", access=READ, summary="List credentials")
async def list_credentials(context: RequestContext[CredentialQuery, Empty]) -> CredentialList:
    """Return the credentials of the organization, newest first, grouped by integration. With
    `integration_name` the answer is one list without groups. Secrets are never returned."""
    query = context.query
    filters = CredentialFilter(context.organization_id, query.integration_name, query.auth_type)
    records, counts = await context.read(
        lambda connection: context.services.credentials.list_page(
            connection, filters, limit=query.limit, offset=query.offset
        )
    )
    return group_credentials(context.services.catalog, query, records, counts)


@OPERATIONS.post(
    "/api/credentials/test-temporary",
    access=WRITE,
    summary="Test a secret before storing it",
    errors=(429, 503),
    example={
        "integration_name": "openai",
        "auth_type": "api_key",
        "auth_data": {"api_key": EXAMPLE_KEY},
    },
)
async def test_temporary(
    context: RequestContext[Empty, TemporaryTestRequest],
) -> TemporaryTestResponse:
    """Send one small request to the provider with the given secret; the owner of the secret pays
    for it. The secret is not stored. A secret that does not work is no error: `is_valid` is
    false. `is_valid` is null if the provider's answer, or a missing answer, does not tell
    whether the secret works."""
    context.principal.check_organization_wide()
    body, services = context.body, context.services
    request, params = read_request(
        context.organization_id,
        body.integration_name,
        body.auth_data,
        auth_type=body.auth_type,
        has_oauth_config=body.oauth_config is not None,
    )
    with rename_params(params):
        credential = await context.read(
            lambda connection: services.credentials.prepare(connection, request, by=context.actor)
        )
    services.credential_tester.admit(context.organization_id)
    call = services.catalog.integrations[request.integration].test_call
    result = await services.credential_tester.run(
        credential, call, organization_id=context.organization_id, key_id=find_key_id(context)
    )
    outcome = {
        "origin": str(credential.origin),
        "is_valid": result.is_valid,
        "status": result.status,
    }
    event = AuditEvent(
        "credential.tried", context.organization_id, context.organization_id, outcome
    )
    await context.write(lambda connection: services.audit.record(connection, context.actor, event))
    return TemporaryTestResponse(
        is_valid=result.is_valid,
        message=result.message,
        tested_at=to_datetime(services.clock.now()),
        test_method=METHOD,
        integration_name=request.integration,
        auth_type=request.auth_type,
        test_endpoint=f"{credential.origin}{credential.base_path.decode()}{call.path}",
        status_code=result.status or None,
        cost_level=call.cost_level,
    )


@OPERATIONS.get("/api/credentials/{credential_id}", access=READ, summary="Read a credential")
async def get_credential(context: RequestContext[DetailQuery, Empty]) -> CredentialDetailResponse:
    """Return one credential. With `include_masked=true` the answer has the first and last
    characters of its secret."""
    record = await context.read(lambda connection: find(context, connection))
    return to_credential_detail_response(
        context.services.catalog, record, is_masked=context.query.include_masked
    )


@OPERATIONS.put(
    "/api/credentials/{credential_id}",
    access=WRITE,
    summary="Change a credential",
    example={"display_name": "Search team", "metadata": {"owner": "search"}},
)
async def update_credential(context: RequestContext[Empty, CredentialUpdate]) -> CredentialResponse:
    """Change the display name, the metadata and the deadlines of a credential. Its secret and its
    address cannot be changed: to rotate a secret, add another credential, make it the default,
    and delete this one."""
    context.principal.check_organization_wide()
    body = context.body
    change = CredentialChange(
        name=body.display_name,
        metadata=body.metadata,
        first_byte_seconds=body.first_byte_seconds,
        idle_seconds=body.idle_seconds,
        total_seconds=body.total_seconds,
    )

    def update(connection: sa.Connection) -> CredentialRecord:
        record = context.check_version(find(context, connection))
        with rename_params(PARAMS):
            return context.services.credentials.update(connection, record, change, by=context.actor)

    record = await context.write(update)
    return to_credential_response(context.services.catalog, record)


@OPERATIONS.delete(
    "/api/credentials/{credential_id}",
    access=WRITE,
    status=204,
    summary="Delete a credential",
    errors=(409,),
)
async def delete_credential(context: RequestContext[Empty, Empty]) -> None:
    """Delete a credential and its secret for good. New calls that name it fail; calls in progress
    are finished. The answer is 409 while resources send calls to it."""
    context.principal.check_organization_wide()

    def remove(connection: sa.Connection) -> None:
        record = context.check_version(find(context, connection))
        context.services.resources.check_unused(connection, context.organization_id, record.id)
        context.services.credentials.remove(connection, record, by=context.actor)

    await context.write(remove)


@OPERATIONS.post(
    "/api/credentials/{credential_id}/set-default",
    access=WRITE,
    summary="Make a credential the default",
)
async def set_default(context: RequestContext[Empty, Empty]) -> CredentialResponse:
    """Use this credential for calls that name none. It replaces the default credential of the same
    integration at the same moment."""
    context.principal.check_organization_wide()
    record = await context.write(
        lambda connection: context.services.credentials.make_default(
            connection, find(context, connection), by=context.actor
        )
    )
    return to_credential_response(context.services.catalog, record)


@OPERATIONS.post(
    "/api/credentials/{credential_id}/test",
    access=WRITE,
    summary="Test a credential",
    errors=(429, 503),
)
async def test_credential(context: RequestContext[Empty, Empty]) -> CredentialTestResponse:
    """Send one small request to the provider with the stored secret; the owner of the secret pays
    for it. A credential that does not work is no error: `is_valid` is false, and `message` tells
    why. `is_valid` is null if the provider's answer, or a missing answer, does not tell whether
    the secret works."""
    context.principal.check_organization_wide()
    services = context.services
    record = await context.read(lambda connection: find(context, connection))
    result = await run_stored_test(context, record)
    await context.write(
        lambda connection: services.credentials.record_test(
            connection, record, result, by=context.actor
        )
    )
    tested_at = to_datetime(services.clock.now())
    return CredentialTestResponse(record.id, result.is_valid, result.message, tested_at)


@OPERATIONS.get(
    "/api/credentials/{credential_id}/usage", access=READ, summary="Read the usage of a credential"
)
async def get_credential_usage(
    context: RequestContext[UsageQuery, Empty],
) -> CredentialUsageResponse:
    """Count the calls that reached the provider with this credential, by endpoint, over the last 30
    days or a period of at most 92 days. Tests of the credential are not counted. Deleted
    credentials can be read, too."""
    start, end = read_period(context.query, context.services.clock.now())

    def count(connection: sa.Connection) -> list[Outcomes]:
        record = find(context, connection, removed=True)
        return metering.sum_outcomes(
            connection, context.organization_id, record.id, since=start, until=end
        )

    return CredentialUsageResponse.of(await context.read(count), start, end)


@OPERATIONS.get(
    "/api/credentials/{credential_id}/audit",
    access=READ,
    summary="Read the audit log of a credential",
)
async def list_credential_audit(
    context: RequestContext[PageQuery, Empty],
) -> list[CredentialAuditEntryResponse]:
    """Return what was done to this credential, newest first. Deleted credentials can be read,
    too."""
    query = context.query

    def select(connection: sa.Connection) -> list[CredentialAuditEntryResponse]:
        record = find(context, connection, removed=True)
        filters = AuditFilter(organization_id=context.organization_id, object_id=record.id)
        entries, _ = context.services.audit.list(
            connection, filters, limit=query.limit, offset=query.offset
        )
        return [to_credential_audit_entry_response(entry) for entry in entries]

    return await context.read(select)


def find(
    context: RequestContext[Any, Any], connection: sa.Connection, *, removed: bool = False
) -> CredentialRecord:
    """Return the credential of the path. Raise `CredentialNotFoundError`."""
    return context.services.credentials.get(
        connection, context.organization_id, context.path["credential_id"], removed=removed
    )


def find_key_id(context: RequestContext[Any, Any]) -> str:
    """Return the id of the requesting key; empty for a person."""
    return "" if context.principal.grant is None else context.principal.grant.key_id


async def run_stored_test(
    context: RequestContext[Any, Any], record: CredentialRecord
) -> CredentialTestResult:
    """Test a stored credential. One that cannot be used is reported without a request."""
    services = context.services
    services.credential_tester.admit(context.organization_id)
    try:
        credential = services.credential_resolver.open(
            context.organization_id, integration=record.integration, credential_id=record.id
        )
    except UnusableCredentialError as error:
        return CredentialTestResult(False, error.message, 0)
    return await services.credential_tester.run(
        credential,
        services.catalog.integrations[record.integration].test_call,
        organization_id=context.organization_id,
        key_id=find_key_id(context),
    )


def read_request(
    organization_id: str,
    integration: str,
    data: AuthData,
    *,
    auth_type: str | None,
    has_oauth_config: bool,
) -> tuple[CredentialRequest, dict[str, str]]:
    """Return the request for the credential service, and the names of its fields in the body.
    Raise `InvalidCredentialError`."""
    material = infer_material(
        data.secrets,
        auth_type=auth_type,
        header=data.header,
        has_oauth_config=has_oauth_config,
    )
    request = CredentialRequest(
        organization_id=organization_id,
        integration=integration,
        secret=material.secret,
        auth_type=material.auth_type,
        secret_header=material.header,
        base_url=data.base_url,
        provider_organization=data.organization,
    )
    return request, {**PARAMS, "api_key": f"auth_data.{material.field}"}
