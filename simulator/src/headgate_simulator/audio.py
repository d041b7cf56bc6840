"""POST /v1/audio/speech, transcriptions, translations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from headgate_simulator import content, fields, media, tokens
from headgate_simulator.answers import LABEL
from headgate_simulator.memory import Memory
from headgate_simulator.messages import ApiRequest, ApiResponse, EventStream, Frame, invalid_value

BYTES_PER_SECOND = 16_000
"""Bytes that one second of any uploaded audio is taken to have."""
AUDIO_TOKENS_PER_SECOND = 10
_PIECE_BYTES = 4096


def speak(request: ApiRequest, _memory: Memory) -> ApiResponse | EventStream:
    """Return silence about as long as the text takes to say."""
    body = request.body
    fields.check("audio.speech", body)
    kind = body.get("response_format") or "mp3"
    if kind not in media.SOUND_TYPES:
        raise invalid_value("response_format", f"Invalid value: '{kind}'.")
    data = media.sound(kind, body["input"])
    used = tokens.count(body["input"])
    if body.get("stream_format") == "sse":
        return EventStream(_speech_frames(data, used), used)
    return ApiResponse(data, media.SOUND_TYPES[kind], used)


def _speech_frames(data: bytes, used: int) -> Iterator[Frame]:
    for start in range(0, len(data), _PIECE_BYTES):
        audio = media.encode_base64(data[start : start + _PIECE_BYTES])
        yield None, {"type": "speech.audio.delta", "audio": audio}
    made = -(-len(data) // _PIECE_BYTES)
    usage = {"input_tokens": used, "output_tokens": made, "total_tokens": used + made}
    yield None, {"type": "speech.audio.done", "usage": usage}


def transcribe(request: ApiRequest, _memory: Memory) -> ApiResponse | EventStream:
    """Return a text that names the file, in the requested format."""
    fields.check("audio.transcriptions", request.body)
    return _transcribe(request, "transcribe")


def translate(request: ApiRequest, _memory: Memory) -> ApiResponse | EventStream:
    """Return the same as a transcription, with English as its language."""
    fields.check("audio.translations", request.body)
    return _transcribe(request, "translate")


def _transcribe(request: ApiRequest, task: str) -> ApiResponse | EventStream:
    upload = request.upload("file")
    transcript = Transcript(request, task, upload.filename, len(upload.data))
    if request.body.get("stream") in (True, "true") and not request.model.startswith("whisper"):
        return EventStream(transcript.frames(), transcript.tokens)
    kind = str(request.body.get("response_format") or "json")
    write = _FORMATS.get(kind)
    if write is None:
        raise invalid_value("response_format", f"Invalid value: '{kind}'.")
    content = write(transcript)
    if isinstance(content, dict):
        return ApiResponse(content, tokens=transcript.tokens)
    return ApiResponse(content.encode(), "text/plain; charset=utf-8", transcript.tokens)


class Transcript:
    """Render the answer to one recording in each format."""

    def __init__(self, request: ApiRequest, task: str, filename: str, size_bytes: int) -> None:
        self.task = task
        self.text = f"{LABEL} {task.capitalize()} of {filename}, {size_bytes} bytes."
        self.seconds = max(1, -(-size_bytes // BYTES_PER_SECOND))
        self.tokens = self.seconds * AUDIO_TOKENS_PER_SECOND
        self.by_duration = request.model.startswith("whisper")
        self.language = (
            "english" if task == "translate" else request.body.get("language", "english")
        )
        wanted = content.strings(request.body.get("timestamp_granularities"))
        self.wants_words = "word" in wanted

    def usage(self) -> dict[str, Any]:
        if self.by_duration:
            return {"type": "duration", "seconds": self.seconds}
        made = tokens.count(self.text)
        return {
            "type": "tokens",
            "input_tokens": self.tokens,
            "input_token_details": {"audio_tokens": self.tokens, "text_tokens": 0},
            "output_tokens": made,
            "total_tokens": self.tokens + made,
        }

    def plain(self) -> dict[str, Any]:
        usage = {"usage": self.usage()} if self.task == "transcribe" else {}
        return {"text": self.text, **usage}

    def verbose(self) -> dict[str, Any]:
        segment: dict[str, Any] = {
            "id": 0,
            "seek": 0,
            "start": 0.0,
            "end": float(self.seconds),
            "text": self.text,
            "tokens": [],
            "temperature": 0.0,
            "avg_logprob": -0.1,
            "compression_ratio": 1.0,
            "no_speech_prob": 0.0,
        }
        words = {"words": self._words()} if self.wants_words else {}
        base = {"task": self.task, "language": self.language, "duration": float(self.seconds)}
        return {**base, **self.plain(), "segments": [segment], **words}

    def _words(self) -> list[dict[str, Any]]:
        words = self.text.split()
        step = self.seconds / len(words)
        return [
            {"word": word, "start": round(index * step, 3), "end": round((index + 1) * step, 3)}
            for index, word in enumerate(words)
        ]

    def diarized(self) -> dict[str, Any]:
        segment = {
            "id": "seg_0",
            "type": "transcript.text.segment",
            "speaker": "A",
            "start": 0.0,
            "end": float(self.seconds),
            "text": self.text,
        }
        base = {"task": self.task, "duration": float(self.seconds)}
        return {**base, **self.plain(), "segments": [segment]}

    def srt(self) -> str:
        return f"1\n00:00:00,000 --> {self._clock()},000\n{self.text}\n\n"

    def vtt(self) -> str:
        return f"WEBVTT\n\n00:00:00.000 --> {self._clock()}.000\n{self.text}\n\n"

    def _clock(self) -> str:
        minutes, seconds = divmod(self.seconds, 60)
        return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"

    def frames(self) -> Iterator[Frame]:
        for token in tokens.split(self.text):
            yield None, {"type": "transcript.text.delta", "delta": token}
        yield None, {"type": "transcript.text.done", "text": self.text, "usage": self.usage()}


_FORMATS: dict[str, Callable[[Transcript], dict[str, Any] | str]] = {
    "json": Transcript.plain,
    "verbose_json": Transcript.verbose,
    "diarized_json": Transcript.diarized,
    "text": lambda transcript: transcript.text + "\n",
    "srt": Transcript.srt,
    "vtt": Transcript.vtt,
}
