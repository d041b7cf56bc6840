from __future__ import annotations

import base64
import io
import math
import struct
import wave
import zlib
from typing import Any

import openai
import pytest

SOUND = ("talk.wav", b"RIFF" + bytes(40_000), "audio/wav")
PICTURE = ("in.png", b"\x89PNG", "image/png")


def open_png(data: bytes) -> tuple[int, int]:
    """The size of a picture, after its checksums and pixels were checked."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, dict[bytes, bytes]()
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + content)
        chunks[kind] = content
        at += length + 12
    width, height = struct.unpack_from(">II", chunks[b"IHDR"])
    assert len(zlib.decompress(chunks[b"IDAT"])) == height * (1 + (width + 7) // 8)
    return width, height


def test_generated_picture_has_the_requested_size_and_usage(client: openai.OpenAI) -> None:
    made = client.images.generate(model="gpt-image-1", prompt="a gate", size="1536x1024", n=2)
    assert made.data
    assert made.usage
    assert [open_png(base64.b64decode(each.b64_json or "")) for each in made.data] == [
        (1536, 1024)
    ] * 2
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens


def test_dall_e_answers_with_a_url_that_opens(client: openai.OpenAI) -> None:
    made = client.images.generate(model="dall-e-3", prompt="a gate")
    assert made.data
    url = made.data[0].url or ""
    assert open_png(base64.b64decode(url.removeprefix("data:image/png;base64,"))) == (1024, 1024)
    assert made.usage is None


def test_pictures_stream_with_partial_ones(client: openai.OpenAI) -> None:
    stream = client.images.generate(
        model="gpt-image-1", prompt="a gate", stream=True, partial_images=2
    )
    kinds = [event.type for event in stream]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    edited = client.images.edit(model="gpt-image-1", prompt="x", image=PICTURE, stream=True)
    assert [event.type for event in edited] == ["image_edit.completed"]


def test_edits_and_variations_take_files(client: openai.OpenAI) -> None:
    edited = client.images.edit(model="gpt-image-1", prompt="x", image=[PICTURE, PICTURE])
    assert edited.usage is not None
    assert edited.usage.input_tokens_details.image_tokens == 170
    with pytest.deprecated_call():
        varied = client.images.create_variation(  # pyright: ignore[reportDeprecated]
            image=PICTURE, response_format="b64_json"
        )
    assert varied.data
    assert varied.data[0].b64_json


def test_speech_is_audio(client: openai.OpenAI) -> None:
    def speak(kind: Any) -> bytes:
        spoken = client.audio.speech.create(
            model="tts-1", voice="alloy", input="hello there", response_format=kind
        )
        return spoken.content

    with wave.open(io.BytesIO(speak("wav"))) as sound:
        assert sound.getframerate() == 24_000
        assert sound.getnframes() > 0
    assert speak("mp3").startswith(b"\xff\xfb")
    assert len(speak("pcm")) % 2 == 0


def test_speech_streams_as_events(client: openai.OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input="hello", stream_format="sse"
    ) as response:
        lines = [line for line in response.iter_lines() if line]
    assert "speech.audio.delta" in lines[0]
    assert "speech.audio.done" in lines[-1]


def test_transcription_names_the_file_and_counts_tokens(client: openai.OpenAI) -> None:
    heard = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND)
    assert "talk.wav" in heard.text
    assert heard.usage is not None
    assert heard.usage.type == "tokens"
    assert heard.usage.total_tokens == heard.usage.input_tokens + heard.usage.output_tokens


def test_transcription_in_every_format(client: openai.OpenAI) -> None:
    def hear(kind: Any) -> Any:
        listen: Any = client.audio.transcriptions.create
        return listen(
            model="whisper-1", file=SOUND, response_format=kind, timestamp_granularities=["word"]
        )

    verbose = hear("verbose_json")
    assert verbose.duration == 3
    assert verbose.words[-1].end == 3
    assert verbose.usage.seconds == 3
    assert "talk.wav" in hear("text")
    assert hear("srt").startswith("1\n00:00:00,000 --> 00:00:03,000\n")
    assert hear("vtt").startswith("WEBVTT\n\n")


def test_transcription_streams_the_same_text(client: openai.OpenAI) -> None:
    model = "gpt-4o-transcribe"
    heard = client.audio.transcriptions.create(model=model, file=SOUND)
    events = list(client.audio.transcriptions.create(model=model, file=SOUND, stream=True))
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert "".join(deltas) == heard.text
    last = events[-1]
    assert last.type == "transcript.text.done"
    assert last.usage is not None
    assert last.usage.to_dict() == heard.to_dict()["usage"]


def test_translation_answers(client: openai.OpenAI) -> None:
    with pytest.deprecated_call():
        heard = client.audio.translations.create(  # pyright: ignore[reportDeprecated]
            model="whisper-1", file=SOUND
        )
    assert "talk.wav" in heard.text


def test_embeddings_are_of_length_one_and_depend_on_the_text_alone(client: openai.OpenAI) -> None:
    def embed(**extra: Any) -> list[list[float]]:
        extra.setdefault("model", "text-embedding-3-small")
        made = client.embeddings.create(**extra)
        assert made.usage.total_tokens == made.usage.prompt_tokens > 0
        return [each.embedding for each in made.data]

    (alone,) = embed(input="gate", encoding_format="float")
    other, again = embed(input=["door", "gate"], encoding_format="float")
    assert len(alone) == 1536
    assert math.isclose(math.hypot(*alone), 1)
    assert alone == again != other
    packed = embed(input="gate")[0]
    assert packed == pytest.approx(alone, rel=1e-6)
    assert len(embed(input=[1, 2, 3], dimensions=8)[0]) == 8
    assert len(embed(input=[[1, 2], [3]], model="text-embedding-3-large")[1]) == 3072
    with pytest.raises(openai.BadRequestError):
        embed(input="")
