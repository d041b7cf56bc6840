"""Tools, as agents see them: actions of connectors, tools of this platform and of other servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from headgate.connectors.model.caller import READ, WRITE, ToolCaller

ANY_ENDPOINT = "*"
"""Stands in `endpoints` for whichever endpoint a call of the tool names: the call itself is
checked."""


class ToolDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one tool. `name` matches `^[a-zA-Z0-9_-]{1,64}$`; schemas are JSON Schema objects.

    `scope` is what a caller needs to see and to call it. `endpoints` are the model endpoints that
    it calls (`chat.completions`): a key that may call none of them neither sees nor calls it.
    """

    name: str
    title: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None = None
    is_read_only: bool = False
    is_destructive: bool = False
    is_idempotent: bool = False
    is_open_world: bool = True
    """Whether it reaches something outside this platform."""
    is_billed: bool = False
    """Whether a call may cost: a repetition with the same arguments is then answered from the
    first one within a window."""
    counts_itself: bool = False
    """Whether a call is counted against the rate of its key where it runs, as model calls are. All
    others are counted where they arrive."""
    is_listed: bool = True
    """Whether it is in the default list; all are found by search and can be called."""
    former_names: tuple[str, ...] = ()
    """Names under which it is answered, too, and not listed."""
    scope: str = WRITE
    endpoints: tuple[str, ...] = ()
    source: str = ""
    """The connector or the server that it belongs to, for people and receipts."""

    def __post_init__(self) -> None:
        assert not (self.is_read_only and self.is_destructive), "what only reads destroys nothing"
        assert self.scope != READ or self.is_read_only, "the scope mcp:read is for what only reads"


class ToolContent(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one block of a result beside its JSON: an image or audio as base64, or a resource."""

    type: str
    """`text`, `image`, `audio`, `resource_link` or `resource`, as in MCP."""
    fields: dict[str, Any]
    """The other members of the block, in MCP's names."""


class ErrorObject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Describe a failure to a program: `type` and `code` are stable, `message` says what is wrong,
    `field` where, and `recovery` what to do next, in words that a model can follow."""

    type: str
    code: str
    message: str
    field: str | None = None
    recovery: str | None = None


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a tool answered. `structured` is a JSON object that matches the output schema; it
    is shown as text as well. `error` is set instead where the tool failed."""

    structured: dict[str, Any] | None = None
    content: tuple[ToolContent, ...] = ()
    error: ErrorObject | None = None


ReportProgress = Callable[[float, float | None, str], Awaitable[None]]
"""Tell the caller how far a call is: done, total (None: not known), and a message."""


async def report_nothing(_done: float, _total: float | None, _message: str) -> None:
    """Tell nobody."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one call of a tool. `arguments` is the JSON object that was sent, unchecked.

    `repeat` asks for a new run although the same call was just made. `idempotency_key` is made by
    the server for a tool that is billed: the source sends it with the model call, so that a
    repetition is answered from the first one. `timeout_seconds` bounds the whole call where
    the caller set a bound.
    """

    name: str
    arguments: dict[str, Any]
    caller: ToolCaller
    request_id: str
    repeat: bool = False
    idempotency_key: str | None = None
    timeout_seconds: float | None = None
    report_progress: ReportProgress = report_nothing


class ToolSource(Protocol):
    """Offer tools. Every source of tools implements this: connectors, the platform, assets, other
    servers. Which of them a caller sees and may call is decided elsewhere, by one policy."""

    async def list_tools(self, caller: ToolCaller) -> Sequence[ToolDefinition]:
        """Return the tools that the caller's project has configured, in a stable order."""
        ...

    async def call_tool(self, tool: ToolDefinition, call: ToolCall) -> ToolResult:
        """Run a tool that `list_tools` returned. Raise a `HeadgateError` for what the caller can
        mend; a failure of the tool itself is a result with `error`."""
        ...
