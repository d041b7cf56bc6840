"""OpenAI's actions: what is sent to OpenAI for an input, and what comes of the answer."""

from __future__ import annotations

import base64
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

import headgate.catalog
from headgate.connectors.model.errors import (
    CallRefusedError,
    InvalidInputError,
    ProviderRefusedError,
    describe_error,
)
from headgate.connectors.model.form import build_form
from headgate.connectors.model.schema import SHORT_DESCRIPTION, build_input_schema
from headgate.connectors.openai import model_rules
from headgate.connectors.openai.actions import ACTIONS
from headgate.connectors.openai.provider_calls import UnreadableAnswerError
from headgate.kit.errors import Kind
from headgate.relay.idempotency import (
    IdempotencyKeyInUseError,
    OutcomeUnknownError,
    StoredAnswerMissingError,
)
from tests.fakes.openai_actions import (
    BY_NAME,
    FakeHandles,
    FakeModelCaller,
    list_choices,
    run_action,
)

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Paris.", "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "new": {"a": 1}},
    "unknown_member": [1],
}
ASKED = [{"role": "user", "content": "The capital of France?"}]
PICTURE = base64.b64encode(b"\x89PNG picture").decode()


def send(name: str, given: dict[str, Any], body: Any) -> tuple[Any, Any]:
    """Return what was sent, and the output."""
    models = FakeModelCaller(body)
    output = run_action(name, given, models)
    return models.sent[0].body, output


def test_document_names_of_001_are_the_listed_tools() -> None:
    listed = [action.tool_name for action in ACTIONS.all if action.is_listed]
    assert listed == [
        "openai_chat_completion",
        "openai_generate_image",
        "openai_list_models",
        "openai_create_embedding",
    ]
    assert all(action.endpoints and action.description for action in ACTIONS.all)


def test_agents_read_short_descriptions_and_people_whole_ones() -> None:
    given = BY_NAME["generate-image"].input
    short = build_input_schema(given, is_short=True)["properties"]
    whole = build_input_schema(given)["properties"]
    assert short["n"]["description"] == "dall-e-3: 1"
    assert whole["n"]["description"] == "Up to 4 for GPT Image, always 1 for dall-e-3."
    assert "description" not in short["model"]
    assert not any(SHORT_DESCRIPTION in field for field in (*short.values(), *whole.values()))


def test_chat_completion_has_the_defaults_of_its_document() -> None:
    models = FakeModelCaller(CHAT)
    reply = run_action("chat-completion", {"messages": ASKED}, models)
    [call] = models.sent
    assert (call.method, call.target) == ("POST", "/v1/chat/completions")
    assert (call.credential, call.idempotency_key, call.timeout_seconds) == ("work", "idem-1", 12.5)
    assert call.body == {
        "messages": ASKED,
        "model": "gpt-4o-mini",
        "max_tokens": 1024,
        "temperature": 1.0,
    }
    assert msgspec.to_builtins(reply) == {
        "content": "Paris.",
        "model": "gpt-4o-mini-2024-07-18",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
    }


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": "2.5"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"model": "gpt-9"}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"top_p": 1}, "top_p"),
    ],
)
def test_input_of_chat_completion_is_cleaned_and_checked(given: dict[str, Any], field: str) -> None:
    sent, _ = send("chat-completion", {"messages": ASKED, "temperature": "0.7"}, CHAT)
    assert sent["temperature"] == 0.7
    with pytest.raises(InvalidInputError) as raised:
        run_action("chat-completion", {"messages": ASKED, **given}, FakeModelCaller(CHAT))
    assert raised.value.param == field


def test_messages_of_create_chat_completion_may_be_json_text() -> None:
    text = '[{"role": "developer", "content": [{"type": "text", "text": "Hi"}]}]'
    sent, _ = send("create-chat-completion", {"messages": text, "n": "2", "top_p": ""}, CHAT)
    assert sent["messages"] == [{"role": "developer", "content": [{"type": "text", "text": "Hi"}]}]
    assert (sent["n"], sent["top_p"]) == (2, 1)


