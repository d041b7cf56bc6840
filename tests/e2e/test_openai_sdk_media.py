"""The official Python SDK: embeddings, moderation, pictures and audio."""

from __future__ import annotations

import base64
from typing import Any, cast

import httpx2
import pytest

from headgate.llm.usage import Usage
from tests.fakes.simulated_gateway import SimulatedGateway

LABEL = "[Headgate simulator, not a model]"
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
TINY_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.mark.parametrize("given", ["one text", ["one", "another"], [1, 2, 3], [[1], [2, 3]]])
@pytest.mark.parametrize("form", [None, "float", "base64"])
def test_embeddings_in_every_form(sdk: SimulatedGateway, given: Any, form: Any) -> None:
    extra: dict[str, Any] = {} if form is None else {"encoding_format": form}
    # The SDK asks for base64 by default, so some forms are the same request.
    extra["extra_headers"] = {"x-headgate-cache": "bypass"}
    answer = sdk.client.embeddings.create(
        model="text-embedding-3-small", input=given, dimensions=64, **extra
    )
    vectors = [each.embedding for each in answer.data]
    assert len(vectors) == (2 if isinstance(given, list) and len(cast("Any", given)) == 2 else 1)
    if form == "base64":
        assert all(isinstance(each, str) for each in vectors)
    else:
        assert all(abs(sum(x * x for x in each) - 1) < 1e-5 for each in vectors)
    usage = Usage(input_tokens=answer.usage.prompt_tokens)
    cost = answer.usage.prompt_tokens * 20
    sdk.check("embeddings", pricing="priced", usage=usage, cost_nano=cost)


def test_moderation_is_free(sdk: SimulatedGateway) -> None:
    answer = sdk.client.moderations.create(
        model="omni-moderation-latest",
        input=[{"type": "text", "text": "violence"}, cast("Any", PICTURE)],
    )
    assert answer.results[0].flagged
    assert answer.results[0].categories.violence
    sdk.check_free("moderations")


def test_pictures_are_generated_at_the_price_of_their_tokens(sdk: SimulatedGateway) -> None:
    answer = sdk.client.images.generate(model="gpt-image-1", prompt="A sea otter", n=2)
    assert [base64.b64decode(each.b64_json or "")[:4] for each in answer.data or ()] == [
        b"\x89PNG"
    ] * 2
    check_pictures(sdk, answer.usage, images=2, pictures_in=0)


def test_generated_picture_is_kept_as_an_asset_and_served_byte_for_byte(
    sdk: SimulatedGateway,
) -> None:
    answer = sdk.client.images.generate(model="gpt-image-1", prompt="A sea otter")
    sdk.receipts.take_one()
    image = (answer.data or [])[0]
    body = {"content": image.b64_json, "slug": "otter.png", "alt": "A sea otter"}
    headers = {"authorization": f"Bearer {sdk.gateway.key}"}
    made = httpx2.post(f"{sdk.gateway.url}/api/assets", json=body, headers=headers)
    assert made.status_code == 201, made.text
    served = httpx2.get(made.json()["url"])
    assert served.content == base64.b64decode(image.b64_json or "")
    assert served.headers["content-type"] == "image/png"
    large = {"content_text": "x" * (5 << 20), "slug": "large.txt"}
    made = httpx2.post(f"{sdk.gateway.url}/api/assets", json=large, headers=headers)
    assert httpx2.get(made.json()["url"]).text == large["content_text"]
    large["content_text"] += "x" * (3 << 20)
    assert httpx2.post(f"{sdk.gateway.url}/api/assets", json=large).status_code == 401
    refused = httpx2.post(f"{sdk.gateway.url}/api/assets", json=large, headers=headers)
    assert refused.status_code == 413


def test_pictures_are_edited_at_the_price_of_their_tokens(sdk: SimulatedGateway) -> None:
    answer = sdk.client.images.edit(
        model="gpt-image-1",
        prompt="Add a hat",
        image=[("a.png", TINY_PNG), ("b.png", TINY_PNG)],
        mask=("m.png", TINY_PNG),
    )
    check_pictures(sdk, answer.usage, images=1, pictures_in=3)


def check_pictures(sdk: SimulatedGateway, usage: Any, *, images: int, pictures_in: int) -> None:
    assert usage.input_tokens_details.image_tokens == 85 * pictures_in
    expected = Usage(
        input_tokens=usage.input_tokens,
        input_image_tokens=usage.input_tokens_details.image_tokens,
        output_tokens=usage.output_tokens,
        output_image_tokens=usage.output_tokens,
        images=images,
    )
    details = usage.input_tokens_details
    cost = details.text_tokens * 5000 + details.image_tokens * 10_000 + usage.output_tokens * 40_000
    sdk.check("images", pricing="priced", usage=expected, cost_nano=cost)


