"""Providers of the catalog, each against a stand-in of its public reference."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, cast

import anthropic
import openai
import pytest
from anthropic.types import Message
from openai.types.responses import Response

from tests.fakes.gateway import running_gateway
from tests.fakes.grammar.watching import watch_streams
from tests.fakes.harness import WITHOUT_BREAKERS, Harness
from tests.fakes.providers import PROFILES
from tests.fakes.receipts import open_receipts
from tests.fakes.upstream import FakeUpstream, running_upstream
from tests.fakes.waiting import wait_until

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hello"}]
PRICED = {"groq", "mistral", "gemini", "azure_openai"}


@dataclass
class ManyProviders:
    """Hold a server with a credential of each provider, and their stand-ins."""

    harness: Harness
    stand_ins: dict[str, FakeUpstream]

    def add_credential(self, name: str, secret: str, base_url: str) -> None:
        body = {
            "integration_name": name,
            "display_name": name,
            "auth_data": {"api_key": secret, "base_url": base_url},
        }
        added = self.harness.post("/api/credentials", body, self.admin)
        assert added.status == 201, added.body

    def post(self, provider: str, **body: Any) -> Any:
        self.harness.receipts.take()
        self.stand_ins[provider].forget()
        return self.harness.post(CHAT, {"messages": MESSAGES, **body})

    def ensure_resource(self, provider: str, model: str) -> None:
        """Have a resource `to-<provider>`, whose first target is OpenAI, which fails."""
        body = {
            "name": f"to-{provider}",
            "model": {"model": "gpt-4.1", "max_retries": 0},
            "use_fallback": True,
            "fallback_models": [
                {"credential_name": provider, "model": model.removeprefix(f"{provider}/")}
            ],
        }
        made = self.harness.post("/api/resources", body, self.admin)
        assert made.status in (201, 409), made.body
        wait_until(lambda: self.post(provider, model=body["name"]).status == 200, 5)

    @property
    def admin(self) -> dict[str, str]:
        keys = self.harness.gateway.keys
        return {
            "authorization": f"Bearer {keys['admin_key']}",
            "x-organization-id": keys["organization_id"],
        }


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Generator[ManyProviders]:
    data = tmp_path_factory.mktemp("providers") / "data"
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        upstream.script = lambda received: received.answer(b'{"error":{}}', status=500)
        stand_ins = {name: stack.enter_context(running_upstream()) for name in PROFILES}
        gateway = stack.enter_context(
            running_gateway(data, provider_url=upstream.base_url, **WITHOUT_BREAKERS)
        )
        receipts = stack.enter_context(open_receipts(gateway))
        providers = ManyProviders(Harness(gateway, upstream, receipts), stand_ins)
        for name, profile in PROFILES.items():
            stand_ins[name].script = profile.answer
            base_url = f"{stand_ins[name].base_url}{profile.path}"
            providers.add_credential(name, profile.secret, base_url)
        last = list(PROFILES)[-1]
        wait_until(lambda: providers.post(last, model=PROFILES[last].model).status == 200, 5)
        yield providers


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", PROFILES)
def test_call_reaches_the_provider_as_its_reference_wants_it(
    providers: ManyProviders, name: str, stream: bool
) -> None:
    profile = PROFILES[name]
    answered = providers.post(name, model=profile.model, stream=stream)
    assert answered.status == 200, answered.body
    assert answered.headers["x-headgate-provider"] == name
    [received] = providers.stand_ins[name].received
    assert received.headers[profile.header] == profile.authorization
    assert received.json["model"] == profile.wire_model
    receipt = providers.harness.receipts.take_one()
    assert receipt.usage is not None
    assert (receipt.usage.input_tokens, receipt.usage.output_tokens) == (1000, 100)
    assert receipt.pricing == ("priced" if name in PRICED else "unpriced")


@pytest.mark.parametrize("name", ["groq", "mistral", "gemini"])
def test_call_to_one_provider_is_not_changed_and_its_refusal_is_told(
    providers: ManyProviders, name: str
) -> None:
    answered = providers.post(name, model=PROFILES[name].model, logit_bias={"1": 1})
    assert answered.status in (400, 422)
    assert "logit_bias" in answered.body.decode()


@pytest.mark.parametrize("name", ["mistral", "gemini"])
def test_clients_of_responses_and_messages_reach_a_provider_of_chat_completions(
    providers: ManyProviders, name: str
) -> None:
    gateway, receipts = providers.harness.gateway, providers.harness.receipts
    model = PROFILES[name].model
    receipts.take()
    hooks: Any = {"response": [watch_streams]}
    http_client = openai.DefaultHttpxClient(event_hooks=hooks)
    with gateway.sdk(max_retries=0, timeout=10, http_client=http_client) as client:
        raw = client.responses.with_raw_response.create(
            model=model, input="Hi", instructions="Be brief.", max_output_tokens=50
        )
        assert "x-headgate-conversion-losses" not in raw.headers
        response = raw.parse()
        with client.responses.create(model=model, input="Hi", stream=True) as stream:
            events = [event.to_dict() for event in stream]
        streamed = Response.model_validate(events[-1]["response"])
    for each in (response, streamed):
        assert each.output_text == "Hello"
        assert each.usage is not None
        assert (each.usage.input_tokens, each.usage.output_tokens) == (1000, 100)
    with anthropic.Anthropic(
        base_url=gateway.base_url.removesuffix("/v1"),
        api_key=gateway.key,
        max_retries=0,
        http_client=anthropic.DefaultHttpxClient(event_hooks=hooks),
    ) as client:
        asked: Any = {"model": model, "max_tokens": 50, "messages": MESSAGES}
        message: Message = cast("Any", client.messages).create(**asked)
        with client.messages.stream(**asked) as answer:
            streamed_message: Message = answer.get_final_message()
    for each in (message, streamed_message):
        assert [block.to_dict()["text"] for block in each.content] == ["Hello"]
        assert each.usage.output_tokens == 100
    settled = receipts.take()
    assert [each.endpoint for each in settled] == ["responses"] * 2 + ["messages"] * 2
    for receipt in settled:
        assert receipt.usage is not None
        assert (receipt.usage.input_tokens, receipt.usage.output_tokens) == (1000, 100)
        assert receipt.pricing == "priced"
        assert len({receipt.cost_nano for receipt in settled}) == 1
    for received in providers.stand_ins[name].received:
        assert received.target.endswith("/chat/completions")


def test_what_a_provider_of_chat_completions_lacks_is_refused(providers: ManyProviders) -> None:
    body = {"model": PROFILES["mistral"].model, "input": "Hi", "previous_response_id": "resp_1"}
    answered = providers.harness.post("/v1/responses", body)
    assert answered.status == 400
    assert json.loads(answered.body)["error"]["code"] == "unsupported_on_chat_completions"


LIBERAL = {
    "logit_bias": {"1": 1},
    "n": 1,
    "user": "u",
    "store": False,
    "max_completion_tokens": 50,
    "messages": [{**MESSAGES[0], "name": "Ann"}],
}
"""A request as OpenAI takes it, with fields that others refuse or ignore."""


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", PROFILES)
def test_resource_falls_back_from_openai_to_every_provider(
    providers: ManyProviders, name: str, stream: bool
) -> None:
    profile = PROFILES[name]
    providers.ensure_resource(name, profile.model)
    answered = providers.post(name, model=f"to-{name}", stream=stream, **LIBERAL)
    assert answered.status == 200, answered.body
    assert answered.headers["x-headgate-provider"] == name
    lost = answered.headers.get("x-headgate-conversion-losses", "")
    assert {each.partition(";")[0] for each in lost.split(", ") if each} == profile.lost
    [received] = providers.stand_ins[name].received
    assert received.json["model"] == profile.wire_model
    assert not profile.ignored & received.json.keys()
    limits = {"max_tokens", "max_completion_tokens"} & received.json.keys()
    assert [received.json[each] for each in limits] == [50]
    receipt = providers.harness.receipts.take_one()
    assert (receipt.provider, receipt.attempts) == (name, 2)
    assert receipt.usage is not None
    assert receipt.usage.output_tokens == 100


@pytest.mark.parametrize("name", ["mistral", "gemini"])
def test_client_of_responses_is_served_where_only_chat_completions_are(
    providers: ManyProviders, name: str
) -> None:
    profile = PROFILES[name]
    providers.stand_ins[name].forget()
    client = providers.harness.gateway.sdk()
    response = client.responses.create(model=profile.model, input="Hello", store=False)
    assert response.output_text == "Hello"
    with client.responses.stream(model=profile.model, input="Hello", store=False) as stream:
        assert stream.get_final_response().output_text == "Hello"
    assert len(providers.stand_ins[name].received) == 2
