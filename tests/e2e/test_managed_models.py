"""Models that the platform sells: attached by an operator, rerouted, paid in credits."""

from __future__ import annotations

import json
from collections.abc import Generator
from decimal import Decimal
from typing import Any

import pytest

from headgate.audit.model import COMMAND_LINE
from headgate.billing.service import ledger as billing
from headgate.catalog.service.catalog import Catalog
from headgate.cli.data_directory import open_data_directory
from headgate.credentials.model.managed_model import (
    ManagedModelChange,
    ManagedModelRequest,
)
from headgate.kit.db.engine import Database
from headgate.kit.money import NANO_PER_DOLLAR
from tests.fakes.gateway import PROVIDER_KEY
from tests.fakes.harness import Harness, running_managed_harness
from tests.fakes.http_connection import check_error
from tests.fakes.upstream import ReceivedRequest
from tests.fakes.waiting import wait_until

CHAT = "/v1/chat/completions"
MINI, NANO = "gpt-5.4-mini", "gpt-5.4-nano"
NANO_IN, NANO_OUT = 200, 1250
USAGE = b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}'
COST_NANO = 1000 * NANO_IN + 100 * NANO_OUT
OWN_KEY = "sk-own-0123456789abcdefghijklmnopq"


def echo(received: ReceivedRequest) -> None:
    """Return a completion by the requested model, as a provider names it."""
    model = json.loads(received.body)["model"]
    if json.loads(received.body).get("stream"):
        received.begin_stream()
        received.send_chunk(b'data: {"model":"%b","choices":[],%b}\n\n' % (model.encode(), USAGE))
        received.send_chunk(b"data: [DONE]\n\n")
        received.send_end()
        return
    received.answer(b'{"id":"c1","model":"%b","choices":[],%b}' % (model.encode(), USAGE))


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    """Start with a managed credential, a wallet, `old` replaced by nano, nano as the default."""
    with running_managed_harness(tmp_path_factory.mktemp("models") / "data") as harness:
        second = ("--name", "second", "--base-url", f"{harness.upstream.base_url}/second")
        run(
            *(harness, "credentials", "add", "openai", "--managed", "--api-key-stdin", *second),
            stdin=PROVIDER_KEY,
        )
        sell(harness)
        wait_until(lambda: harness.post(CHAT, {"model": "unknown"}).status == 200, 5)
        yield harness


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    module_harness.answer_with(echo)
    return module_harness


def run(harness: Harness, *words: str, stdin: str = "") -> str:
    done = harness.gateway.run(*words, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sell(harness: Harness) -> None:
    """Do what an operator does with `headgate models` and `headgate wallet fund`."""
    with (
        open_data_directory(harness.gateway.data, {}) as application,
        application.database.transaction() as connection,
    ):
        book = application.managed_models
        for request in (
            ManagedModelRequest(model_id=NANO, credential="second", is_default=True),
            ManagedModelRequest(model_id=MINI, credential="OpenAI"),
            ManagedModelRequest(model_id="house", credential="second", wire_id=NANO),
        ):
            book.attach(connection, request, by=COMMAND_LINE)
        replaced = ManagedModelChange(deprecated=True, replacement_id=NANO)
        book.change(connection, book.find(connection, MINI), replaced, by=COMMAND_LINE)
        billing.fund(
            connection,
            harness.gateway.keys["organization_id"],
            amount_nano=NANO_PER_DOLLAR,
            reference="first",
            now=1.0,
        )


def read_balance(harness: Harness) -> int:
    database = Database(harness.gateway.data / "headgate.db")
    try:
        with database.reading() as connection:
            assert billing.find_inconsistencies(connection) == []
            return billing.read_available(connection, harness.gateway.keys["organization_id"])
    finally:
        database.close()


def ask_body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "max_completion_tokens": 200, "messages": [], **more}


@pytest.mark.parametrize("model", [MINI, "unknown", "house"])
@pytest.mark.parametrize("stream", [False, True])
def test_call_is_served_held_and_paid_as_the_model_that_serves(
    harness: Harness, model: str, stream: bool
) -> None:
    """A deprecated id goes to its replacement, an unknown one to the default."""
    before = read_balance(harness)
    during: list[int] = []

    def answer(received: ReceivedRequest) -> None:
        during.append(before - read_balance(harness))
        echo(received)

    harness.answer_with(answer)
    answered = harness.post(CHAT, ask_body(model, stream=stream))
    assert answered.status == 200
    assert answered.headers["x-headgate-model"] == NANO
    (received,) = harness.upstream.received
    assert received.target == "/v1/second/chat/completions"
    assert json.loads(received.body)["model"] == NANO
    receipt = harness.receipts.take_one()
    assert (receipt.managed, receipt.cost_nano) == (True, COST_NANO)
    assert (receipt.model_requested, receipt.model_served) == (model, NANO)
    price = Catalog.load().price(NANO, receipt.created_at)
    assert price is not None
    assert receipt.price_id == price.id
    assert before - read_balance(harness) == COST_NANO
    # 200 tokens at the dearest rate of nano, and hardly any input.
    assert 200 * NANO_OUT <= during[0] < 3_000_000