@pytest.mark.parametrize("model", ["o3-mini", "gpt-5.4-mini"])
def test_reasoning_model_gets_its_own_field_for_the_limit_and_no_temperature(model: str) -> None:
    sent, _ = send("chat-completion", {"messages": ASKED, "model": model, "temperature": 0.3}, CHAT)
    assert sent == {"messages": ASKED, "model": model, "max_completion_tokens": 1024}


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        ("gpt-4.1", {"temperature", "top_p", "n"}),
        ("gpt-5-chat-latest", {"temperature", "top_p", "n"}),
        ("work/o4-mini", {"n"}),
        ("ft:o4-mini-2025-04-16:acme::x", {"n"}),
        ("gpt-4o-search-preview", set[str]()),
    ],
)
def test_fields_that_a_model_refuses_are_left_out(model: str, kept: set[str]) -> None:
    sent, _ = send("create-chat-completion", {"model": model}, CHAT)
    assert set(sent) == {"model", "messages"} | kept


def test_every_reasoning_model_of_the_catalog_is_known_as_one() -> None:
    folder = Path(headgate.catalog.__file__).parent
    catalog = tomllib.loads((folder / "data/openai.toml").read_text("utf-8"))
    reasoning = [each["id"] for each in catalog["model"] if "reasoning" in each["capabilities"]]
    assert "o3-mini" in reasoning
    for model in reasoning:
        assert "temperature" in model_rules.find_chat_rules(model).refused, model


def test_create_chat_completion_has_its_defaults_and_returns_the_whole_body() -> None:
    sent, output = send("create-chat-completion", {}, CHAT)
    assert (sent["model"], sent["temperature"], sent["top_p"], sent["n"]) == (
        "gpt-3.5-turbo",
        1,
        1,
        1,
    )
    assert [each["role"] for each in sent["messages"]] == ["system", "user", "assistant", "user"]
    assert sent["messages"][3]["content"] == "Where was it played?"
    assert output == CHAT


def test_create_response_sends_model_and_text() -> None:
    body = {"id": "resp_1", "output": [{"type": "message"}], "later": True}
    sent, output = send("create-response", {"input": "Hello"}, body)
    assert sent == {"input": "Hello", "model": "gpt-4.1"}
    assert output == body


def test_embedding_of_a_text_is_one_vector() -> None:
    row = {"object": "embedding", "index": 0, "embedding": [0.5, -1]}
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    body = {"data": [row], "model": "text-embedding-3-small", "usage": usage}
    sent, reply = send("create-embedding", {"input": "a"}, body)
    assert sent == {"input": "a", "model": "text-embedding-3-small"}
    assert msgspec.to_builtins(reply) == {
        "model": "text-embedding-3-small",
        "usage": usage,
        "embedding": [0.5, -1.0],
    }


def test_embeddings_of_a_list_come_in_its_order() -> None:
    rows = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    body = {"data": rows, "model": "m", "usage": {"prompt_tokens": 2, "total_tokens": 2}}
    sent, reply = send("create-embedding", {"input": ["a", "b"]}, body)
    assert sent["input"] == ["a", "b"]
    assert (reply.embedding, reply.embeddings) == (msgspec.UNSET, [[1.0], [2.0]])
    with pytest.raises(UnreadableAnswerError, match="2 vectors for 3 texts"):
        send("create-embedding", {"input": ["a", "b", "c"]}, body)


def test_models_are_listed_as_the_provider_has_them_and_as_a_sorted_picklist() -> None:
    rows = [{"id": "o3", "object": "model", "owned_by": "openai"}, {"id": "gpt-4o", "more": 1}]
    models = FakeModelCaller({"object": "list", "data": rows})
    output = run_action("list-models", {}, models)
    assert output == {"object": "list", "data": rows}
    assert (models.sent[0].method, models.sent[0].target) == ("GET", "/v1/models")
    show = BY_NAME["list-models"].to_tool_result
    assert show is not None
    assert show(output).structured == {"data": [{"id": "gpt-4o"}, {"id": "o3"}]}
    assert list_choices("list-models", models) == [("gpt-4o", "gpt-4o"), ("o3", "o3")]


@pytest.mark.parametrize("action", ["create-chat-completion", "create-response", "get-model-by-id"])
def test_form_offers_the_models_of_the_account(action: str) -> None:
    fields = {field.name: field for field in build_form(BY_NAME[action].input)}
    assert (fields["model"].kind, fields["model"].data_source) == ("choice", "list-models")


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("gpt-4o", "/v1/models/gpt-4o"),
        ("ft:gpt-4o:acme::1", "/v1/models/ft%3Agpt-4o%3Aacme%3A%3A1"),
        ("a/b?c#d", "/v1/models/a%2Fb%3Fc%23d"),
    ],
)
def test_id_of_a_model_is_encoded(model: str, target: str) -> None:
    models = FakeModelCaller({"id": model, "object": "model"})
    assert run_action("get-model-by-id", {"model": model}, models)["id"] == model
    assert models.sent[0].target == target