def test_streamed_picture_costs_what_its_buffered_twin_costs(sdk: SimulatedGateway) -> None:
    wanted: dict[str, Any] = {"model": "gpt-image-1", "prompt": "A sea otter"}
    sdk.client.images.generate(**wanted)
    whole = sdk.receipts.take_one()
    events = list(sdk.client.images.generate(**wanted, stream=True, partial_images=2))
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    streamed = sdk.receipts.take_one()
    assert streamed.streamed
    assert (streamed.usage, streamed.cost_nano) == (whole.usage, whole.cost_nano)


def test_streamed_edit_costs_what_its_buffered_twin_costs(sdk: SimulatedGateway) -> None:
    wanted: dict[str, Any] = {
        "model": "gpt-image-1",
        "prompt": "A hat",
        "image": ("a.png", TINY_PNG),
    }
    sdk.client.images.edit(**wanted)
    whole = sdk.receipts.take_one()
    events = list(sdk.client.images.edit(**wanted, stream=True, partial_images=1))
    assert events[-1].type == "image_edit.completed"
    streamed = sdk.receipts.take_one()
    assert (streamed.usage, streamed.cost_nano) == (whole.usage, whole.cost_nano)


def test_variation_of_a_model_without_a_price_is_recorded_as_unpriced(
    sdk: SimulatedGateway,
) -> None:
    with pytest.deprecated_call():
        vary: Any = sdk.client.images.create_variation  # pyright: ignore[reportDeprecated]
        answer = vary(image=("a.png", TINY_PNG), n=2)
    assert len(answer.data or ()) == 2
    sdk.check("images", pricing="unpriced", usage=Usage(images=2))


def test_speech_arrives_while_it_is_made(sdk: SimulatedGateway) -> None:
    with sdk.client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input="Hello there", response_format="wav"
    ) as answer:
        assert answer.headers["content-type"] == "audio/wav"
        pieces = b"".join(answer.iter_bytes(1024))
    assert pieces.startswith(b"RIFF")
    assert len(pieces) == 8 + int.from_bytes(pieces[4:8], "little")
    sdk.check("audio.speech", pricing="priced", usage=Usage(characters=11), cost_nano=165_000)


def test_speech_as_events_tells_its_usage(sdk: SimulatedGateway) -> None:
    with sdk.client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input="Hello there", stream_format="sse"
    ) as answer:
        text = b"".join(answer.iter_bytes()).decode()
    assert text.count("speech.audio.done") == 1
    receipt = sdk.receipts.take_one()
    assert (receipt.endpoint, receipt.pricing, receipt.streamed) == ("audio.speech", "priced", True)
    assert receipt.usage is not None
    cost = receipt.usage.input_tokens * 600 + receipt.usage.output_tokens * 12_000
    assert receipt.cost_nano == cost


def test_transcription_is_priced_by_its_tokens(sdk: SimulatedGateway) -> None:
    wanted: dict[str, Any] = {"model": "gpt-4o-transcribe", "file": ("a.wav", b"\0" * 40_000)}
    answer = cast("Any", sdk.client.audio.transcriptions.create(**wanted))
    usage = answer.usage
    expected = Usage(
        input_tokens=usage.input_tokens,
        input_audio_tokens=usage.input_token_details.audio_tokens,
        output_tokens=usage.output_tokens,
    )
    cost = usage.input_token_details.audio_tokens * 6000 + usage.output_tokens * 10_000
    sdk.check("audio.transcriptions", pricing="priced", usage=expected, cost_nano=cost)
    events = list(sdk.client.audio.transcriptions.create(**wanted, stream=True))
    assert events[-1].type == "transcript.text.done"
    streamed = sdk.check("audio.transcriptions", pricing="priced", usage=expected, cost_nano=cost)
    assert streamed.streamed


@pytest.mark.parametrize("form", ["json", "verbose_json"])
def test_transcription_is_priced_by_its_duration(sdk: SimulatedGateway, form: Any) -> None:
    create: Any = sdk.client.audio.transcriptions.create
    answer = create(model="whisper-1", file=("a.wav", b"\0" * 40_000), response_format=form)
    assert answer.text.startswith(LABEL)
    usage = Usage(audio_milliseconds=3000)
    sdk.check("audio.transcriptions", pricing="priced", usage=usage, cost_nano=300_000)


@pytest.mark.parametrize("form", ["text", "srt", "vtt"])
def test_transcription_as_plain_text_is_recorded_as_unpriced(
    sdk: SimulatedGateway, form: Any
) -> None:
    create: Any = sdk.client.audio.transcriptions.create
    answer = create(model="whisper-1", file=("a.wav", b"\0" * 40_000), response_format=form)
    assert LABEL in str(answer)
    sdk.check_unpriced("audio.transcriptions")


def test_translation_is_priced_where_it_tells_its_duration(sdk: SimulatedGateway) -> None:
    with pytest.deprecated_call():
        translate: Any = sdk.client.audio.translations.create  # pyright: ignore[reportDeprecated]
        translate(model="whisper-1", file=("a.wav", b"\0" * 40_000), response_format="verbose_json")
    usage = Usage(audio_milliseconds=3000)
    sdk.check("audio.translations", pricing="priced", usage=usage, cost_nano=300_000)
