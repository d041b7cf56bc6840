"""The receipt of a call, read from a running server by every id that its answer has."""

from __future__ import annotations

from collections.abc import Generator
from decimal import Decimal
from typing import Any

import pytest

from tests.fakes.harness import Harness, running_managed_harness
from tests.fakes.upstream import ReceivedRequest

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {
    "model": "gpt-5.4-mini",
    "max_completion_tokens": 200,
    "messages": [{"role": "user", "content": "Hi"}],
}
USAGE = (
    b'"usage":{"prompt_tokens":1001,"completion_tokens":77,"total_tokens":1078,'
    b'"prompt_tokens_details":{"cached_tokens":333}}'
)
COMPLETION = b'{"id":"chatcmpl-7","model":"gpt-5.4-mini","choices":[],%b}' % USAGE


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    with running_managed_harness(tmp_path_factory.mktemp("receipts") / "data") as running:
        funded = running.gateway.run("wallet", "fund", "1", "--reference", "start")
        assert funded.returncode == 0, funded.stderr
        yield running


def answer(received: ReceivedRequest) -> None:
    received.answer(COMPLETION, headers={"x-request-id": "up-7"})


def answer_stream(received: ReceivedRequest) -> None:
    received.begin_stream()
    received.send_chunk(b"data: %b\n\n" % COMPLETION)
    received.send_chunk(b"data: [DONE]\n\n")
    received.send_end()


def read(harness: Harness, name: str) -> dict[str, Any]:
    answered = harness.ask("GET", f"/v1/receipts/{name}")
    assert answered.status == 200, answered.body
    return answered.json


def test_receipt_is_found_by_every_id_that_the_answer_has(harness: Harness) -> None:
    harness.answer_with(answer)
    answered = harness.post(CHAT, ASK, {"x-headgate-correlation-id": "order-7"})
    request_id = answered.headers["x-headgate-request-id"]
    receipt = read(harness, request_id)
    for name in (
        answered.headers["x-request-id"],
        answered.headers["x-headgate-correlation-id"],
        answered.json["id"],
    ):
        assert read(harness, name) == receipt
    assert Decimal(receipt["cost"]) == Decimal(answered.headers["x-headgate-cost"])
    assert receipt["usage"]["input_tokens"] == int(answered.headers["x-headgate-input-tokens"])
    # The debit that the answer told is what the entries of this request took from the wallet.
    entries = receipt["entries"]
    moved = [Decimal(each["amount"]) for each in entries if each["account"] == "wallet"]
    assert -sum(moved) == Decimal(answered.headers["x-headgate-wallet-debit"])
    amounts = sum(Decimal(each["amount"]) for each in receipt["line_items"])
    assert amounts + Decimal(receipt["rounding"]) == Decimal(receipt["cost"]) > 0
    assert receipt["recomputation"]["matches"]
    hold = receipt["hold"]
    assert hold["state"] == "settled"
    assert Decimal(hold["amount"]) - Decimal(hold["released"]) == Decimal(receipt["cost"])
    listed = harness.ask("GET", "/v1/receipts?correlation_id=order-7").json["receipts"]
    assert [each["request_id"] for each in listed] == [request_id]


def test_receipt_of_a_stream_can_be_read_when_its_last_event_has_come(harness: Harness) -> None:
    harness.answer_with(answer_stream)
    answered = harness.post(CHAT, {**ASK, "stream": True})
    receipt = read(harness, answered.headers["x-headgate-request-id"])
    assert receipt["streamed"]
    harness.answer_with(answer)
    whole = harness.post(CHAT, ASK)
    assert Decimal(receipt["cost"]) == Decimal(whole.headers["x-headgate-cost"])
    assert receipt["line_items"] == read(harness, whole.headers["x-request-id"])["line_items"]


def test_corrected_call_costs_what_the_operator_says(harness: Harness) -> None:
    harness.answer_with(answer)
    request_id = harness.post(CHAT, ASK).headers["x-headgate-request-id"]
    done = harness.gateway.run(
        "ledger", "correct", request_id, "--cost", "0.5", "--reason", "The provider's bill"
    )
    assert done.returncode == 0, done.stderr
    receipt = read(harness, request_id)
    [correction] = receipt["corrections"]
    assert (correction["request_id"], receipt["total_cost"]) == (f"{request_id}.c1", "0.50")
    assert read(harness, correction["request_id"])["corrects"] == request_id
    listed = harness.ask("GET", "/v1/receipts?outcome=corrected").json["receipts"]
    assert [each["corrects"] for each in listed] == [request_id]
    revenue = [Decimal(e["amount"]) for e in receipt["entries"] if e["account"] == "revenue"]
    assert sum(revenue) == Decimal("0.5")


def test_everything_recomputes_to_what_was_charged(harness: Harness) -> None:
    proved = harness.gateway.run("prices", "recompute")
    assert proved.returncode == 0, proved.stdout
    assert "all cost the same" in proved.stdout
    verified = harness.gateway.run("ledger", "verify")
    assert verified.returncode == 0, verified.stderr
