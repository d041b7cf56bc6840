"""Run one tool call: policy, repetition, progress, time-out, errors as results, large results."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import time
from collections.abc import AsyncGenerator, Callable

import msgspec
import structlog

from headgate.connectors.model.action import HandleStore
from headgate.connectors.model.errors import ActionTimedOutError, describe_error
from headgate.connectors.model.tool import (
    ReportProgress,
    ToolCall,
    ToolResult,
    report_nothing,
)
from headgate.connectors.service.asset_tools import READ_RESULT
from headgate.kit.errors import HeadgateError
from headgate.kit.log import mask_text
from headgate.mcp import large_results, meta_tools
from headgate.mcp.errors import ToolFaultError
from headgate.mcp.repetitions import Repetitions, check_repeated
from headgate.mcp.toolbox import NAME_MAX, OfferedTool, ToolSet

HEARTBEAT_SECONDS = 5.0

log = structlog.get_logger(__name__)


class RunLimits(msgspec.Struct, frozen=True):
    seconds_max: float = 600.0
    result_tokens_max: int = 20_000


class CallOutcome(msgspec.Struct, frozen=True):
    """Hold a result, and whether it was asked for as a repetition of a call before."""

    result: ToolResult
    is_repeated: bool = False


class CalledToolLine(msgspec.Struct, frozen=True, tag_field="event", tag="mcp.tool_called"):
    """Hold the line of the access log for a tool call. Nothing in it is to be masked."""

    tool: str
    key: str
    organization: str
    request_id: str
    outcome: str
    repeated: bool
    milliseconds: float
    timestamp: datetime.datetime
    level: str = "info"


OnCalled = Callable[[CalledToolLine], None]


class ToolRunner:
    """Run tool calls. `on_called` is told of each one that has ended."""

    def __init__(
        self,
        repetitions: Repetitions,
        handles: HandleStore | None,
        limits: RunLimits,
        on_called: OnCalled | None = None,
    ) -> None:
        self._repetitions = repetitions
        self._handles = handles
        self._limits = limits
        self._on_called = on_called
        self.calls = 0
        self.errors = 0

    async def run(self, tools: ToolSet, call: ToolCall) -> CallOutcome:
        """Run a call. Whatever goes wrong is a result that tells a model how to go on."""
        started_at = time.perf_counter()
        self.calls += 1
        outcome = await self._run_safely(tools, call)
        self.errors += outcome.result.error is not None
        if self._on_called is not None:
            self._on_called(describe_call(call, outcome, time.perf_counter() - started_at))
        return outcome

    async def _run_safely(self, tools: ToolSet, call: ToolCall) -> CallOutcome:
        try:
            return await self._dispatch(tools, call)
        except HeadgateError as error:
            return CallOutcome(ToolResult(error=describe_error(error)))
        # A tool that fails must not end the conversation: the log has the details.
        except Exception:
            log.exception("mcp.tool_fault", tool=call.name[:NAME_MAX], request_id=call.request_id)
            message = f"The tool failed unexpectedly; the server's log has {call.request_id}."
            return CallOutcome(ToolResult(error=describe_error(ToolFaultError(message))))

    async def _dispatch(self, tools: ToolSet, call: ToolCall) -> CallOutcome:
        if call.name == meta_tools.SEARCH:
            given = meta_tools.read_search(call.arguments)
            found = tools.search(given.query, given.limit)
            described = [meta_tools.describe_found(each) for each in found]
            return CallOutcome(ToolResult(structured={"tools": described}))
        if call.name == meta_tools.CALL:
            wanted = meta_tools.read_call(call.arguments)
            call = msgspec.structs.replace(
                call,
                name=wanted.name,
                arguments=wanted.arguments,
                repeat=call.repeat or wanted.repeat,
            )
        tool = tools.find(call.name)
        if tool is None:
            raise tools.make_unknown_error(call.name)
        if tool.denial is not None:
            # Raised, it would keep this frame, which has it.
            return CallOutcome(ToolResult(error=describe_error(tool.denial)))
        call = msgspec.structs.replace(call, name=tool.definition.name)
        if not tool.definition.is_billed:
            return CallOutcome(await self._run_bounded(tool, call))
        async with self._repetitions.enter(call) as (keyed, is_repeated):
            result = await self._run_bounded(tool, keyed)
        check_repeated(result, tool.definition.name)
        return CallOutcome(result, is_repeated)

    async def _run_bounded(self, tool: OfferedTool, call: ToolCall) -> ToolResult:
        seconds = self._limits.seconds_max
        if call.timeout_seconds is not None:
            seconds = min(seconds, call.timeout_seconds)
        progress = CallProgress(call.report_progress)
        call = msgspec.structs.replace(
            call, timeout_seconds=seconds, report_progress=progress.report
        )
        try:
            async with asyncio.timeout(seconds), progress.beating():
                result = await tool.source.call_tool(tool.definition, call)
        except TimeoutError:
            raise ActionTimedOutError(
                f"The tool took longer than {seconds:g} seconds and was stopped."
            ) from None
        if self._handles is None or tool.definition.name == READ_RESULT:
            return result
        return await large_results.set_aside(
            self._handles, call, result, tokens_max=self._limits.result_tokens_max
        )


def describe_call(call: ToolCall, outcome: CallOutcome, seconds: float) -> CalledToolLine:
    """Return the line of a call. Clients make up names of tools, and providers codes of errors."""
    error = outcome.result.error
    return CalledToolLine(
        tool=mask_text(call.name[:NAME_MAX]),
        key=call.caller.grant.key_id,
        organization=call.caller.organization_id,
        request_id=call.request_id,
        outcome="ok" if error is None else mask_text(error.code),
        repeated=outcome.is_repeated,
        milliseconds=round(seconds * 1e3, 1),
        timestamp=datetime.datetime.now(datetime.UTC),
    )


class CallProgress:
    """Pass on what a tool reports. While it reports nothing, tell every few seconds that it still
    runs, so that its client goes on waiting. Values only grow, as MCP wants."""

    def __init__(self, report: ReportProgress, *, beat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._report = report
        self._beat_seconds = beat_seconds
        self._is_reported = False

    async def report(self, done: float, total: float | None, message: str) -> None:
        self._is_reported = True
        await self._report(done, total, message)

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncGenerator[None]:
        if self._report is report_nothing:
            yield
            return
        task = asyncio.get_running_loop().create_task(self._beat())
        try:
            yield
        finally:
            task.cancel()

    async def _beat(self) -> None:
        beats = 0
        # A client that is gone needs no progress; its call ends by itself.
        with contextlib.suppress(Exception):
            while True:
                await asyncio.sleep(self._beat_seconds)
                if self._is_reported:
                    return
                beats += 1
                seconds = beats * self._beat_seconds
                # Below 1, at which the steps of a tool begin.
                await self._report(beats / (beats + 1), None, f"Running for {seconds:g} seconds.")
