"""Pictures and audio that decode: one-colour PNGs, and silence in WAV, MP3 or raw samples."""

from __future__ import annotations

import base64
import struct
import zlib

from headgate_simulator import tokens

SAMPLES_PER_SECOND = 24_000
SOUND_SECONDS_MAX = 10.0
_SECONDS_PER_TOKEN = 0.1
# MPEG-1 layer III, 32 kbit/s, 44.1 kHz, mono; an empty frame is 26 ms of silence.
_MP3_FRAME = b"\xff\xfb\x10\xc4" + bytes(100)
_MP3_FRAME_SECONDS = 1152 / 44_100
SOUND_TYPES = {
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "pcm16": "audio/pcm",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
}


def encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png(width: int, height: int, rgb: bytes) -> bytes:
    """Return a picture of one colour, with one bit per pixel, hence small at any size."""
    row = b"\x00" + bytes((width + 7) // 8)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0)),
            _chunk(b"PLTE", rgb[:3]),
            _chunk(b"tEXt", b"Software\x00Headgate simulator"),
            _chunk(b"IDAT", zlib.compress(row * height, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def sound(kind: str, text: str) -> bytes:
    """Return silence as long as the text takes to say, at most 10 s. Kinds that need a codec (opus,
    aac, flac) get WAV bytes.
    """
    seconds = min(SOUND_SECONDS_MAX, tokens.count(text) * _SECONDS_PER_TOKEN)
    if kind == "mp3":
        return _MP3_FRAME * max(1, round(seconds / _MP3_FRAME_SECONDS))
    samples = bytes(2 * int(seconds * SAMPLES_PER_SECOND))
    return samples if kind in ("pcm", "pcm16") else _wav(samples)


def _wav(samples: bytes) -> bytes:
    rate = SAMPLES_PER_SECOND
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI", b"RIFF", len(body)) + body
