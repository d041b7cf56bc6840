"""Run an action of a plain HTTP connector, before a service that answers as told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from headgate.connectors.model.action import ActionAnswer, ActionContext, Actions
from headgate.connectors.model.caller import ToolCaller, make_key_caller
from headgate.connectors.model.cleaning import clean_input
from headgate.relay.ports import Grant

CALLER = make_key_caller(Grant("key_1", "org_1", "proj_1"), address="203.0.113.9")


class SentHttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    action: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    credential: str | None
    timeout_seconds: float | None


class FakeHttpCaller:
    """Answer every request with the same (`connectors.model.action.HttpCaller`)."""

    def __init__(self, answer: ActionAnswer) -> None:
        self.answer = answer
        self.sent: list[SentHttpRequest] = []

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
        self.sent.append(
            SentHttpRequest(
                action=action,
                method=method,
                path=path,
                query=query,
                headers=headers,
                body=body,
                credential=credential,
                timeout_seconds=timeout_seconds,
            )
        )
        return self.answer


def run_action(
    actions: Actions,
    name: str,
    given: Mapping[str, Any],
    answer: Any,
    *,
    status: int = 200,
    headers: Mapping[str, str] = {},
    connection: str | None = None,
) -> tuple[SentHttpRequest, Any]:
    """Return the one request of an action, and its output. `answer` is JSON, or bytes."""
    [action] = [each for each in actions.all if each.name == name]
    body = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
    http = FakeHttpCaller(ActionAnswer(status, headers, body))
    nothing = cast("Any", None)
    context = ActionContext(
        caller=CALLER,
        request_id="req_1",
        models=nothing,
        http=http,
        handles=nothing,
        connection=connection,
    )
    output = asyncio.run(cast("Any", action.run(context, clean_input(action.input, given))))
    [sent] = http.sent
    return sent, output
