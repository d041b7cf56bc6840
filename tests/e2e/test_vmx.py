"""Clients of VM-X: their addresses, their envelope, and what their answers have beside it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Generator
from typing import Any

import anthropic
import pytest

from headgate.llm import sse
from tests.fakes.gateway import PROVIDER_KEY
from tests.fakes.harness import Harness, running_harness
from tests.fakes.upstream import ReceivedRequest

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
MODEL = "gpt-5.4-mini"
ASKED = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": MODEL, "messages": ASKED},
    RESPONSES: {"model": MODEL, "input": "Hi"},
    MESSAGES: {"model": MODEL, "messages": ASKED, "max_tokens": 99},
}
COMPLETION = (
    b'{"id":"chatcmpl-1" , "model":"gpt-5.4-mini-2026-03-05","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,'
    b'"completion_tokens":3,"total_tokens":12}}'
)
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": MODEL,
    "output": [
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12},
}
CHUNKS = [
    b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"He"}}]}\n\n',
    b": a comment\n\n",
    b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"llo"}}]}\r\n\r\n',
    b'data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,'
    b'"total_tokens":12}}\n\n',
    b"data: [DONE]\n\n",
]
NO_EVENTS = {"x-vmx-event-count": "0", "x-vmx-gate-duration-ms": "0"}


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    with running_harness(tmp_path_factory.mktemp("vmx") / "data") as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    module_harness.answer_with(answer)
    return module_harness


@pytest.fixture(scope="module")
def resource(module_harness: Harness) -> str:
    """Return the name of a resource of two models, which was made in the names of VM-X."""
    body = {
        "name": "assistant",
        "model": {"provider": "openai", "model": "gpt-5.4", "timeoutMs": 5000},
        "useFallback": True,
        "fallbackModels": [{"model": "gpt-5.4-nano"}],
        "secondaryModels": [{"model": "gpt-5.5"}],
        "defaultArgs": {"user": "default", "seed": 1, "metadata": {"a": "default"}},
    }
    admin = {"authorization": f"Bearer {module_harness.gateway.keys['admin_key']}"}
    made = module_harness.post("/api/ai-resource/first-organization/default", body, admin)
    assert made.status == 201, made.body
    return "assistant"


@pytest.fixture
def prefix(harness: Harness) -> str:
    keys = harness.gateway.keys
    return f"/v1/completion/{keys['organization_id']}/{keys['project_id']}"


def answer(received: ReceivedRequest) -> None:
    is_chat = received.target.endswith("/chat/completions")
    if not received.json.get("stream"):
        received.answer(COMPLETION if is_chat else json.dumps(RESPONSE).encode())
        return
    received.begin_stream()
    events = [{"type": "response.completed", "response": RESPONSE, "sequence_number": 0}]
    for event in CHUNKS if is_chat else map(encode_event, events):
        received.send_chunk(event)
    received.send_end()


def encode_event(event: dict[str, Any]) -> bytes:
    return sse.encode_event(json.dumps(event).encode(), event["type"].encode())


def read_events(body: bytes) -> list[bytes]:
    ends = [0, *sse.find_ends(body, 0, final=True)]
    return [body[start:end] for start, end in itertools.pairwise(ends)]


def read_metadata(harness: Harness) -> tuple[str | None, dict[str, str]]:
    """Return correlation id and metadata of the only new receipt."""
    receipt = harness.receipts.take_one()
    return receipt.correlation_id, json.loads(receipt.metadata or "{}")


@pytest.mark.parametrize("surface", BODIES)
@pytest.mark.parametrize("streamed", [False, True])
def test_envelope_is_obeyed_and_does_not_reach_the_provider(
    harness: Harness, surface: str, streamed: bool
) -> None:
    envelope = {
        "correlationId": "c-1",
        "metadata": {"Team": "search", "region": "eu\r\nx-evil: 1"},
        "timeoutMs": 5000,
        "providerArgs": {"service_tier": "flex", "user": "u-1", "logit_bias": {"1": -100}},
    }
    body = {
        **BODIES[surface],
        "stream": streamed,
        "service_tier": "auto",
        "vmx": envelope,
        "__vmx_passthrough": {"a": 1},
    }
    headers = {
        "x-vmx-correlation-id": "from-header",
        "x-vmx-metadata-region": "from-header",
        "x-vmx-metadata-user": "u",
    }
    answered = harness.post(surface, body, headers)
    assert answered.status == 200
    (received,) = harness.upstream.received
    assert b"vmx" not in received.body
    sent = received.json
    assert (sent["service_tier"], sent["user"], sent["logit_bias"]) == ("flex", "u-1", {"1": -100})
    assert sent["model"] == MODEL
    expected = {
        **NO_EVENTS,
        "x-vmx-correlation-id": "c-1",
        "x-headgate-correlation-id": "c-1",
        "x-vmx-model": MODEL,
        "x-vmx-provider": "openai",
        "x-vmx-connection-id": answered.headers["x-headgate-credential-id"],
        "x-vmx-request-id": answered.headers["x-headgate-request-id"],
        "x-vmx-metadata-team": "search",
        "x-vmx-metadata-region": "eux-evil: 1",
        "x-vmx-metadata-user": "u",
    }
    assert {name: answered.headers.get(name) for name in expected} == expected
    assert "x-evil" not in answered.headers
    metadata = {"region": "eu\r\nx-evil: 1", "user": "u", "Team": "search"}
    assert read_metadata(harness) == ("c-1", metadata)


@pytest.mark.parametrize("surface", BODIES)
def test_whole_answer_has_a_member_more_only_for_clients_of_vm_x(
    harness: Harness, prefix: str, surface: str
) -> None:
    plain = harness.post(surface, BODIES[surface])
    assert "vmx" not in json.loads(plain.body)
    assert not any(name.startswith("x-vmx-") for name in plain.headers)
    address = prefix + ("/anthropic" if surface == MESSAGES else "") + surface.removeprefix("/v1")
    for answered in (
        harness.post(surface, {**BODIES[surface], "vmx": {}}),
        harness.post(address, BODIES[surface]),
        harness.post(surface, BODIES[surface], {"x-vmx-correlation-id": "c"}),
    ):
        said = json.loads(answered.body)
        added = said.pop("vmx")
        assert said == json.loads(plain.body)
        assert added["events"] == []
        metrics = added["metrics"]
        assert metrics["gateDurationMs"] == 0
        assert metrics["routingDurationMs"] is None
        assert metrics["timeToFirstTokenMs"] > 0
        assert metrics["tokensPerSecond"] > 0


def test_bytes_of_the_provider_stay_beside_the_member(harness: Harness) -> None:
    answered = harness.post(CHAT, {**BODIES[CHAT], "vmx": {}})
    assert answered.body.startswith(COMPLETION[:-1] + b',"vmx":{"events":[],')


def test_only_chunks_of_chat_have_the_member(harness: Harness) -> None:
    answered = harness.post(CHAT, {**BODIES[CHAT], "stream": True, "vmx": {}})
    events = read_events(answered.body)
    assert [each for each in events if b'"vmx"' not in each] == [CHUNKS[1], CHUNKS[-1]]
    chunks = [json.loads(sse.parse_event(each).data) for each in events if b'"vmx"' in each]
    assert [chunk.pop("vmx")["events"] for chunk in chunks] == [[], [], []]
    expected = (CHUNKS[0], CHUNKS[2], CHUNKS[3])
    assert chunks == [json.loads(sse.parse_event(each).data) for each in expected]
    for surface in (RESPONSES, MESSAGES):
        answered = harness.post(surface, {**BODIES[surface], "stream": True, "vmx": {}})
        assert b"vmx" not in answered.body
        assert answered.headers["x-vmx-event-count"] == "0"


def test_stream_of_chat_that_fails_ends_with_a_mark(harness: Harness) -> None:
    def break_off(received: ReceivedRequest) -> None:
        received.begin_stream()
        received.send_chunk(CHUNKS[0])
        received.send_end()

    harness.answer_with(break_off)
    answered = harness.post(CHAT, {**BODIES[CHAT], "stream": True, "vmx": {}})
    events = read_events(answered.body)
    assert b'"vmx"' in events[0]
    assert events[1].startswith(b'data: {"error":')
    assert b'"vmx"' not in events[1]
    assert events[-1] == b"data: [ERROR]\n\n"


@pytest.mark.parametrize("below", ["/anthropic", ""])
def test_official_sdk_of_anthropic_uses_the_prefix(
    harness: Harness, prefix: str, below: str
) -> None:
    url = f"{harness.gateway.url}{prefix}{below}"
    options: dict[str, Any] = {"api_key": harness.gateway.key, "max_retries": 0, "timeout": 10}
    with anthropic.Anthropic(base_url=url, **options) as sdk:
        client: Any = sdk
        message = client.messages.create(**BODIES[MESSAGES])
        with client.messages.stream(**BODIES[MESSAGES]) as stream:
            assert stream.get_final_text() == "Hello"
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.messages.create(**{**BODIES[MESSAGES], "max_tokens": 0})
        asked = {"model": MODEL, "messages": ASKED}
        plain = client.messages.count_tokens(**asked)
        counted = client.messages.count_tokens(**asked, extra_body={"vmx": {"metadata": {}}})
    assert plain.input_tokens == counted.input_tokens > 0
    assert [block.type for block in message.content] == ["text"]
    assert caught.value.body["type"] == "error"  # type: ignore[index]


def test_official_sdk_of_openai_uses_the_prefix_with_names(harness: Harness) -> None:
    url = f"{harness.gateway.url}/v1/completion/first-organization/default"
    client: Any = harness.gateway.sdk(base_url=url, max_retries=0)
    completion = client.chat.completions.create(
        **BODIES[CHAT], extra_body={"vmx": {"correlationId": "sdk"}}
    )
    assert completion.choices[0].message.content == "Hello"
    assert client.responses.create(**BODIES[RESPONSES]).output_text == "Hello"
    assert {each.endpoint for each in harness.receipts.take()} == {"chat.completions", "responses"}


@pytest.mark.parametrize("surface", BODIES)
def test_resource_falls_back_and_tells_it(harness: Harness, resource: str, surface: str) -> None:
    def refuse_first(received: ReceivedRequest) -> None:
        if received.json["model"] == "gpt-5.4":
            received.answer(b'{"error":{"message":"No.","code":"bad"}}', status=400)
        else:
            answer(received)

    harness.answer_with(refuse_first)
    answered = harness.post(surface, {**BODIES[surface], "model": resource, "vmx": {}})
    assert answered.status == 200
    assert [each.json["model"] for each in harness.upstream.received] == ["gpt-5.4", "gpt-5.4-nano"]
    assert answered.headers["x-vmx-model"] == "gpt-5.4-nano"
    assert answered.headers["x-vmx-event-count"] == "1"
    assert answered.headers["x-vmx-event-0-type"] == "fallback"
    assert answered.headers["x-vmx-event-0-fallback-failed-model"] == "gpt-5.4"
    [event] = json.loads(answered.body)["vmx"]["events"]
    assert (event["type"], event["data"]["model"]["model"]) == ("fallback", "gpt-5.4")


def test_arguments_win_over_the_body_and_that_over_defaults(
    harness: Harness, resource: str, prefix: str
) -> None:
    arguments = {"providerArgs": {"seed": 3, "model": "other"}, "secondaryModelIndex": 0}
    body = {**BODIES[CHAT], "model": resource, "seed": 2, "metadata": {"b": "c"}, "vmx": arguments}
    answered = harness.post(f"{prefix}/chat/completions", body)
    assert answered.status == 200
    (received,) = harness.upstream.received
    sent = received.json
    assert (sent["user"], sent["metadata"], sent["seed"]) == ("default", {"b": "c"}, 3)
    assert (sent["model"], answered.headers["x-vmx-model"]) == ("gpt-5.5", "gpt-5.5")


def test_resource_can_be_changed_for_one_request_or_be_in_it_alone(
    harness: Harness, resource: str
) -> None:
    overrides = {"model": {"model": "gpt-5.4-mini"}, "defaultArgs": {"seed": 9}}
    for name in (resource, "in-the-request-alone"):
        envelope = {"resourceConfigOverrides": overrides}
        answered = harness.post(RESPONSES, {**BODIES[RESPONSES], "model": name, "vmx": envelope})
        assert (answered.status, answered.headers["x-vmx-model"]) == (200, "gpt-5.4-mini")
    stored, alone = (each.json for each in harness.upstream.received)
    assert (stored["user"], stored["seed"]) == ("default", 9)
    assert ("user" in alone, alone["seed"]) == (False, 9)


@pytest.mark.parametrize(
    ("envelope", "code", "param"),
    [
        (
            {"secondaryModelIndex": 1},
            "COMPLETION_SECONDARY_MODEL_NOT_FOUND",
            "vmx.secondaryModelIndex",
        ),
        (
            {"resourceConfigOverrides": {"model": {"connectionName": "none"}}},
            "invalid_request",
            "vmx.resourceConfigOverrides.model.connectionName",
        ),
    ],
)
def test_options_that_do_not_fit_the_resource_are_refused(
    harness: Harness, resource: str, envelope: dict[str, Any], code: str, param: str
) -> None:
    answered = harness.post(CHAT, {**BODIES[CHAT], "model": resource, "vmx": envelope})
    said = json.loads(answered.body)["error"]
    assert (answered.status, said["code"], said["param"]) == (400, code, param)
    assert harness.upstream.received == []


def test_name_that_nobody_knows_is_no_model_below_the_prefix(harness: Harness, prefix: str) -> None:
    for name in ("nobody", "nobody/gpt-5.4"):
        answered = harness.post(f"{prefix}/responses", {**BODIES[RESPONSES], "model": name})
        said = json.loads(answered.body)["error"]
        assert (answered.status, said["code"]) == (404, "AI_RESOURCE_NOT_FOUND")
    assert harness.upstream.received == []
    assert harness.post(RESPONSES, {**BODIES[RESPONSES], "model": "nobody"}).status == 200


@pytest.mark.parametrize(
    "address",
    [
        "{org}/other/chat/completions",
        "other/{project}/chat/completions",
        "{project}/{org}/chat/completions",
        "{org}/{project}",
        "{org}/chat/completions",
        "{org}",
        "%2e%2e/{project}/chat/completions",
    ],
)
def test_address_of_anybody_else_is_unknown(harness: Harness, address: str) -> None:
    keys = harness.gateway.keys
    target = address.format(org=keys["organization_id"], project=keys["project_id"])
    answered = harness.post(f"/v1/completion/{target}", BODIES[CHAT])
    assert answered.status == 404
    assert json.loads(answered.body)["error"]["code"] == "workspace_not_found"
    assert harness.upstream.received == []


@pytest.mark.parametrize("target", ["/v1/completion", "/v1/Completion/a/b", "/v1/completion%2fa"])
def test_other_spelling_of_the_prefix_is_never_sent_on(harness: Harness, target: str) -> None:
    answered = harness.post(target, BODIES[CHAT])
    assert answered.status in (400, 404, 501)
    assert harness.upstream.received == []


def test_key_is_needed_before_an_address_is_looked_up(harness: Harness, prefix: str) -> None:
    for address in (prefix, "/v1/completion/a/b"):
        answered = harness.post(
            f"{address}/chat/completions", BODIES[CHAT], {"authorization": "Bearer hg_live_x"}
        )
        assert answered.status == 401


def test_only_listed_headers_pass_below_the_prefix(harness: Harness, prefix: str) -> None:
    wanted = {
        "openai-beta": "assistants=v2",
        "openai-organization": "org-1",
        "openai-project": "proj_1",
        "anthropic-beta": "b",
        "anthropic-version": "2023-06-01",
        "x-goog-user-project": "g",
        "x-client-request-id": "client-1",
        "idempotency-key": "key-1",
        "content-type": "application/json",
    }
    others = {"x-custom": "a", "traceparent": "b", "x-api-key": "c", "session-id": "d"}
    answered = harness.post(f"{prefix}/chat/completions", BODIES[CHAT], {**wanted, **others})
    assert answered.status == 200
    (received,) = harness.upstream.received
    assert {name: received.headers.get(name) for name in wanted} == wanted
    assert not set(others) & set(received.headers)
    assert received.headers["authorization"] == f"Bearer {PROVIDER_KEY}"


REFUSALS: list[tuple[Any, str]] = [
    ({"timeoutMs": 50}, "vmx.timeoutMs"),
    ([], "vmx"),
    ({"metadata": {"a": 1}}, "vmx.metadata[...]"),
    ({"providerArgs": {"stream": True}}, "vmx.providerArgs.stream"),
]


@pytest.mark.parametrize("surface", BODIES)
@pytest.mark.parametrize(("envelope", "param"), REFUSALS)
def test_invalid_envelope_is_refused_in_the_shape_of_the_surface(
    harness: Harness, surface: str, envelope: Any, param: str
) -> None:
    answered = harness.post(surface, {**BODIES[surface], "vmx": envelope})
    said = json.loads(answered.body)
    assert answered.status == 400
    assert param in said["error"]["message"]
    if surface == MESSAGES:
        assert (said["type"], said["error"]["type"]) == ("error", "invalid_request_error")
    else:
        assert (said["error"]["code"], said["error"]["param"]) == ("invalid_request", param)
    assert harness.upstream.received == []


def test_arguments_for_the_provider_are_refused_where_nothing_takes_them(harness: Harness) -> None:
    body: dict[str, Any] = {"model": "text-embedding-3-small", "input": "a"}
    body["vmx"] = {"providerArgs": {"user": "u"}}
    assert harness.post("/v1/embeddings", body).status == 400
    body["vmx"] = {"correlationId": "c-2", "metadata": {"a": "b"}}
    harness.answer_with(lambda received: received.answer(b'{"data":[]}'))
    answered = harness.post("/v1/embeddings", body)
    assert (answered.status, answered.headers["x-vmx-correlation-id"]) == (200, "c-2")
    assert b'"vmx"' not in answered.body
    correlations = [each.correlation_id for each in harness.receipts.take()]
    assert correlations[-1] == "c-2"


def test_time_of_the_envelope_ends_the_call(harness: Harness) -> None:
    harness.answer_with(wait_for_the_end)
    answered = harness.post(CHAT, {**BODIES[CHAT], "vmx": {"timeoutMs": 100}})
    assert answered.status == 504
    said = json.loads(answered.body)
    assert said["error"]["code"] == "provider_timeout"
    assert "x-vmx-request-id" in answered.headers


def wait_for_the_end(received: ReceivedRequest) -> None:
    received.connection.recv(1)


def test_errors_of_the_provider_have_the_headers_too(harness: Harness) -> None:
    refused = b'{"error":{"message":"No.","type":"invalid_request_error","code":"bad"}}'
    harness.answer_with(lambda received: received.answer(refused, status=400))
    answered = harness.post(CHAT, {**BODIES[CHAT], "vmx": {"correlationId": "c-3"}})
    assert (answered.status, answered.body) == (400, refused)
    assert answered.headers["x-vmx-correlation-id"] == "c-3"
    assert answered.headers["x-vmx-model"] == MODEL
