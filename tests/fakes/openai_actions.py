"""What an action of the connector of OpenAI uses, in memory: a provider that answers as told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.assets.model.handle import HandleInfo, HandleLimitError
from headgate.audit.model import Actor, ActorKind
from headgate.connectors.model.action import ActionAnswer, ActionContext
from headgate.connectors.model.caller import ToolCaller, find_key_scopes
from headgate.connectors.model.cleaning import clean_input
from headgate.connectors.openai.actions import ACTIONS
from headgate.relay.ports import Grant

GRANT = Grant("key_1", "org_1", "proj_1")
CALLER = ToolCaller(grant=GRANT, scopes=find_key_scopes(GRANT), actor=Actor(ActorKind.KEY, "key_1"))
BY_NAME = {action.name: action for action in ACTIONS.all}


class SentCall(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    target: str
    body: Any
    credential: str | None
    idempotency_key: str | None
    timeout_seconds: float | None


class FakeModelCaller:
    """Answer every call with the same, and keep what was sent
    (`connectors.model.action.ModelCaller`)."""

    def __init__(self, body: Any, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
        self.answer = ActionAnswer(status, headers, encoded)
        self.sent: list[SentCall] = []

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
        assert not body or headers["content-type"] == "application/json"
        call = SentCall(
            method=method,
            target=target,
            body=msgspec.json.decode(body) if body else None,
            credential=credential,
            idempotency_key=idempotency_key,
            timeout_seconds=timeout_seconds,
        )
        self.sent.append(call)
        return self.answer


class FakeHandles:
    """Keep content by its number (`connectors.model.action.HandleStore`)."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.kept: list[tuple[bytes, str, str]] = []
        self._is_full = is_full

    async def put(
        self, caller: ToolCaller, content: bytes, media_type: str, name: str
    ) -> HandleInfo:
        if self._is_full:
            raise HandleLimitError("The handles of this project are full.")
        self.kept.append((content, media_type, name))
        return HandleInfo(
            id=f"handle_{len(self.kept)}",
            media_type=media_type,
            bytes=len(content),
            expires_at=3600.0,
        )

    async def get(self, caller: ToolCaller, handle_id: str) -> tuple[HandleInfo, bytes]:
        raise NotImplementedError


class NoHttp:
    """Send nothing (`connectors.model.action.HttpCaller`)."""

    async def send(self, *_given: Any, **_named: Any) -> ActionAnswer:
        raise NotImplementedError


def make_context(models: FakeModelCaller, handles: FakeHandles | None = None) -> ActionContext:
    return ActionContext(
        caller=CALLER,
        request_id="req_1",
        models=models,
        http=NoHttp(),
        handles=handles or FakeHandles(),
        connection="work",
        idempotency_key="idem-1",
        timeout_seconds=12.5,
    )


def run_action(
    name: str, given: dict[str, Any], models: FakeModelCaller, handles: FakeHandles | None = None
) -> Any:
    """Return the output of an action for an input as it was sent."""
    action = BY_NAME[name]

    async def run() -> Any:
        cleaned = clean_input(action.input, given)
        return await action.run(make_context(models, handles), cleaned)

    return asyncio.run(run())


def list_choices(name: str, models: FakeModelCaller) -> list[tuple[str, str]]:
    """Return label and key of each item of a data source."""
    [source] = [each for each in ACTIONS.data_sources if each.name == name]

    async def run() -> list[tuple[str, str]]:
        return [(each.label, each.key) for each in await source.list_items(make_context(models))]

    return asyncio.run(run())
