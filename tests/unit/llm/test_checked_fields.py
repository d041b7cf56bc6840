"""The checked fields have the types of the official SDK, each at its own endpoint."""

from __future__ import annotations

import types
import typing
from typing import Any, Literal, Union

import msgspec
import pytest
import typing_extensions
from openai.types import (
    completion_create_params,
    decision_create_params,
    embedding_create_params,
    image_create_variation_params,
    image_edit_params,
    image_generate_params,
    moderation_create_params,
    video_create_params,
)
from openai.types.audio import (
    speech_create_params,
    transcription_create_params,
    translation_create_params,
)
from openai.types.beta import assistant_create_params, thread_create_and_run_params
from openai.types.beta.threads import run_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.fine_tuning import job_create_params
from openai.types.responses import (
    input_token_count_params,
    response_compact_params,
    response_create_params,
)

from headgate.llm import form, request
from headgate.llm.endpoint import Body
from headgate.llm.providers.openai import PROVIDER
from headgate.llm.routes import RouteTable

ROUTES = RouteTable(PROVIDER.endpoints)
PARAMS: dict[str, tuple[Any, ...]] = {
    "/chat/completions": (
        chat_create_params.CompletionCreateParamsNonStreaming,
        chat_create_params.CompletionCreateParamsStreaming,
    ),
    "/completions": (
        completion_create_params.CompletionCreateParamsNonStreaming,
        completion_create_params.CompletionCreateParamsStreaming,
    ),
    "/responses": (
        response_create_params.ResponseCreateParamsNonStreaming,
        response_create_params.ResponseCreateParamsStreaming,
    ),
    "/responses/compact": (response_compact_params.ResponseCompactParams,),
    "/responses/input_tokens": (input_token_count_params.InputTokenCountParams,),
    "/embeddings": (embedding_create_params.EmbeddingCreateParams,),
    "/moderations": (moderation_create_params.ModerationCreateParams,),
    "/decisions": (decision_create_params.DecisionCreateParams,),
    "/images/generations": (
        image_generate_params.ImageGenerateParamsNonStreaming,
        image_generate_params.ImageGenerateParamsStreaming,
    ),
    "/images/edits": (
        image_edit_params.ImageEditParamsNonStreaming,
        image_edit_params.ImageEditParamsStreaming,
    ),
    "/images/variations": (image_create_variation_params.ImageCreateVariationParams,),
    "/audio/speech": (speech_create_params.SpeechCreateParams,),
    "/audio/transcriptions": (
        transcription_create_params.TranscriptionCreateParamsNonStreaming,
        transcription_create_params.TranscriptionCreateParamsStreaming,
    ),
    "/audio/translations": (translation_create_params.TranslationCreateParams,),
    "/fine_tuning/jobs": (job_create_params.JobCreateParams,),
    "/assistants": (assistant_create_params.AssistantCreateParams,),
    "/threads/runs": (
        thread_create_and_run_params.ThreadCreateAndRunParamsNonStreaming,
        thread_create_and_run_params.ThreadCreateAndRunParamsStreaming,
    ),
    "/threads/{id}/runs": (
        run_create_params.RunCreateParamsNonStreaming,
        run_create_params.RunCreateParamsStreaming,
    ),
    "/videos": (video_create_params.VideoCreateParams,),
}
SAMPLES: dict[type, object] = {bool: True, int: 7, float: 0.5, str: "auto", dict: {}, list: []}
WRONG: dict[type, bytes] = {bool: b'"auto"', int: b'"auto"', str: b"7", dict: b"7"}

FORM_TYPE = "multipart/form-data; boundary=b"

each_address = pytest.mark.parametrize("path", PARAMS)


def find_kinds(annotation: Any) -> set[type]:
    """Return the JSON types that a field of the SDK may have."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return {kind for each in arguments for kind in find_kinds(each)}
    if origin is Literal:
        return {type(each) for each in arguments}
    if typing_extensions.is_typeddict(annotation) or origin is dict:
        return {dict}
    if isinstance(annotation, type):
        return {annotation}
    return {list}


def read_sdk(path: str) -> dict[str, set[type]]:
    """Return the JSON types of each checked name, as the SDK sends them to this endpoint."""
    fields: dict[str, set[type]] = {}
    for params in PARAMS[path]:
        for name, annotation in typing_extensions.get_type_hints(params).items():
            if name in request.CHECKED:
                fields.setdefault(name, set()).update(find_kinds(annotation) - {type(None)})
    return fields


def decode(path: str, name: str, value: bytes) -> request.JsonRequest:
    checked = ROUTES.match("POST", path.replace("{id}", "x")).checked
    return request.decode(b'{"%b":%b}' % (name.encode(), value), checked=checked)


def test_every_address_whose_body_is_read_is_compared() -> None:
    read = {row.path for row in PROVIDER.endpoints if row.body in (Body.JSON, Body.FORM)}
    # Messages are not OpenAI's: `llm.convert` checks them.
    messages = {"/messages", "/messages/count_tokens"}
    assert read - set(PARAMS) == messages | {"/videos/edits", "/videos/extensions"}
    assert ROUTES.match("POST", "/videos/edits").checked.names == ("model",)


@each_address
def test_checked_field_has_the_type_of_the_sdk(path: str) -> None:
    sdk = read_sdk(path)
    checked = ROUTES.match("POST", path.replace("{id}", "x")).checked
    assert "model" in checked.names
    for name in checked.names:
        [kind] = sdk[name]
        decode(path, name, msgspec.json.encode(SAMPLES[kind]))
        with pytest.raises(request.InvalidTypeError) as caught:
            decode(path, name, WRONG[kind])
        assert caught.value.param == name


@each_address
def test_nothing_that_the_sdk_sends_is_refused(path: str) -> None:
    for name, kinds in read_sdk(path).items():
        for kind in kinds:
            decode(path, name, msgspec.json.encode(SAMPLES[kind]))


@each_address
@pytest.mark.parametrize("value", [b'"transparent"', b"7", b"true", b"{}", b"[1]", b"1e3"])
def test_undefined_field_of_an_endpoint_is_not_checked(path: str, value: bytes) -> None:
    checked = ROUTES.match("POST", path.replace("{id}", "x")).checked
    for name in set(request.CHECKED) - set(checked.names):
        found = decode(path, name, value)
        assert found == msgspec.structs.replace(decode(path, "x", b"1"), body=found.body)


FORM_PATHS = sorted(row.path for row in PROVIDER.endpoints if row.body is Body.FORM)


@pytest.mark.parametrize("name", ["stream", "n"])
@pytest.mark.parametrize("path", FORM_PATHS)
def test_field_of_a_form_is_checked_where_its_address_defines_it(path: str, name: str) -> None:
    checked = ROUTES.match("POST", path).checked
    part = '--b\r\ncontent-disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    body = (part % ("model", "m") + part % (name, "auto") + "--b--").encode()
    if name in checked.names:
        with pytest.raises(request.InvalidTypeError, match=f"'{name}'"):
            form.read_model(body, FORM_TYPE, checked=checked)
    else:
        assert form.read_model(body, FORM_TYPE, checked=checked) == "m"


def test_background_is_a_boolean_of_responses_and_a_text_of_images() -> None:
    assert decode("/responses", "background", b"true").background
    assert not decode("/images/generations", "background", b'"transparent"').background
    with pytest.raises(request.InvalidTypeError, match="'background': expected a boolean"):
        decode("/responses", "background", b'"transparent"')


def test_unknown_field_cannot_be_checked() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        request.CheckedFields("model", "nonsense")
