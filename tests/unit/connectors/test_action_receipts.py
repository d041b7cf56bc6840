"""The receipts of calls that leave through a connector, also of those that nobody waits for."""

from __future__ import annotations

import asyncio

import pytest

from headgate.connectors.service.action_receipts import CONNECTOR_HTTP, ActionReceipts, OutgoingCall
from headgate.kit.errors import HeadgateError
from headgate.relay.ports import Receipt
from tests.fakes.http_actions import CALLER
from tests.fakes.ledger import SetClock
from tests.fakes.pipeline import FakeLedger

pytestmark = pytest.mark.anyio


def make_call(started_at: float) -> OutgoingCall:
    return OutgoingCall(
        request_id="req_1",
        endpoint=CONNECTOR_HTTP,
        method="GET",
        provider="weather",
        tool="weather_today",
        started_at=started_at,
    )


async def test_call_whose_caller_left_is_recorded_behind_it() -> None:
    ledger, clock, seen = FakeLedger(), SetClock(), list[Receipt]()
    receipts = ActionReceipts(ledger, clock, lambda receipt, _: seen.append(receipt))
    call = make_call(clock.time)
    clock.time += 2
    receipts.defer(CALLER, call)
    await asyncio.sleep(0)
    [receipt] = ledger.receipts
    assert seen == [receipt]
    assert (receipt.key_id, receipt.provider) == ("key_1", "weather")
    assert (receipt.status, receipt.outcome, receipt.error_code) == (
        408,
        "cancelled",
        "caller_left",
    )
    assert (receipt.total_microseconds, receipt.upstream_microseconds) == (2_000_000, -1)


async def test_call_that_cannot_be_recorded_now_is_recorded_later() -> None:
    ledger, clock = FakeLedger(), SetClock()
    ledger.refusal = HeadgateError("The disk is full.")
    receipts = ActionReceipts(ledger, clock, lambda _receipt, _: None)
    receipts.defer(CALLER, make_call(clock.time))
    await asyncio.sleep(0)
    [(receipt, hold)] = ledger.deferred
    assert (receipt.outcome, hold, ledger.receipts) == ("cancelled", None, [])