def test_rerouted_call_that_fails_names_the_model_that_was_asked(harness: Harness) -> None:
    harness.answer_with(lambda received: received.answer(b'{"error":{"message":"No"}}', status=404))
    assert harness.post(CHAT, ask_body(MINI)).status == 404
    receipt = harness.receipts.take_one()
    assert (receipt.model_requested, receipt.model_served, receipt.cost_nano) == (MINI, NANO, 0)


def test_key_is_not_led_past_its_models_by_a_replacement(harness: Harness) -> None:
    made = run(harness, "keys", "create", "--models", f"{MINI},unknown", "--json")
    headers = {"authorization": f"Bearer {json.loads(made)['token']}"}
    wait_until(lambda: harness.post(CHAT, ask_body("x"), headers).status == 403, 5)
    harness.renew()
    for model in (MINI, "unknown"):
        answered = harness.post(CHAT, ask_body(model), headers)
        check_error(answered, 403, "model_out_of_scope", source="gateway")
    assert harness.upstream.received == []


def test_unknown_model_is_refused_where_no_model_can_stand_in(harness: Harness) -> None:
    answered = harness.post("/v1/embeddings", {"model": "unknown", "input": "x"})
    check_error(answered, 404, "model_not_found", source="gateway")
    assert answered.error["param"] == "model"
    assert harness.upstream.received == []
    assert harness.receipts.take_one().outcome == "refused"


def test_managed_models_are_listed_without_asking_a_provider(harness: Harness) -> None:
    shown = harness.ask("GET", "/v1/models")
    assert shown.headers["x-headgate-cache-status"] == "bypass"
    metadata = {each["id"]: each["headgate"] for each in shown.json["data"]}
    assert list(metadata) == [MINI, NANO, "house"]
    assert metadata[MINI]["deprecation"] == {"deprecated": True, "replacement_id": NANO}
    # 1,000 tokens in and 100 out, by the words of the card.
    price = metadata["house"]["price"]
    dollars = 1000 * Decimal(price["input"]) + 100 * Decimal(price["output"])
    assert dollars * 1000 == COST_NANO
    one = harness.ask("GET", "/v1/models/house")
    assert one.json["headgate"] == metadata["house"]
    check_error(harness.ask("GET", "/v1/models/x"), 404, "model_not_found", source="gateway")
    assert harness.upstream.received == []
    outcomes = [(r.endpoint, r.outcome, r.cost_nano) for r in harness.receipts.take()]
    assert outcomes == [("models", "completed", 0)] * 2 + [("models", "refused", 0)]


def test_files_of_the_shared_account_are_not_shown(harness: Harness) -> None:
    check_error(harness.ask("GET", "/v1/files"), 403, "shared_account", source="gateway")
    assert harness.upstream.received == []


def test_named_credential_does_not_serve_the_model_of_another(harness: Harness) -> None:
    headers = {"x-headgate-credential": "OpenAI"}
    answered = harness.post(CHAT, ask_body(NANO), headers)
    check_error(answered, 400, "credential_unusable", source="gateway")
    assert harness.upstream.received == []


def test_own_key_is_used_as_it_is_named_and_no_credit_is_debited(harness: Harness) -> None:
    """With both present the own key wins; known, deprecated and unknown ids pass."""
    harness.renew()
    run(
        *(harness, "credentials", "add", "openai", "--api-key-stdin", "--name", "own"),
        *("--base-url", f"{harness.upstream.base_url}/own"),
        stdin=OWN_KEY,
    )
    wait_until(lambda: harness.ask("GET", "/v1/files").status == 200, 5)
    harness.renew()
    harness.answer_with(echo)
    before = read_balance(harness)
    for model in (MINI, NANO, "unknown"):
        body = json.dumps(ask_body(model)).encode()
        assert harness.post(CHAT, body).status == 200
        assert harness.upstream.received[-1].body == body
        assert harness.upstream.received[-1].target == "/v1/own/chat/completions"
        receipt = harness.receipts.take_one()
        assert (receipt.managed, receipt.model_served) == (False, model)
    assert read_balance(harness) == before
    headers = {"x-headgate-credential": "second"}
    assert harness.post(CHAT, ask_body(MINI), headers).headers["x-headgate-model"] == NANO
    assert read_balance(harness) == before - COST_NANO
