"""An operator's own integration beside OpenAI, with its own address, key, model id and price."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gateway import PROVIDER_KEY, running_gateway
from tests.fakes.harness import WITHOUT_BREAKERS, Harness
from tests.fakes.http_connection import check_error
from tests.fakes.receipts import open_receipts
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream
from tests.fakes.waiting import wait_until

CHAT = "/v1/chat/completions"
CATALOG = Path(__file__).parents[1] / "golden" / "catalog"
ACME_KEY = "acme-0123456789abcdefghijklmn"
USAGE = b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}'
COST_NANO = 1000 * 300 + 100 * 1200


def echo(received: ReceivedRequest) -> None:
    """Return a completion by the requested model, as a provider names it."""
    if received.method == "GET":
        received.answer(b'{"object":"list","data":[{"id":"gpt-5.4-mini","object":"model"}]}')
        return
    body = json.loads(received.body)
    if body.get("stream"):
        received.begin_stream()
        received.send_chunk(
            b'data: {"id":"c","model":"%b","choices":[{"index":0,"finish_reason":"stop"}]}\n\n'
            % body["model"].encode()
        )
        received.send_chunk(b'data: {"id":"c","choices":[],%b}\n\ndata: [DONE]\n\n' % USAGE)
        received.send_end()
        return
    received.answer(b'{"id":"c","model":"%b","choices":[],%b}' % (body["model"].encode(), USAGE))


@dataclass
class TwoProviders:
    """Hold a server with a credential of OpenAI and one of `acme`, each with its own upstream."""

    harness: Harness
    acme: FakeUpstream


@pytest.fixture(scope="module")
def module_providers(tmp_path_factory: pytest.TempPathFactory) -> Generator[TwoProviders]:
    data = tmp_path_factory.mktemp("integrations") / "data"
    with (
        running_upstream() as openai,
        running_upstream() as acme,
        running_gateway(
            data, provider_url=openai.base_url, catalog_dir=CATALOG, **WITHOUT_BREAKERS
        ) as gateway,
        open_receipts(gateway) as receipts,
    ):
        acme.script = openai.script = echo
        organization = gateway.keys["organization_id"]
        added = gateway.run(
            *("credentials", "add", "acme", "--organization", organization, "--name", "ours"),
            *("--api-key-stdin", "--base-url", f"{acme.base_url}/acme"),
            stdin=ACME_KEY,
        )
        assert added.returncode == 0, added.stderr
        providers = TwoProviders(Harness(gateway, openai, receipts), acme)
        ask: dict[str, Any] = {"model": "acme/acme-large", "messages": []}
        wait_until(lambda: providers.harness.post(CHAT, ask).status == 200, 5)
        yield providers


@pytest.fixture
def providers(module_providers: TwoProviders) -> TwoProviders:
    module_providers.harness.receipts.take()
    module_providers.harness.upstream.forget()
    module_providers.acme.forget()
    return module_providers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "headers"),
    [
        ("acme-large", {}),
        ("acme/acme-large", {}),
        ("acme-large", {"x-headgate-credential": "ours"}),
    ],
)
def test_model_of_an_own_integration_is_called_there_with_its_key_and_price(
    providers: TwoProviders, model: str, headers: dict[str, str], stream: bool
) -> None:
    body: dict[str, Any] = {"model": model, "messages": [], "stream": stream}
    answered = providers.harness.post(CHAT, body, headers)
    assert answered.status == 200
    assert answered.headers["x-headgate-provider"] == "acme"
    assert providers.harness.upstream.received == []
    (received,) = providers.acme.received
    assert received.target == "/v1/acme/chat/completions"
    assert received.headers["authorization"] == f"Bearer {ACME_KEY}"
    assert received.json["model"] == "large-2026"
    receipt = providers.harness.receipts.take_one()
    assert (receipt.provider, receipt.model_requested) == ("acme", model)
    assert (receipt.price_id, receipt.cost_nano) == ("acme/acme-large@2026-06-01", COST_NANO)


def test_named_credential_decides_the_integration(providers: TwoProviders) -> None:
    body: dict[str, Any] = {"model": "gpt-5.4-mini", "messages": []}
    answered = providers.harness.post(CHAT, body, {"x-headgate-credential": "ours"})
    assert answered.headers["x-headgate-provider"] == "acme"
    assert providers.acme.received[0].json["model"] == "gpt-5.4-mini"
    # A price of another integration's model of that id is not its price.
    assert providers.harness.receipts.take_one().pricing == "unpriced"
    headers = {"x-headgate-credential": "nobody's"}
    check_error(
        providers.harness.post(CHAT, body, headers), 400, "credential_unusable", source="gateway"
    )
    assert providers.harness.upstream.received == []


def test_other_models_still_go_to_openai(providers: TwoProviders) -> None:
    for model in ("gpt-5.4-mini", "unheard-of"):
        answered = providers.harness.post(CHAT, {"model": model, "messages": []})
        assert answered.headers["x-headgate-provider"] == "openai"
    assert providers.acme.received == []
    keys = {received.headers["authorization"] for received in providers.harness.upstream.received}
    assert keys == {f"Bearer {PROVIDER_KEY}"}


def test_models_of_an_own_integration_are_listed(providers: TwoProviders) -> None:
    listed = providers.harness.ask("GET", "/v1/models").json["data"]
    metadata = {each["id"]: each["headgate"] for each in listed}
    assert list(metadata) == ["gpt-5.4-mini", "acme-large"]
    assert metadata["acme-large"]["price"]["input"] == "0.3"
    one = providers.harness.ask("GET", "/v1/models/acme-large").json
    assert (one["owned_by"], one["headgate"]["provider"]) == ("acme", "acme")
