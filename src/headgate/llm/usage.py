"""What a call used, in the units that prices are made of."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counts as the provider reported them; totals include their details.

    `input_tokens` is everything that went in (cached, written to a cache, audio and image tokens
    among them); `output_tokens` everything that came out (reasoning, audio and image tokens among
    them, rejected predictions too). A detail that was not reported is 0.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    audio_milliseconds: int = 0
    characters: int = 0
    images: int = 0
    tool_calls: dict[str, int] = {}


class Reading(msgspec.Struct):
    """What a meter learned from one answer. `usage` is None until the answer reported some.

    `model` is the id that served, `answer_id` the provider's id of the answer, `status` the
    answer's own state where it has one (`completed`, `incomplete`, `failed`, `queued`, ...),
    `error_code` an error that came in band under status 200 (text of the code or type).
    `output_bytes` counts the text that was delivered, for a stream that ends without usage.
    """

    usage: Usage | None = None
    model: str | None = None
    answer_id: str | None = None
    service_tier: str | None = None
    status: str | None = None
    error_code: str | None = None
    output_bytes: int = 0
