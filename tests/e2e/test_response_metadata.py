"""Every success says its request, model, tokens, wallet debit and cache status (M53).

It does so at every endpoint: in the head of a whole answer, and at the end of a body that is passed
on as it arrives.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from headgate.kit.money import format_dollars
from tests.fakes.raw_client import RawClient
from tests.fakes.simulated_gateway import SimulatedGateway, running_simulated_gateway

CHAT = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "Hi"}]}
RESPONSE = {"model": "gpt-5.4-mini", "input": "Hi"}
FORM = "form"
WHOLE: list[tuple[str, Any]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/responses", RESPONSE),
    ("/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "Hi"}),
    ("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["a", "b"]}),
    ("/v1/images/generations", {"model": "gpt-image-1", "prompt": "A cat"}),
    ("/v1/moderations", {"input": "Hi"}),
    ("/v1/audio/transcriptions", FORM),
    ("/v1/models", None),
    ("/v1/files", None),
]
PASSED_ON: list[tuple[str, Any]] = [
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/responses", {**RESPONSE, "stream": True}),
    ("/v1/images/generations", {"model": "gpt-image-1", "prompt": "A cat", "stream": True}),
    ("/v1/audio/speech", {"model": "tts-1", "voice": "alloy", "input": "Hi"}),
]
HEAD = {"x-headgate-request-id", "x-headgate-cache-status"}
SETTLED = {
    "x-headgate-input-tokens",
    "x-headgate-output-tokens",
    "x-headgate-wallet-debit",
    "x-headgate-cost",
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Generator[SimulatedGateway]:
    with running_simulated_gateway(tmp_path_factory.mktemp("metadata") / "data") as running:
        yield running


def name(value: Any) -> str:
    return value if isinstance(value, str) else ""


def ask(simulated: SimulatedGateway, path: str, body: Any, **headers: str) -> RawClient:
    gateway = simulated.gateway
    client = RawClient(gateway.port, gateway.keys["inference_key"])
    if body != FORM:
        client.ask(path, body, **headers)
        return client
    parts = [
        ('name="model"', b"whisper-1"),
        ('name="file"; filename="a.wav"', b"RIFF" + bytes(64_000)),
    ]
    data = b"".join(
        b"--part\r\ncontent-disposition: form-data; %b\r\n\r\n%b\r\n" % (field.encode(), value)
        for field, value in parts
    )
    given = {"content_type": "multipart/form-data; boundary=part", **headers}
    client.send(client.render(path, data + b"--part--\r\n", **given))
    return client


def check(simulated: SimulatedGateway, told: dict[str, str]) -> None:
    receipt = simulated.receipts.take_one()
    assert told["x-headgate-request-id"] == receipt.request_id
    assert told["x-headgate-cache-status"] in ("bypass", "miss", "hit")
    model = receipt.model_served or receipt.model_requested
    if model is not None:
        assert told["x-headgate-model"] in (model, receipt.model_requested)
    usage = receipt.usage
    assert int(told["x-headgate-input-tokens"]) == (usage.input_tokens if usage else 0)
    assert int(told["x-headgate-output-tokens"]) == (usage.output_tokens if usage else 0)
    assert told["x-headgate-cost"] == format_dollars(receipt.cost_nano)
    assert told["x-headgate-wallet-debit"] == "0.000000000"


@pytest.mark.parametrize(("path", "body"), WHOLE, ids=name)
def test_whole_answer_has_them_in_its_head(
    simulated: SimulatedGateway, path: str, body: Any
) -> None:
    simulated.receipts.take()
    with ask(simulated, path, body) as client:
        status, answered = client.read_answer()
        assert status == 200, answered
        assert set(client.headers) >= HEAD | SETTLED
        check(simulated, client.headers)


def test_stored_response_names_its_model(simulated: SimulatedGateway) -> None:
    with ask(simulated, "/v1/responses", RESPONSE) as client:
        stored = json.loads(client.read_answer()[1])
    simulated.receipts.take()
    with ask(simulated, f"/v1/responses/{stored['id']}", None) as client:
        assert client.read_answer()[0] == 200
        assert client.headers["x-headgate-model"] == stored["model"]
        check(simulated, client.headers)


@pytest.mark.parametrize(("path", "body"), PASSED_ON, ids=name)
def test_body_that_is_passed_on_has_them_at_its_end(
    simulated: SimulatedGateway, path: str, body: Any
) -> None:
    simulated.receipts.take()
    with ask(simulated, path, body, te="trailers", connection="te") as client:
        assert client.read_head() == 200
        assert set(client.headers) >= HEAD | {"x-headgate-model"}
        assert set(client.headers["trailer"].split(", ")) >= SETTLED
        while client.reader.read(int(client.reader.readline(), 16)):
            client.reader.readline()
        told = dict(client.headers)
        while row := client.reader.readline().rstrip(b"\r\n"):
            field, _, value = row.decode().partition(": ")
            told[field] = value
    check(simulated, told)
