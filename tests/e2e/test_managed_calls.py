"""Calls on the platform's own credential: held, settled exactly, and refused without money."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
import sqlalchemy as sa

from headgate.billing.service import ledger as billing
from headgate.kit.db.engine import Database
from headgate.kit.money import NANO_PER_DOLLAR, format_dollars
from headgate.kit.outbox import OUTBOX
from headgate.relay.ports import Receipt
from tests.fakes.gateway import PROVIDER_KEY
from tests.fakes.harness import Harness, running_managed_harness
from tests.fakes.http_connection import HttpResponse, check_error
from tests.fakes.raw_client import RawClient
from tests.fakes.upstream import ReceivedRequest
from tests.fakes.waiting import wait_until

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {
    "model": "gpt-5.4-mini",
    "max_completion_tokens": 200,
    "messages": [{"role": "user", "content": "Hi"}],
}
FILLS = itertools.count()
LONG = {"max_completion_tokens": 128_000}
USAGE = b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}'
COMPLETION = b'{"id":"c1","model":"gpt-5.4-mini","choices":[],%b}' % USAGE
TEXT = b'data: {"model":"gpt-5.4-mini","choices":[{"delta":{"content":"hello"}}]}\n\n'
COST_NANO = 1000 * 750 + 100 * 4500
EMBEDDED = b'{"data":[],"model":"text-embedding-3-small","usage":{"prompt_tokens":%d}}'


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    with running_managed_harness(tmp_path_factory.mktemp("managed") / "data") as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    module_harness.answer_with(lambda received: received.answer(COMPLETION))
    return module_harness


@pytest.fixture
def wallet(harness: Harness) -> Generator[Wallet]:
    """Fill the wallet to one dollar for each test."""
    database = Database(harness.gateway.place)
    try:
        found = Wallet(harness, database)
        found.fill()
        yield found
    finally:
        database.close()


class Wallet:
    def __init__(self, harness: Harness, database: Database) -> None:
        self._harness = harness
        self._database = database

    @property
    def nano(self) -> int:
        with self._database.reading() as connection:
            return billing.read_available(connection, self._harness.gateway.keys["organization_id"])

    def fill(self) -> None:
        missing = NANO_PER_DOLLAR - self.nano
        if missing > 0:
            with self._database.transaction() as connection:
                billing.fund(
                    connection,
                    self._harness.gateway.keys["organization_id"],
                    amount_nano=missing,
                    reference=f"fill-{next(FILLS)}",
                    now=1.0,
                )

    def topics(self, request_id: str) -> set[str]:
        """Return the events that were written of a call."""
        query = sa.select(OUTBOX.c.topic).where(OUTBOX.c.id.endswith(request_id))
        with self._database.reading() as connection:
            return set(connection.execute(query).scalars())

    def check_ledger(self) -> None:
        with self._database.reading() as connection:
            assert billing.find_inconsistencies(connection) == []


def check_settled(harness: Harness, wallet: Wallet, cost_nano: int) -> None:
    receipt = harness.receipts.take_one()
    assert receipt.managed
    assert (receipt.pricing, receipt.cost_nano) == ("priced", cost_nano)
    assert wallet.nano == NANO_PER_DOLLAR - cost_nano
    wallet.check_ledger()


def test_call_costs_exactly_what_it_used(harness: Harness, wallet: Wallet) -> None:
    answered = harness.post(CHAT, ASK)
    assert answered.body == COMPLETION
    for name in ("x-headgate-cost", "x-headgate-wallet-debit"):
        assert answered.headers[name] == "0.001200000"
    check_settled(harness, wallet, COST_NANO)


def test_message_that_a_stop_sequence_cuts_costs_what_the_provider_used(
    harness: Harness, wallet: Wallet
) -> None:
    """The reasoning that nobody sees is paid for as well."""
    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    response: dict[str, Any] = {
        "id": "resp_1",
        "model": "gpt-5.4-mini",
        "output": [],
        "usage": usage,
    }
    item: dict[str, Any] = {"type": "message", "id": "msg_1", "content": []}

    def stream(received: ReceivedRequest) -> None:
        received.begin_stream()
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": {**response, "usage": None}},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.output_text.delta", "output_index": 0, "delta": "ok END"},
            {"type": "response.completed", "response": {**response, "status": "completed"}},
        ]
        for event in events:
            received.send_chunk(b"data: %b\n\n" % json.dumps(event).encode())
        received.send_end()

    harness.answer_with(stream)
    body = {
        "model": "gpt-5.4-mini",
        "max_tokens": 200,
        "stream": True,
        "stop_sequences": ["END"],
        "messages": ASK["messages"],
    }
    answered = harness.post("/v1/messages", body).body
    assert b'"stop_sequence":"END"' in answered
    assert b'"output_tokens":100' in answered
    receipt = harness.receipts.take_one()
    assert (receipt.cost_nano, receipt.estimated) == (COST_NANO, False)


def test_streamed_call_costs_the_same(harness: Harness, wallet: Wallet) -> None:
    def stream(received: ReceivedRequest) -> None:
        received.begin_stream()
        received.send_chunk(b'data: {"id":"c1","model":"gpt-5.4-mini","choices":[],%b}\n\n' % USAGE)
        received.send_chunk(b"data: [DONE]\n\n")
        received.send_end()

    harness.answer_with(stream)
    assert harness.post(CHAT, {**ASK, "stream": True}).body == b"data: [DONE]\n\n"
    check_settled(harness, wallet, COST_NANO)


def test_money_is_set_aside_before_the_provider_is_asked(harness: Harness, wallet: Wallet) -> None:
    during: list[int] = []

    def answer(received: ReceivedRequest) -> None:
        during.append(wallet.nano)
        received.answer(COMPLETION)

    harness.answer_with(answer)
    harness.post(CHAT, ASK)
    (left,) = during
    assert left < NANO_PER_DOLLAR - COST_NANO
    # Whatever serves it: 200 tokens at the dearest rate of any tier, and hardly any input.
    assert NANO_PER_DOLLAR - left < 3_000_000
    check_settled(harness, wallet, COST_NANO)


@pytest.mark.parametrize(
    ("change", "answers"),
    [
        ({"n": 3}, 3),
        ({"best_of": 5, "n": 2}, 5),
        ({"prompt": ["a", "b", "c", "d"]}, 4),
        ({"prompt": ["a", "b"], "n": 3}, 6),
        ({"n": -4}, 1),
    ],
)
def test_hold_covers_every_answer_that_is_asked_for(
    harness: Harness, wallet: Wallet, change: dict[str, Any], answers: float
) -> None:
    during: list[int] = []

    def answer(received: ReceivedRequest) -> None:
        during.append(wallet.nano)
        received.answer(COMPLETION)

    harness.answer_with(answer)
    answered = harness.post("/v1/completions", {**ASK, "max_tokens": 200, **change})
    assert answered.status == 200
    assert NANO_PER_DOLLAR - during[0] >= int(200 * 9000 * answers)
    check_settled(harness, wallet, COST_NANO)


def test_call_without_a_limit_gets_half_of_the_wallet_and_a_limit_that_fits(
    harness: Harness, wallet: Wallet
) -> None:
    during: list[int] = []
    limits: list[int] = []

    def answer(received: ReceivedRequest) -> None:
        during.append(wallet.nano)
        limits.append(received.json["max_tokens"])
        received.answer(COMPLETION)

    harness.answer_with(answer)
    answered = harness.post("/v1/completions", {**ASK, "max_tokens": None})
    assert NANO_PER_DOLLAR // 2 <= during[0] < NANO_PER_DOLLAR
    assert NANO_PER_DOLLAR - during[0] >= limits[0] * 9000
    assert answered.headers["x-headgate-output-limit"] == str(limits[0])
    check_settled(harness, wallet, COST_NANO)


def test_limit_that_is_not_positive_and_not_covered_is_refused(
    harness: Harness, wallet: Wallet
) -> None:
    answered = harness.post("/v1/completions", {**ASK, "max_tokens": -4})
    check_unasked(harness, wallet, answered, 400, "invalid_output_limit")


def test_hold_covers_models_whose_longest_answer_is_not_known(
    harness: Harness, wallet: Wallet
) -> None:
    during: list[int] = []

    def answer(received: ReceivedRequest) -> None:
        during.append(wallet.nano)
        received.answer(COMPLETION.replace(b"gpt-5.4-mini", b"gpt-5.1-codex-mini"))

    harness.answer_with(answer)
    harness.post(
        CHAT,
        {"model": "gpt-5.1-codex-mini", "messages": [], "max_completion_tokens": 400_000},
    )
    # It cannot be longer than the window of 400,000 tokens, at $2 for a million.
    assert NANO_PER_DOLLAR - during[0] >= 400_000 * 2000
    check_settled(harness, wallet, 1000 * 250 + 100 * 2000)


def test_hold_covers_every_text_of_a_batch_of_embeddings(harness: Harness, wallet: Wallet) -> None:
    """Each text may fill the window of 8,191 tokens, all together many times that."""
    texts = ["word " * 5000] * 20
    during: list[int] = []

    def answer(received: ReceivedRequest) -> None:
        during.append(wallet.nano)
        received.answer(EMBEDDED % 100_000)

    harness.answer_with(answer)
    harness.post("/v1/embeddings", {"model": "text-embedding-3-small", "input": texts})
    assert NANO_PER_DOLLAR - during[0] >= 100_000 * 20
    check_settled(harness, wallet, 100_000 * 20)


def check_unasked(
    harness: Harness, wallet: Wallet, answered: HttpResponse, status: int, code: str
) -> None:
    check_error(answered, status, code, source="gateway")
    assert answered.headers["x-should-retry"] == "false"
    assert harness.upstream.received == []
    receipt = harness.receipts.take_one()
    assert (receipt.outcome, receipt.cost_nano) == ("refused", 0)
    assert (receipt.status, receipt.error_code) == (status, code)
    assert wallet.nano == NANO_PER_DOLLAR
    wallet.check_ledger()


def test_call_without_enough_money_is_refused_before_it_is_made(
    harness: Harness, wallet: Wallet
) -> None:
    answered = harness.post(CHAT, {**ASK, **LONG})
    check_unasked(harness, wallet, answered, 402, "insufficient_funds")


def test_sdk_does_not_try_again_without_money(harness: Harness, wallet: Wallet) -> None:
    client = harness.gateway.sdk(max_retries=5)
    with pytest.raises(openai.APIStatusError) as raised:
        client.post("/chat/completions", cast_to=object, body={**ASK, **LONG})
    assert (raised.value.status_code, raised.value.code) == (402, "insufficient_funds")
    assert len(harness.receipts.take()) == 1


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (CHAT, {**ASK, "model": "no-such-model"}),
        (CHAT, {"messages": []}),
        ("/v1/audio/speech", {"model": "gpt-4o-mini-tts", "input": "x", "voice": "alloy"}),
        ("/v1/something/new", {"model": "gpt-5.4-mini"}),
        ("/v1/batches", {"input_file_id": "file-1"}),
        (CHAT, {**ASK, "service_tier": "novel"}),
    ],
)
def test_what_has_no_bound_on_its_price_is_refused(
    harness: Harness, wallet: Wallet, target: str, body: dict[str, Any]
) -> None:
    check_unasked(harness, wallet, harness.post(target, body), 400, "model_unpriced")


def test_free_addresses_need_no_money(harness: Harness, wallet: Wallet) -> None:
    assert harness.ask("GET", "/v1/models").status == 200
    receipt = harness.receipts.take_one()
    assert (receipt.managed, receipt.pricing, receipt.cost_nano) == (True, "free", 0)
    assert wallet.nano == NANO_PER_DOLLAR


def test_refusal_of_the_provider_gives_the_money_back(harness: Harness, wallet: Wallet) -> None:
    body = b'{"error":{"message":"No","type":"x","param":null,"code":"model_not_found"}}'
    harness.answer_with(lambda received: received.answer(body, status=404))
    assert harness.post(CHAT, ASK).status == 404
    assert harness.receipts.take_one().pricing == "free"
    assert wallet.nano == NANO_PER_DOLLAR
    wallet.check_ledger()


def test_answer_that_breaks_off_is_billed_by_an_estimate_that_says_so(
    harness: Harness, wallet: Wallet
) -> None:
    harness.answer_with(ReceivedRequest.reset)
    assert harness.post(CHAT, ASK).status == 502
    receipt = harness.receipts.take_one()
    assert (receipt.outcome, receipt.estimated) == ("unknown", True)
    assert 0 < receipt.cost_nano < COST_NANO
    assert wallet.nano == NANO_PER_DOLLAR - receipt.cost_nano
    wallet.check_ledger()


@pytest.mark.parametrize("policy", ["cancel", "drain"])
def test_caller_that_leaves_pays_what_was_used_and_no_hold_is_left(
    harness: Harness, wallet: Wallet, policy: str
) -> None:
    left = threading.Event()

    def stream(received: ReceivedRequest) -> None:
        received.begin_stream()
        received.send_chunk(TEXT)
        assert left.wait(10)
        received.send_chunk(b'data: {"model":"gpt-5.4-mini","choices":[],%b}\n\n' % USAGE)
        received.send_chunk(b"data: [DONE]\n\n")
        received.send_end()

    harness.answer_with(stream)
    key = harness.gateway.run("keys", "create", "--on-disconnect", policy).stdout.strip()
    headers = {"authorization": f"Bearer {key}"}
    wait_until(lambda: harness.ask("GET", "/v1/realtime", headers).status != 401)
    with RawClient(harness.gateway.port, key) as client:
        client.ask(CHAT, ASK | {"stream": True})
        assert client.read_head() == 200
        assert client.read_piece() == TEXT
    done = "headgate_drains 1" if policy == "drain" else "headgate_requests_in_flight 1"
    wait_until(lambda: done in harness.gateway.metrics())
    left.set()
    receipts: list[Receipt] = []
    wait_until(lambda: bool(receipts.extend(harness.receipts.take()) or receipts))
    (receipt,) = receipts
    assert receipt.outcome == ("completed" if policy == "drain" else "cancelled")
    assert receipt.estimated is (policy == "cancel")
    assert (receipt.cost_nano == COST_NANO) is (policy == "drain")
    assert 0 < receipt.cost_nano <= COST_NANO
    assert wallet.nano == NANO_PER_DOLLAR - receipt.cost_nano
    wallet.check_ledger()


def test_parallel_calls_share_a_wallet_without_going_below_nothing(
    harness: Harness, wallet: Wallet
) -> None:
    """As many calls are admitted as there is money for; every other one is refused."""
    calls = 100
    given = ASK | {"max_completion_tokens": 4000}
    held: list[int] = []
    release = threading.Event()

    def answer(received: ReceivedRequest) -> None:
        held.append(wallet.nano)
        assert release.wait(20)
        received.answer(COMPLETION)

    harness.answer_with(answer)
    release.set()
    assert harness.post(CHAT, given).status == 200
    affordable = NANO_PER_DOLLAR // (NANO_PER_DOLLAR - held[0])
    assert 10 < affordable < calls
    release.clear()
    wallet.fill()
    with ThreadPoolExecutor(calls) as pool:
        waiting = [pool.submit(harness.post, CHAT, given) for _ in range(calls)]
        wait_until(lambda: sum(each.done() for each in waiting) >= calls - affordable, 20)
        wait_until(lambda: len(held) == 1 + affordable)
        release.set()
        statuses = Counter(each.result().status for each in waiting)
    assert statuses == {200: affordable, 402: calls - affordable}
    assert min(held) >= 0
    assert wallet.nano == NANO_PER_DOLLAR - affordable * COST_NANO
    wallet.check_ledger()


def test_answer_without_usage_costs_what_was_held(harness: Harness, wallet: Wallet) -> None:
    harness.answer_with(lambda received: received.answer(b'{"id":"c1","model":"gpt-5.4-mini"}'))
    assert harness.post(CHAT, ASK).status == 200
    receipt = harness.receipts.take_one()
    assert (receipt.pricing, receipt.estimated) == ("unpriced", True)
    assert 0 < receipt.cost_nano == NANO_PER_DOLLAR - wallet.nano
    wallet.check_ledger()


RESPONSES = "/v1/responses"
RESPONSE = {"id": "resp_1", "model": "gpt-5.4-mini", "status": "completed"}
USED = {"input_tokens": 100, "output_tokens": 50}
TOKENS_NANO = 100 * 750 + 50 * 4500
SEARCH = {"type": "web_search_call", "id": "ws_1", "action": {"type": "search"}}


def respond(*output: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({**RESPONSE, "usage": USED, "output": output, **more}).encode()


@pytest.mark.parametrize(
    ("item", "pricing"),
    [("apply_patch_call", "priced"), ("shell_call", "priced"), ("future_call", "partial")],
)
def test_tool_without_a_fee_costs_its_tokens_and_not_the_hold(
    harness: Harness, wallet: Wallet, item: str, pricing: str
) -> None:
    harness.answer_with(lambda received: received.answer(respond({"type": item, "id": "x"})))
    given = {"model": "gpt-5.4-mini", "input": "x", "max_output_tokens": 100}
    answered = harness.post(RESPONSES, given)
    assert answered.headers["x-headgate-cost"] == "0.000300000"
    receipt = harness.receipts.take_one()
    assert (receipt.pricing, receipt.cost_nano) == (pricing, TOKENS_NANO)
    assert wallet.nano == NANO_PER_DOLLAR - TOKENS_NANO
    wallet.check_ledger()


def test_fees_of_tools_are_held_and_paid(harness: Harness, wallet: Wallet) -> None:
    during: list[int] = []

    def answer(received: ReceivedRequest) -> None:
        during.append(wallet.nano)
        received.answer(respond(*({**SEARCH, "id": f"ws_{n}"} for n in range(3))))

    harness.answer_with(answer)
    received = {"model": "gpt-5.4-mini", "input": "x", "max_output_tokens": 100}
    harness.post(RESPONSES, {**received, "tools": [{"type": "web_search"}], "max_tool_calls": 3})
    cost_nano = TOKENS_NANO + 3 * 10_000_000
    assert NANO_PER_DOLLAR - during[0] >= cost_nano
    check_settled(harness, wallet, cost_nano)


def test_speech_is_held_and_paid_by_its_characters(harness: Harness, wallet: Wallet) -> None:
    harness.answer_with(
        lambda received: received.answer(b"ID3" + bytes(99), headers={"content-type": "audio/mpeg"})
    )
    speech = {"model": "tts-1", "voice": "alloy", "input": "x" * 1000}
    assert harness.post("/v1/audio/speech", speech).status == 200
    check_settled(harness, wallet, 15_000_000)


def test_usage_that_cannot_be_costs_the_hold_and_is_told_as_an_event(
    harness: Harness, wallet: Wallet
) -> None:
    absurd = {"input_tokens": 10**12, "output_tokens": 50}
    harness.answer_with(lambda received: received.answer(respond(usage=absurd)))
    given = {"model": "gpt-5.4-mini", "input": "x", "max_output_tokens": 100}
    answered = harness.post(RESPONSES, given)
    receipt = harness.receipts.take_one()
    assert (receipt.pricing, receipt.estimated, receipt.usage) == ("implausible", True, None)
    assert 0 < receipt.cost_nano == NANO_PER_DOLLAR - wallet.nano < 10**7
    for name in ("x-headgate-cost", "x-headgate-wallet-debit"):
        assert answered.headers[name] == format_dollars(receipt.cost_nano)
    assert answered.headers["x-headgate-pricing"] == "implausible"
    assert "x-headgate-input-tokens" not in answered.headers
    assert wallet.topics(receipt.request_id) == {"usage.implausible"}
    wallet.check_ledger()


def test_wallet_is_funded_once_for_each_reference(harness: Harness, wallet: Wallet) -> None:
    run = harness.gateway.run
    before = wallet.nano
    first = run("wallet", "fund", "2.50", "--reference", "invoice-1")
    assert first.returncode == 0, first.stderr
    assert "Granted;" in first.stdout
    again = run("wallet", "fund", "2.50", "--reference", "invoice-1")
    assert "Already granted" in again.stdout
    other = run("wallet", "fund", "3", "--reference", "invoice-1")
    assert other.returncode == 1
    assert "choose a new one" in other.stderr
    assert wallet.nano == before + 2_500_000_000
    assert f"${wallet.nano / NANO_PER_DOLLAR:.9f}" in run("wallet", "show").stdout
    spend(harness, wallet, before)


def spend(harness: Harness, wallet: Wallet, left_nano: int) -> None:
    """Bring the wallet back to what other tests expect, by one call that costs the difference."""
    tokens, rest = divmod(wallet.nano - left_nano, 750)
    assert rest < 750
    usage = b'"usage":{"prompt_tokens":%d,"completion_tokens":0}' % tokens
    harness.answer_with(lambda received: received.answer(COMPLETION.replace(USAGE, usage)))
    harness.post(CHAT, {**ASK, **LONG})


def test_doctor_reports_that_the_ledger_adds_up(harness: Harness, wallet: Wallet) -> None:
    harness.post(CHAT, ASK)
    examined = harness.gateway.run("doctor", "--json")
    assert examined.returncode == 0, examined.stdout
    findings = {each["subject"]: each for each in json.loads(examined.stdout)}
    assert findings["ledger"]["level"] == "ok"
    assert "balance is consistent" in findings["ledger"]["text"]
    assert "fail" not in {each["level"] for each in findings.values()}
    assert PROVIDER_KEY not in examined.stdout
