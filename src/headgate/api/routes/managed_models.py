"""Managed models: the models that the operator of the server sells, and the credentials that
serve them."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.api.access import platform
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.managed_models import (
    ManagedModelCreate,
    ManagedModelPage,
    ManagedModelQuery,
    ManagedModelResponse,
    ManagedModelUpdate,
    to_managed_model_response,
)
from headgate.credentials.model.managed_model import (
    ManagedModel,
    ManagedModelChange,
    ManagedModelRequest,
)

OPERATIONS = Operations(
    "Managed models",
    "Models that the operator of the server sells; calls to them are paid in credits.",
)
READ = platform("platform:read")
WRITE = platform("platform:write")
PATH = "/api/platform/managed-models"
ONE = PATH + "/{managed_model_id}"


@OPERATIONS.get(PATH, access=READ, summary="List managed models")
async def list_managed_models(
    context: RequestContext[ManagedModelQuery, Empty],
) -> ManagedModelPage:
    """Return the models that the operator of the server sells, by model id, including disabled
    ones."""
    query = context.query
    managed = await context.read(context.services.managed_models.list)
    page = managed[query.offset : query.offset + query.limit]
    responses = [to_managed_model_response(each) for each in page]
    return ManagedModelPage(responses, **query.position(len(managed)))


@OPERATIONS.post(
    PATH,
    access=WRITE,
    status=201,
    summary="Add a managed model",
    errors=(409,),
    example={"model_id": "gpt-5.4-mini", "credential": "platform"},
)
async def attach_managed_model(
    context: RequestContext[Empty, ManagedModelCreate],
) -> ManagedModelResponse:
    """Sell calls to a model, served with a credential of the platform. The catalog must have a
    price for the model, because each call reserves the most that it can cost."""
    body = context.body
    request = ManagedModelRequest(
        model_id=body.model_id,
        credential=body.credential,
        wire_id=body.wire_id or "",
        display_name=body.display_name or "",
        is_default=body.is_default,
    )
    service = context.services.managed_models
    return await context.create(
        lambda connection: to_managed_model_response(
            service.attach(connection, request, by=context.actor)
        )
    )


@OPERATIONS.get(ONE, access=READ, summary="Read a managed model")
async def get_managed_model(context: RequestContext[Empty, Empty]) -> ManagedModelResponse:
    """Return one managed model, which may be disabled."""
    return to_managed_model_response(
        await context.read(lambda connection: find(context, connection))
    )


@OPERATIONS.patch(
    ONE,
    access=WRITE,
    summary="Change a managed model",
    errors=(409,),
    example={"display_name": "Mini", "deprecated": True},
)
async def update_managed_model(
    context: RequestContext[Empty, ManagedModelUpdate],
) -> ManagedModelResponse:
    """Change the given fields: replace the credential, deprecate the model, disable it, or make it
    the default."""
    body = context.body
    fields = msgspec.structs.asdict(body)
    fields["wire_id"] = "" if body.wire_id is None else body.wire_id
    wanted = ManagedModelChange(**fields)

    def change(connection: sa.Connection) -> ManagedModel:
        managed = context.check_version(find(context, connection))
        return context.services.managed_models.change(connection, managed, wanted, by=context.actor)

    return to_managed_model_response(await context.write(change))


@OPERATIONS.delete(ONE, access=WRITE, status=204, summary="Remove a managed model", errors=(409,))
async def detach_managed_model(context: RequestContext[Empty, Empty]) -> None:
    """Stop selling calls to a model. The answer is 409 while the model replaces another one."""

    def detach(connection: sa.Connection) -> None:
        managed = context.check_version(find(context, connection))
        context.services.managed_models.detach(connection, managed, by=context.actor)

    await context.write(detach)


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> ManagedModel:
    """Return the managed model of the path. Raise `ManagedModelNotFoundError`."""
    return context.services.managed_models.find(connection, context.path["managed_model_id"])
