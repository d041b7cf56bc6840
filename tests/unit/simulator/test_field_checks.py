from __future__ import annotations

import importlib
import typing

import httpx2
import openai
import pytest

from headgate_simulator import fields

PARAMS = {
    "chat": "chat.completion_create_params:CompletionCreateParams",
    "responses": "responses.response_create_params:ResponseCreateParams",
    "responses.compact": "responses.response_compact_params:ResponseCompactParams",
    "responses.input_tokens": "responses.input_token_count_params:InputTokenCountParams",
    "embeddings": "embedding_create_params:EmbeddingCreateParams",
    "images.generations": "image_generate_params:ImageGenerateParams",
    "images.edits": "image_edit_params:ImageEditParams",
    "images.variations": "image_create_variation_params:ImageCreateVariationParams",
    "audio.speech": "audio.speech_create_params:SpeechCreateParams",
    "audio.transcriptions": "audio.transcription_create_params:TranscriptionCreateParams",
    "audio.translations": "audio.translation_create_params:TranslationCreateParams",
    "moderations": "moderation_create_params:ModerationCreateParams",
    "completions": "completion_create_params:CompletionCreateParams",
    "batches": "batch_create_params:BatchCreateParams",
    "vector_stores": "vector_store_create_params:VectorStoreCreateParams",
    "conversations": "conversations.conversation_create_params:ConversationCreateParams",
    "files": "file_create_params:FileCreateParams",
    "uploads": "upload_create_params:UploadCreateParams",
}
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("shape", PARAMS)
def test_every_field_of_the_official_sdk_is_known(shape: str) -> None:
    module, _, name = PARAMS[shape].partition(":")
    params = getattr(importlib.import_module(f"openai.types.{module}"), name)
    for variant in typing.get_args(params) or (params,):
        assert set(typing.get_type_hints(variant)) <= fields.KNOWN[shape]


def error(response: httpx2.Response) -> dict[str, str | None]:
    assert response.headers["x-headgate-simulator"] == "true"
    return response.json()["error"]


@pytest.mark.parametrize("leak", ["vmx", "headgate", "__vmx_passthrough"])
def test_unknown_field_is_refused_by_name(http: httpx2.Client, leak: str) -> None:
    response = http.post("/v1/chat/completions", json={**CHAT, leak: {}})
    assert response.status_code == 400
    assert error(response) == {
        "message": f"Unknown parameter: '{leak}'.",
        "type": "invalid_request_error",
        "param": leak,
        "code": "unknown_parameter",
    }


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {"model": "gpt-4o"}, "messages"),
        ("/v1/chat/completions", {"messages": []}, "model"),
        ("/v1/responses", {"model": "gpt-4o"}, "input"),
        ("/v1/responses", {"input": "x"}, "model"),
        ("/v1/embeddings", {"model": "text-embedding-3-small"}, "input"),
        ("/v1/images/edits", {"prompt": "x"}, "image"),
    ],
)
def test_missing_field_is_refused_by_name(
    http: httpx2.Client, path: str, body: dict[str, object], param: str
) -> None:
    told = error(http.post(path, json=body))
    assert (told["param"], told["code"]) == (param, "missing_required_parameter")


def test_broken_json_gets_the_words_of_openai(http: httpx2.Client) -> None:
    response = http.post("/v1/chat/completions", content=b'{"model": ')
    assert response.status_code == 400
    assert str(error(response)["message"]).startswith("We could not parse the JSON body")


def test_field_of_a_wrong_type_is_refused_not_a_crash(http: httpx2.Client) -> None:
    response = http.post("/v1/chat/completions", json={**CHAT, "max_tokens": "many"})
    assert (response.status_code, error(response)["code"]) == (400, "invalid_type")


def test_unknown_path_and_method_are_told_apart(http: httpx2.Client) -> None:
    response = http.post("/v1/x", json={})
    assert response.status_code == 404
    assert error(response) == {
        "message": "Invalid URL (POST /v1/x)",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    assert http.delete("/v1/embeddings").status_code == 405


def test_key_is_asked_for_and_checked(address: str) -> None:
    nothing = httpx2.get(f"{address}/v1/models")
    assert nothing.status_code == 401
    assert error(nothing)["code"] is None
    wrong = httpx2.get(f"{address}/v1/models", headers={"authorization": "Bearer abcdefghijklmnop"})
    assert error(wrong)["code"] == "invalid_api_key"
    assert "abcd********mnop" in str(error(wrong)["message"])


def test_nonexistent_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(
            model="nonexistent-9", messages=[{"role": "user", "content": "hi"}]
        )
    assert caught.value.code == "model_not_found"


def test_every_answer_carries_the_headers_of_openai_and_the_label(http: httpx2.Client) -> None:
    headers = http.post("/v1/chat/completions", json=CHAT).headers
    assert headers["x-headgate-simulator"] == "true"
    assert headers["openai-organization"] == "simulator"
    assert headers["openai-version"] == "2020-10-01"
    assert int(headers["openai-processing-ms"]) > 0
    assert headers["x-request-id"].startswith("req_sim_")
    assert headers["x-ratelimit-limit-requests"] == "10000"
    assert headers["x-ratelimit-remaining-tokens"] == str(2_000_000 - 7)
    assert headers["x-ratelimit-reset-requests"] == "6ms"


DRAWN = {"prompt": "a gate"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {**CHAT, "model": "o3-mini", "max_tokens": 9}, "max_tokens"),
        ("chat/completions", {**CHAT, "model": "o3-mini", "temperature": 1}, "temperature"),
        ("images/generations", {**DRAWN, "model": "gpt-image-1", "style": "vivid"}, "style"),
        ("images/generations", {**DRAWN, "model": "gpt-image-1", "quality": "hd"}, "quality"),
        ("images/generations", {**DRAWN, "model": "dall-e-3", "size": "256x256"}, "size"),
        ("images/generations", {**DRAWN, "model": "dall-e-3", "n": 2}, "n"),
    ],
)
def test_what_a_model_does_not_take_is_refused(
    http: httpx2.Client, path: str, body: dict[str, object], param: str
) -> None:
    response = http.post(f"/v1/{path}", json=body)
    assert (response.status_code, error(response)["param"]) == (400, param)
