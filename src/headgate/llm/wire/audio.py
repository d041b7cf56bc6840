"""Meter audio: transcriptions and translations (JSON, text or events), speech."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.llm.answers import (
    DONE,
    AnswerFields,
    BodyMeter,
    apply_fields,
    as_text,
    check_event_error,
    decode_with,
    event_prefixes,
)
from headgate.llm.meter import Meter
from headgate.llm.usage import ParsedUsage, read_usage

_ENDS = frozenset({"transcript.text.done", "speech.audio.done"})
_BULK_TYPES = (b"speech.audio.delta",)


class _Transcript(AnswerFields):
    duration: Any = None


class _AudioEvent(AnswerFields):
    type: Any = None
    delta: Any = None


_transcript_decoder = msgspec.json.Decoder(_Transcript)
_event_decoder = msgspec.json.Decoder(_AudioEvent)


class AudioMeter(BodyMeter):
    """Read usage by tokens or by duration; else the duration of a verbose transcript."""

    bulk_prefixes = event_prefixes(_BULK_TYPES)

    def read_body(self, body: bytes, parsed: ParsedUsage) -> bool:
        """Read the usage of a JSON answer; sound and plain text have none."""
        transcript = decode_with(_transcript_decoder, body, _Transcript)
        if transcript is None:
            return False
        if transcript.usage is None and transcript.duration is not None:
            parsed.usage = read_usage({"type": "duration", "seconds": transcript.duration})
        apply_fields(transcript, parsed)
        return True

    def read_event(self, event: bytes, data: bytes, parsed: ParsedUsage) -> bool:
        """Read an event; the last one is `transcript.text.done` or `speech.audio.done`."""
        found = decode_with(_event_decoder, data, _AudioEvent)
        if found is None:
            return check_event_error(event, parsed) or data == DONE
        apply_fields(found, parsed)
        if isinstance(found.delta, str):
            parsed.output_bytes += len(found.delta.encode("utf-8", "replace"))
        kind = as_text(found.type) or event.decode("ascii", "replace")
        return kind in _ENDS or check_event_error(event, parsed)


METER: Meter = AudioMeter()
