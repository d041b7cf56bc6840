"""A connector of tests: its actions have every kind of field, and say what they were given."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headgate.connectors.model.action import ActionContext, Actions, PicklistItem
from headgate.connectors.model.errors import ProviderRefusedError
from headgate.connectors.model.tool import ToolContent, ToolResult

ACTIONS = Actions("sample")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    role: Annotated[Literal["user", "system"], Meta(title="Role", description="Who speaks.")]
    text: Annotated[str, Meta(title="Text", extra={"form": "multiline"})]


class EverythingInput(msgspec.Struct, frozen=True, kw_only=True):
    """Read the source: this text is for nobody else."""

    parts: Annotated[list[Part], Meta(title="Parts", description="What is said.", min_length=1)]
    name: Annotated[str, Meta(description="A name.", min_length=2, max_length=5)] = "none"
    model: Annotated[str, Meta(title="Model", extra={"data_source": "list-things"})] = "m"
    size: Annotated[Literal["small", "large"], Meta(title="Size")] = "small"
    sides: Annotated[Literal[1, 2], Meta(title="Sides")] = 1
    count: Annotated[int, Meta(title="Count", ge=1, le=10)] = 3
    heat: Annotated[float, Meta(title="Heat", ge=0, le=2)] = 1.0
    limit: Annotated[int, Meta(title="Limit", ge=1)] | None = None
    loud: Annotated[bool, Meta(title="Loud")] = False
    extra: Annotated[dict[str, Any], Meta(title="Extra")] = {}
    stop: Annotated[str | list[str] | None, Meta(title="Stop")] = None


class Given(msgspec.Struct, frozen=True, kw_only=True):
    given: Annotated[dict[str, Any], Meta(description="What was given.")]
    seconds: Annotated[float, Meta(description="How long it may take.")]
    connection: Annotated[str | None, Meta(description="The credential.")] = None


class PingInput(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is asked."""


@ACTIONS.declare("do-everything", title="Do everything", former_names=("sample_do_all",))
async def do_everything(context: ActionContext, given: EverythingInput) -> Given:
    """Return what was given."""
    return Given(
        given=msgspec.to_builtins(given),
        seconds=context.timeout_seconds,
        connection=context.connection,
    )


@ACTIONS.declare("ping", title="Ping", is_read_only=True, is_idempotent=True)
async def ping(context: ActionContext, given: PingInput) -> dict[str, Any]:
    """Return who asks."""
    return {"key": context.caller.grant.key_id, "idempotency_key": context.idempotency_key}


@ACTIONS.declare("sleep", title="Sleep", endpoints=("chat.completions",), timeout_seconds=0.01)
async def sleep(context: ActionContext, given: PingInput) -> dict[str, Any]:
    """Wait for ever."""
    await asyncio.Event().wait()
    return {}


def show_picture(output: Any) -> ToolResult:
    return ToolResult(content=(ToolContent(type="image", fields={"data": output["picture"]}),))


@ACTIONS.declare("paint", title="Paint", to_tool_result=show_picture)
async def paint(context: ActionContext, given: PingInput) -> dict[str, Any]:
    """Paint a picture."""
    return {"picture": "iVBOR"}


@ACTIONS.declare("fail", title="Fail", is_destructive=True)
async def fail(context: ActionContext, given: PingInput) -> dict[str, Any]:
    """Fail as a provider does."""
    error = ProviderRefusedError("The provider answered 400: no.", status=400, data={"a": 1})
    error.recovery = "Ask for something else."
    raise error


@ACTIONS.declare_source("list-things", title="Things")
async def list_things(context: ActionContext) -> list[PicklistItem]:
    """List what there is."""
    return [PicklistItem(label="One", key=context.connection or "1")]