def test_image_of_dall_e_3_has_the_defaults_of_its_document() -> None:
    url = {"url": "https://images.example/1", "revised_prompt": "A very red cat"}
    sent, reply = send("generate-image", {"prompt": "A cat"}, {"created": 1, "data": [url]})
    assert sent == {
        "prompt": "A cat",
        "model": "dall-e-3",
        "n": 1,
        "size": "1024x1024",
        "quality": "standard",
        "style": "vivid",
        "response_format": "url",
    }
    assert msgspec.to_builtins(reply) == {"images": [{"media_type": "image/png", **url}]}


def test_gpt_image_gets_neither_style_nor_response_format() -> None:
    given = {"prompt": "A cat", "model": "gpt-image-1", "n": 4, "style": "natural"}
    body = {"data": [{"b64_json": PICTURE}] * 4, "output_format": "webp", "size": "1024x1024"}
    sent, reply = send("generate-image", given, body)
    assert sent == {"prompt": "A cat", "model": "gpt-image-1", "n": 4, "size": "1024x1024"}
    assert [each.media_type for each in reply.images] == ["image/webp"] * 4
    assert reply.notes == ("gpt-image-1 has no styles; `style` was left out.",)


def test_small_size_is_made_in_the_smallest_that_the_model_has() -> None:
    given = {"prompt": "A cat", "model": "gpt-image-1", "size": "256x256", "quality": "high"}
    sent, reply = send("generate-image", given, {"data": [{"b64_json": PICTURE}]})
    assert (sent["size"], sent["quality"]) == ("1024x1024", "high")
    assert reply.notes == ("gpt-image-1 does not make 256x256; it made 1024x1024.",)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"n": 2}, "n"),
        ({"size": "512x512"}, "size"),
        ({"size": "auto"}, "size"),
        ({"quality": "high"}, "quality"),
        ({"model": "gpt-image-1", "quality": "hd"}, "quality"),
        ({"model": "gpt-image-1", "size": "1024x1792"}, "size"),
    ],
)
def test_what_the_image_model_does_not_make_is_an_error_of_its_field(
    given: dict[str, Any], field: str
) -> None:
    models = FakeModelCaller({"data": []})
    with pytest.raises(InvalidInputError) as raised:
        run_action("generate-image", {"prompt": "A cat", **given}, models)
    assert raised.value.param == field
    assert not models.sent


def test_agents_get_images_as_content_and_no_base64_in_the_json() -> None:
    given = {"prompt": "A cat", "response_format": "b64_json"}
    _, reply = send("generate-image", given, {"data": [{"b64_json": PICTURE}]})
    show = BY_NAME["generate-image"].to_tool_result
    assert show is not None
    shown = show(reply)
    assert reply.images[0].b64_json == PICTURE
    [block] = shown.content
    assert (block.type, block.fields) == ("image", {"data": PICTURE, "mimeType": "image/png"})
    assert PICTURE not in msgspec.json.encode(shown.structured).decode()


def test_images_are_handed_over_by_reference() -> None:
    models, handles = FakeModelCaller({"data": [{"b64_json": PICTURE}]}), FakeHandles()
    given = {"prompt": "A cat", "response_format": "handle"}
    reply = run_action("generate-image", given, models, handles)
    assert models.sent[0].body["response_format"] == "b64_json"
    assert handles.kept == [(b"\x89PNG picture", "image/png", "image.png")]
    [image] = reply.images
    assert msgspec.to_builtins(image) == {"media_type": "image/png", "handle": "handle_1"}


def test_image_that_cannot_be_put_aside_comes_as_it_is() -> None:
    models = FakeModelCaller({"data": [{"b64_json": PICTURE}]})
    given = {"prompt": "A cat", "response_format": "handle"}
    reply = run_action("generate-image", given, models, FakeHandles(is_full=True))
    assert reply.images[0].b64_json == PICTURE
    assert reply.notes == ("The image was not put aside: The handles of this project are full.",)


