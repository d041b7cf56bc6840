"""POST /v1/audio/speech, transcriptions, translations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from headgate_simulator import content, fields, media, tokens
from headgate_simulator.answers import LABEL
from headgate_simulator.exchange import Call, Frame, Reply, Stream, invalid
from headgate_simulator.memory import Memory

BYTES_PER_SECOND = 16_000
"""What a second of any uploaded sound is taken to weigh."""
AUDIO_TOKENS_PER_SECOND = 10
_PIECE_BYTES = 4096


def speak(call: Call, _memory: Memory) -> Reply | Stream:
    """Silence of a fitting length."""
    body = call.body
    fields.check("audio.speech", body)
    kind = body.get("response_format") or "mp3"
    if kind not in media.SOUND_TYPES:
        raise invalid("response_format", f"Invalid value: '{kind}'.")
    data = media.sound(kind, body["input"])
    used = tokens.count(body["input"])
    if body.get("stream_format") == "sse":
        return Stream(_speech_frames(data, used), used)
    return Reply(data, media.SOUND_TYPES[kind], used)


def _speech_frames(data: bytes, used: int) -> Iterator[Frame]:
    for start in range(0, len(data), _PIECE_BYTES):
        audio = media.encode_base64(data[start : start + _PIECE_BYTES])
        yield None, {"type": "speech.audio.delta", "audio": audio}
    made = -(-len(data) // _PIECE_BYTES)
    usage = {"input_tokens": used, "output_tokens": made, "total_tokens": used + made}
    yield None, {"type": "speech.audio.done", "usage": usage}


def transcribe(call: Call, _memory: Memory) -> Reply | Stream:
    """A text that names the file, in the asked format."""
    fields.check("audio.transcriptions", call.body)
    return _listen(call, "transcribe")


def translate(call: Call, _memory: Memory) -> Reply | Stream:
    """As transcriptions, in English."""
    fields.check("audio.translations", call.body)
    return _listen(call, "translate")


def _listen(call: Call, task: str) -> Reply | Stream:
    upload = call.upload("file")
    heard = _Heard(call, task, upload.filename, len(upload.data))
    if call.body.get("stream") in (True, "true") and not call.model.startswith("whisper"):
        return Stream(heard.frames(), heard.tokens)
    kind = str(call.body.get("response_format") or "json")
    write = _FORMATS.get(kind)
    if write is None:
        raise invalid("response_format", f"Invalid value: '{kind}'.")
    content = write(heard)
    if isinstance(content, dict):
        return Reply(content, tokens=heard.tokens)
    return Reply(content.encode(), "text/plain; charset=utf-8", heard.tokens)


class _Heard:
    """What the simulator makes of a recording."""

    def __init__(self, call: Call, task: str, filename: str, size_bytes: int) -> None:
        self.task = task
        self.text = f"{LABEL} {task.capitalize()} of {filename}, {size_bytes} bytes."
        self.seconds = max(1, -(-size_bytes // BYTES_PER_SECOND))
        self.tokens = self.seconds * AUDIO_TOKENS_PER_SECOND
        self.by_duration = call.model.startswith("whisper")
        self.language = "english" if task == "translate" else call.body.get("language", "english")
        wanted = content.strings(call.body.get("timestamp_granularities"))
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


_FORMATS: dict[str, Callable[[_Heard], dict[str, Any] | str]] = {
    "json": _Heard.plain,
    "verbose_json": _Heard.verbose,
    "diarized_json": _Heard.diarized,
    "text": lambda heard: heard.text + "\n",
    "srt": _Heard.srt,
    "vtt": _Heard.vtt,
}
