"""What the resources of the MCP server tell of the models of a key."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headgate.connectors.model.action import ActionAnswer
from headgate.connectors.model.caller import ToolCaller, make_key_caller
from headgate.connectors.model.errors import CallRefusedError
from headgate.main.mcp import build_resources
from headgate.relay.ports import Grant

MODELS = {"data": [{"id": "gpt-5.4"}]}
SPENT = {"error": {"message": "The key is spent.", "code": "budget_exceeded"}}


class AnsweringModels:
    def __init__(self, status: int, body: Any) -> None:
        headers = {"x-headgate-error-source": "gateway"} if status >= 400 else {}
        self.answer = ActionAnswer(status, headers, msgspec.json.encode(body))
        self.callers: list[ToolCaller] = []

    async def send(
        self, caller: ToolCaller, _method: str, _target: str, **_given: Any
    ) -> ActionAnswer:
        self.callers.append(caller)
        return self.answer


async def read_models(models: Any) -> Any:
    [resource, _] = build_resources(models, models)
    grant = Grant("key_1", "org_1", "prj_1", requests_per_minute=3)
    return await resource.read(make_key_caller(grant))


@pytest.mark.anyio
async def test_models_are_read_without_counting_the_request_again() -> None:
    models = AnsweringModels(200, MODELS)
    assert await read_models(models) == MODELS
    [caller] = models.callers
    assert (caller.grant.key_id, caller.grant.requests_per_minute) == ("key_1", 0)


@pytest.mark.anyio
async def test_refusal_is_an_error_and_no_content() -> None:
    with pytest.raises(CallRefusedError, match="The key is spent"):
        await read_models(AnsweringModels(402, SPENT))
