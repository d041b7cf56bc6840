"""Calls of actions to models: through the pipeline, as those of a client, without a connection."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headgate.connectors.model.action import ActionAnswer
from headgate.connectors.model.caller import ToolCaller, make_key_caller
from headgate.connectors.model.errors import ActionTimedOutError, NoModelsError
from headgate.gateway.exchange import InboundExchange
from headgate.gateway.openai import OpenAiHandler
from headgate.keys.model.scope import parse_network
from headgate.main.actions import InProcessModels
from headgate.relay.ports import Grant
from tests.fakes.in_process import CHAT, InProcessGateway, Peer, running_in_process

JSON = {"content-type": "application/json"}
BODY = b'{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"Hi"}]}'
COMPLETION = (
    b'{"id":"c1","model":"gpt-5.4-mini","choices":[],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}'
)
Work = Callable[[InProcessGateway], Awaitable[None]]


def run(folder: Path, work: Work, **variables: Any) -> None:
    async def around() -> None:
        async with running_in_process(folder / "data", **variables) as gateway:
            gateway.provider.play = lambda peer: peer.answer(COMPLETION)
            await work(gateway)

    asyncio.run(around())


def make_caller(
    gateway: InProcessGateway, address: str = "203.0.113.9", **limits: Any
) -> ToolCaller:
    grant = gateway.application.key_index.find(gateway.key.encode())
    return make_key_caller(msgspec.structs.replace(grant, **limits), address=address)


def read_code(answer: ActionAnswer) -> str:
    return msgspec.json.decode(answer.body)["error"]["code"]


async def send(gateway: InProcessGateway, caller: ToolCaller, **given: Any) -> ActionAnswer:
    return await gateway.models.send(caller, "POST", CHAT, headers=JSON, body=BODY, **given)


def test_call_is_answered_and_leaves_the_receipt_of_its_key(tmp_path: Path) -> None:
    async def work(gateway: InProcessGateway) -> None:
        caller = make_caller(gateway)
        answer = await send(gateway, caller, timeout_seconds=5)
        assert (answer.status, answer.body) == (200, COMPLETION)
        [receipt] = gateway.receipts
        assert receipt.request_id == answer.headers["x-headgate-request-id"]
        assert (receipt.key_id, receipt.outcome) == (caller.grant.key_id, "completed")
        assert receipt.cost_nano > 0
        assert not gateway.models.running
        assert gateway.traffic.bodies.taken == 0

    run(tmp_path, work)


LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"endpoints": ("embeddings",)}, "endpoint_out_of_scope"),
    ({"models": ("gpt-5.5",)}, "model_out_of_scope"),
    ({"management": True}, "management_key_cannot_call_models"),
    ({"networks": (parse_network("198.51.100.0/24"),)}, "address_out_of_scope"),
    ({"requires_signature": True}, "signature_required"),
]


def test_limits_of_the_key_hold(tmp_path: Path) -> None:
    async def work(gateway: InProcessGateway) -> None:
        for limits, code in LIMITS:
            answer = await send(gateway, make_caller(gateway, **limits))
            assert answer.headers["x-headgate-error-source"] == "gateway"
            assert read_code(answer) == code
        answer = await send(gateway, make_caller(gateway), credential="nobody's")
        assert read_code(answer) == "credential_unusable"
        assert gateway.provider.asked == 0
        assert gateway.traffic.bodies.taken == 0

    run(tmp_path, work)


def test_address_and_signature_of_the_request_count_for_its_calls(tmp_path: Path) -> None:
    async def work(gateway: InProcessGateway) -> None:
        networks = (parse_network("203.0.113.0/24"),)
        caller = make_caller(gateway, networks=networks, requires_signature=True)
        signed = msgspec.structs.replace(caller, is_signed=True)
        # Whoever calls, an action says nothing of it itself.
        headers = {**JSON, "Authorization": "Bearer other", "x-api-key": "k", "Cookie": "c"}
        answer = await gateway.models.send(signed, "POST", CHAT, headers=headers, body=BODY)
        assert answer.status == 200

    run(tmp_path, work)


def test_call_past_its_time_out_is_given_up_and_settled(tmp_path: Path) -> None:
    async def work(gateway: InProcessGateway) -> None:
        arrived = asyncio.Event()
        gateway.provider.play = lambda _peer: arrived.set()
        with pytest.raises(ActionTimedOutError, match="20 ms"):
            await send(gateway, make_caller(gateway), timeout_seconds=0.02)
        await arrived.wait()
        [peer] = gateway.provider.peers
        peer.answer(COMPLETION)
        await asyncio.gather(*gateway.state.tasks)
        [receipt] = gateway.receipts
        assert receipt.usage is not None
        assert not gateway.models.running
        assert gateway.traffic.bodies.taken == 0

    run(tmp_path, work)


def test_cancelled_action_leaves_its_call_settled(tmp_path: Path) -> None:
    async def work(gateway: InProcessGateway) -> None:
        arrived = asyncio.Event()
        gateway.provider.play = lambda _peer: arrived.set()
        action = asyncio.create_task(send(gateway, make_caller(gateway)))
        await arrived.wait()
        action.cancel()
        with pytest.raises(asyncio.CancelledError):
            await action
        [task] = gateway.state.tasks
        await asyncio.wait([task])
        [receipt] = gateway.receipts
        assert receipt.outcome == "cancelled"

    run(tmp_path, work, disconnect_policy="cancel")


def test_call_of_a_revoked_key_is_cut(tmp_path: Path) -> None:
    async def work(gateway: InProcessGateway) -> None:
        arrived = asyncio.Event()
        gateway.provider.play = lambda _peer: arrived.set()
        caller = make_caller(gateway)
        action = asyncio.create_task(send(gateway, caller))
        await arrived.wait()
        [exchange] = gateway.models.running
        assert OpenAiHandler.cancel(None, exchange, frozenset({caller.grant.key_id}))  # type: ignore[arg-type]
        assert read_code(await action) == "invalid_api_key"

    run(tmp_path, work)


def test_repetition_with_the_same_idempotency_key_is_not_sent_again(tmp_path: Path) -> None:
    async def work(gateway: InProcessGateway) -> None:
        caller = make_caller(gateway)
        first = await send(gateway, caller, idempotency_key="tool-1")
        again = await send(gateway, caller, idempotency_key="tool-1")
        assert (first.body, first.headers.get("idempotent-replayed")) == (COMPLETION, None)
        assert (again.body, again.headers["idempotent-replayed"]) == (COMPLETION, "true")
        assert gateway.provider.asked == 1
        # Answers are sealed with what stands for the key: the same in every process.
        alone = InProcessModels(gateway.application.sealer)
        tokens = [each.make_token(caller) for each in (gateway.models, alone)]
        other = make_key_caller(Grant("key_other", caller.organization_id, caller.project_id))
        assert tokens[0] == tokens[1] != alone.make_token(other)
        with pytest.raises(NoModelsError):
            await alone.send(caller, "GET", "/v1/models")

    run(tmp_path, work)


def count_exchanges() -> int:
    return sum(type(each) is InboundExchange for each in gc.get_objects())


def test_call_is_freed_without_the_collector(tmp_path: Path) -> None:
    async def work(gateway: InProcessGateway) -> None:
        await send(gateway, make_caller(gateway))
        cases: list[tuple[dict[str, Any], int]] = [
            ({}, 200),
            ({}, 400),
            ({"endpoints": ("embeddings",)}, 403),
        ]
        gc.collect()
        gc.disable()
        try:
            before = count_exchanges()
            for limits, status in cases:
                played = 400 if status == 400 else 200
                gateway.provider.play = functools.partial(
                    Peer.answer, body=COMPLETION, status=played
                )
                answer = await send(gateway, make_caller(gateway, **limits))
                assert answer.status == status
            await asyncio.sleep(0)
            assert count_exchanges() == before
        finally:
            gc.enable()

    run(tmp_path, work)
