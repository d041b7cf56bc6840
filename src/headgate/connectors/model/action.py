"""The contract of an action: one typed function, from which every face of it is made.

    ACTIONS = Actions("openai")

    @ACTIONS.declare("chat-completion", title="Chat completion", endpoints=("chat.completions",))
    async def complete_chat(context: ActionContext, given: ChatCompletionInput) -> ChatCompletion:
        \"\"\"Generate text with a model ...\"\"\"

REST routes, the OpenAPI document, the MCP tool, the form of the console and the node of a workflow
come from this declaration. The types are `msgspec` structs, whose fields have descriptions and
limits (`msgspec.Meta`); the docstring is the description.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from headgate.assets.model.handle import HandleInfo
from headgate.connectors.model.caller import ToolCaller
from headgate.connectors.model.tool import ReportProgress, ToolResult, report_nothing
from headgate.llm import provider_errors

Run = Callable[["ActionContext", Any], Awaitable[Any]]
ToToolResult = Callable[[Any], ToolResult]
TIMEOUT_SECONDS = 10.0


class ActionAnswer(msgspec.Struct, frozen=True):
    """Hold the answer of a provider: `body` is without any transfer coding, header names are in
    lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_failure(self) -> bool:
        return self.status >= 400

    def find_wait(self, now: float = math.inf) -> float | None:
        """Return the seconds to wait before the next request, as the provider advises; None without
        advice. `now` is Unix time. Without it, as an action has no clock, dates count as past."""
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        return provider_errors.parse_retry_after(headers, now) or None


class WholeAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Be an output that has `data` itself, beside what else there is to tell, so that it is not put
    into the `data` of another object."""

    data: Any


class ModelCaller(Protocol):
    """Send a request below `/v1` through the call pipeline, in this process: admitted, metered,
    limited and settled as the same request of a client."""

    async def send(
        self,
        caller: ToolCaller,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] = {},
        body: bytes = b"",
        credential: str | None = None,
        idempotency_key: str | None = None,
        timeout_seconds: float | None = None,
    ) -> ActionAnswer:
        """Return the answer, of whatever status. `target` is the path with its query. `credential`
        is an id or a name, None for the usual choice. A call that is cancelled or timed out is
        settled all the same. Raise `ActionTimedOutError`."""
        ...


class HttpCaller(Protocol):
    """Send a request of a plain HTTP connector through the one egress door, with the credential of
    its integration, and record its receipt."""

    async def send(
        self,
        caller: ToolCaller,
        connector: str,
        action: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = {},
        headers: Mapping[str, str] = {},
        body: bytes = b"",
        credential: str | None = None,
        timeout_seconds: float | None = None,
    ) -> ActionAnswer:
        """Return the answer, of whatever status. Raise `NoCredentialError`, `ActionTimedOutError`,
        and the errors of egress."""
        ...


class HandleStore(Protocol):
    """Put content aside for an hour, so that an agent can name it instead of carrying it."""

    async def put(
        self, caller: ToolCaller, content: bytes, media_type: str, name: str
    ) -> HandleInfo:
        """Keep content for the caller's project, which alone can read it by its id. `name` is a
        name for people, such as `image.png`. Raise a `HeadgateError` where a limit is reached."""
        ...

    async def get(self, caller: ToolCaller, handle_id: str) -> tuple[HandleInfo, bytes]:
        """Return content of the caller's project, whole. Raise a `HeadgateError` of kind MISSING
        for what has expired, and for what belongs to somebody else."""
        ...


class ActionContext(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what an action may use, for one run."""

    caller: ToolCaller
    request_id: str
    models: ModelCaller
    http: HttpCaller
    handles: HandleStore
    connection: str | None = None
    """The credential that the caller chose, by id or name."""
    idempotency_key: str | None = None
    timeout_seconds: float = TIMEOUT_SECONDS
    report_progress: ReportProgress = report_nothing


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one action, for its routes, its tool, its form and its tests."""

    connector: str
    name: str
    """In kebab-case, unique in the connector, and a part of its addresses."""
    title: str
    description: str
    input: type[msgspec.Struct]
    output: Any
    run: Run
    is_read_only: bool
    is_destructive: bool
    is_idempotent: bool
    is_listed: bool
    endpoints: tuple[str, ...]
    former_names: tuple[str, ...]
    timeout_seconds: float
    to_tool_result: ToToolResult | None = None
    """Makes what agents get from the output, where that is more than its JSON: pictures as content
    of the result, and without their base64 in the JSON. None: the output's JSON."""

    @property
    def tool_name(self) -> str:
        """Return the name as an MCP tool: `openai_chat_completion`."""
        return f"{self.connector}_{self.name}".replace("-", "_")


class PicklistItem(msgspec.Struct, frozen=True):
    """Hold one choice of a field: what people read, and what is sent."""

    label: str
    key: str


ListItems = Callable[["ActionContext"], Awaitable[list[PicklistItem]]]


class DataSource(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a list of choices that depends on the caller's account, such as its models.

    A field of an input names it: `msgspec.Meta(extra={"data_source": "list-models"})`.
    """

    connector: str
    name: str
    """In kebab-case, unique in the connector, and a part of its address."""
    title: str
    description: str
    list_items: ListItems
    endpoints: tuple[str, ...]
    timeout_seconds: float


class Actions:
    """Collect the actions of one connector; `declare` and `declare_source` are decorators."""

    def __init__(self, connector: str) -> None:
        self.connector = connector
        self.all: list[Action] = []
        self.data_sources: list[DataSource] = []

    def declare_source(
        self,
        name: str,
        *,
        title: str,
        endpoints: tuple[str, ...] = (),
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Callable[[ListItems], ListItems]:
        """Return a decorator that registers a function as a data source."""

        def register(list_items: ListItems) -> ListItems:
            self.data_sources.append(
                DataSource(
                    connector=self.connector,
                    name=name,
                    title=title,
                    description=inspect.cleandoc(list_items.__doc__ or ""),
                    list_items=list_items,
                    endpoints=endpoints,
                    timeout_seconds=timeout_seconds,
                )
            )
            return list_items

        return register

    def declare(
        self,
        name: str,
        *,
        title: str,
        is_read_only: bool = False,
        is_destructive: bool = False,
        is_idempotent: bool = False,
        is_listed: bool = True,
        endpoints: tuple[str, ...] = (),
        former_names: tuple[str, ...] = (),
        timeout_seconds: float = TIMEOUT_SECONDS,
        to_tool_result: ToToolResult | None = None,
    ) -> Callable[[Run], Run]:
        """Return a decorator that registers a function as an action. `is_listed` is whether agents
        see its tool without searching; `endpoints` are the model endpoints that it calls."""

        def register(run: Run) -> Run:
            hints = typing.get_type_hints(run)
            output = hints.pop("return")
            hints.pop("context")
            [given] = hints.values()
            self.all.append(
                Action(
                    connector=self.connector,
                    name=name,
                    title=title,
                    description=inspect.cleandoc(run.__doc__ or ""),
                    input=given,
                    output=output,
                    run=run,
                    is_read_only=is_read_only,
                    is_destructive=is_destructive,
                    is_idempotent=is_idempotent,
                    is_listed=is_listed,
                    endpoints=endpoints,
                    former_names=former_names,
                    timeout_seconds=timeout_seconds,
                    to_tool_result=to_tool_result,
                )
            )
            return run

        return register