@pytest.mark.parametrize("data", [5, None, [5], [None], {"a": 1}, [{"b64_json": 5}]])
def test_images_that_nobody_could_show_are_an_unreadable_answer(data: Any) -> None:
    for name in ("generate-image", "create-image"):
        with pytest.raises(UnreadableAnswerError):
            run_action(name, {"prompt": "A cat"}, FakeModelCaller({"data": data}))
    models = FakeModelCaller({"data": [{"b64_json": "é"}]})
    with pytest.raises(UnreadableAnswerError, match="base64"):
        run_action("generate-image", {"prompt": "A cat", "response_format": "handle"}, models)


def test_create_image_names_no_model() -> None:
    body: dict[str, Any] = {
        "created": 1,
        "data": [{"b64_json": PICTURE, "revised_prompt": "B"}],
        "size": "1024x1024",
    }
    sent, output = send("create-image", {"prompt": "A cat"}, body)
    assert sent == {"prompt": "A cat", "n": 1, "size": "1024x1024"}
    assert output == body
    show = BY_NAME["create-image"].to_tool_result
    assert show is not None
    shown = show(output)
    assert shown.structured == {
        "created": 1,
        "data": [{"revised_prompt": "B"}],
        "size": "1024x1024",
    }
    assert len(shown.content) == 1


@pytest.mark.parametrize(
    "given", [{"prompt": "x" * 1001}, {"n": 0}, {"n": 11}, {"size": "300x300"}]
)
def test_limits_of_create_image(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as raised:
        run_action("create-image", {"prompt": "A cat", **given}, FakeModelCaller({}))
    assert raised.value.param in given


def refuse(status: int, error: Any, headers: dict[str, str] | None = None) -> Any:
    models = FakeModelCaller({"error": error} if error else b"<html>", status, headers or {})
    with pytest.raises((CallRefusedError, ProviderRefusedError)) as raised:
        run_action("chat-completion", {"messages": ASKED}, models)
    return raised.value


def test_error_of_the_provider_says_how_to_recover() -> None:
    error = refuse(
        401,
        {"message": "Rejected.", "code": "provider_rejected_credential", "param": None},
        {"x-headgate-error-source": "provider"},
    )
    described = describe_error(error)
    assert (described.type, described.code) == ("upstream", "provider_error")
    assert described.message == "Rejected."
    assert "setup_integration" in str(described.recovery)
    assert (error.status, error.data["error"]["message"]) == (401, "Rejected.")


def test_error_of_a_field_names_it_and_one_of_a_rate_says_when() -> None:
    assert refuse(400, {"message": "No.", "param": "messages"}).param == "messages"
    limited = refuse(429, {"message": "Slow."}, {"retry-after": "7"})
    assert limited.retry_after_seconds == 7
    assert limited.recovery == "Wait 7 seconds, then try again."
    assert "half a minute" in refuse(429, {"message": "Slow."}).recovery
    assert "no credit" in refuse(429, {"message": "Q", "code": "insufficient_quota"}).recovery
    assert "list-models" in refuse(404, {"message": "?", "code": "model_not_found"}).recovery
    assert refuse(502, None).message == "The provider answered 502 without a message."


def test_refusal_of_the_gateway_keeps_its_kind_and_code() -> None:
    error = refuse(
        402,
        {"message": "Spent.", "code": "budget_exceeded"},
        {"x-headgate-error-source": "gateway"},
    )
    assert isinstance(error, CallRefusedError)
    assert (error.kind, error.code) == (Kind.UNPAID, "budget_exceeded")
    assert "tell the owner of the key" in str(error.recovery)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (IdempotencyKeyInUseError.code, "make it again"),
        (StoredAnswerMissingError.code, "`repeat`"),
        (OutcomeUnknownError.code, "`repeat`"),
    ],
)
def test_repetition_that_has_no_answer_says_how_to_get_one(code: str, said: str) -> None:
    error = refuse(409, {"message": "No.", "code": code}, {"x-headgate-error-source": "gateway"})
    assert said in str(error.recovery)


@pytest.mark.parametrize("body", [b"not json", b"[1]", {"choices": "none"}])
def test_unreadable_answer_is_an_error(body: Any) -> None:
    with pytest.raises(UnreadableAnswerError):
        run_action("chat-completion", {"messages": ASKED}, FakeModelCaller(body))
