"""Tokens of a request's input, estimated from its bytes: pictures, audio and files are no text."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from headgate.llm.estimate import estimate_input_tokens, find_picture_tokens
from tests.unit.llm.test_token_count import make_png

PICTURE = "data:image/png;base64," + "iVBORw0KGgo/" * 250_000
"""Three megabytes."""


def write(*parts: dict[str, Any], text: str = "") -> bytes:
    content = [{"type": "text", "text": text}, *parts]
    messages = [{"role": "user", "content": content}]
    return json.dumps({"model": "gpt-5.4", "messages": messages}).encode()


def test_text_is_a_token_for_four_bytes() -> None:
    assert estimate_input_tokens(b"x" * 10, None) == 3
    body = write(text="hello there " * 10_000)
    assert estimate_input_tokens(body, "gpt-5.4") == -(-len(body) // 4)
    small = write({"image_url": {"url": "data:image/png;base64," + "A" * 4_000}})
    assert estimate_input_tokens(small, "gpt-5.4") == -(-len(small) // 4)


@pytest.mark.parametrize(
    ("part", "model", "tokens"),
    [
        ({"image_url": {"url": PICTURE}}, "gpt-5.4", 2_500),
        ({"image_url": {"url": PICTURE, "detail": "low"}}, "gpt-5.4", 256),
        ({"detail": "low", "image_url": PICTURE}, "gpt-5.4", 256),
        ({"detail": "high", "image_url": PICTURE}, "gpt-5.4", 2_500),
        ({"image_url": PICTURE}, "gpt-4o-mini", 48_169),
        ({"image_url": PICTURE, "detail": "original"}, "gpt-5.4", 10_000),
        ({"image_url": PICTURE}, "acme/gpt-4.1-mini", 2_489),
        ({"b64_json": PICTURE.partition(",")[2]}, "gpt-5.4", 2_500),
        ({"input_audio": {"data": "A" * 400_000, "format": "wav"}}, "gpt-audio", 1_000),
        ({"input_audio": {"data": "data:audio/wav;base64," + "A" * 399_978}}, "gpt-audio", 1_000),
        ({"file": {"file_data": "A" * 400_000, "filename": "a.pdf"}}, "gpt-5.4", 10_000),
        ({"file_data": "data:application/pdf;base64," + "A" * 399_972}, "gpt-5.4", 10_000),
    ],
)
def test_picture_audio_and_file_are_not_estimated_as_text(
    part: dict[str, Any], model: str, tokens: int
) -> None:
    around = write(dict.fromkeys(part, ""))
    estimated = estimate_input_tokens(write(part, text="a word " * 6_000), model)
    words = (len("a word " * 6_000) + len(around)) // 4
    assert tokens + words <= estimated <= tokens + words + 30
    several = estimate_input_tokens(write(*[part] * 3), model)
    assert 3 * tokens <= several <= 3 * tokens + 120


def test_slashes_that_are_escaped_change_nothing() -> None:
    plain = write({"image_url": {"url": PICTURE}})
    assert estimate_input_tokens(plain.replace(b"/", b"\\/"), "gpt-5.4") <= 2_500 + 40
    assert estimate_input_tokens(plain, "gpt-5.4") <= 2_500 + 40


def test_picture_counts_by_its_size_where_it_is_told() -> None:
    png = base64.b64encode(make_png(1_024, 1_024)).decode() + "A" * 30_000
    for escaped in (png, png.replace("/", "\\/")):
        body = write({"image_url": {"url": f"data:image/png;base64,{escaped}"}})
        assert 1_024 <= estimate_input_tokens(body, "gpt-5.4") <= 1_024 + 40


def test_text_that_looks_like_a_mark_stays_text() -> None:
    body = write(text="see ;base64, and data: and image " * 2_000)
    assert estimate_input_tokens(body, "gpt-5.4") == -(-len(body) // 4)


@pytest.mark.parametrize(
    "beginning", ["data:image/png;base64,", "data:audio/wav;base64,", "A" * 64]
)
def test_text_that_begins_like_a_picture_or_audio_stays_text(beginning: str) -> None:
    body = write(text=beginning + "hello" * 20_000)
    assert estimate_input_tokens(body, "gpt-5.4") == -(-len(body) // 4)
    listed = json.dumps({"model": "m", "input": [beginning + "hello" * 20_000]}).encode()
    assert estimate_input_tokens(listed, "m") == -(-len(listed) // 4)


def test_other_models_have_the_plain_rule() -> None:
    assert find_picture_tokens(None) == find_picture_tokens("llama") == (85, 1_445)
    assert find_picture_tokens("gpt-5.5") == (256, 10_000)


@pytest.mark.parametrize(
    "body",
    [
        b'"' * 8_000_000,
        b";base64," * 1_000_000,
        b'"data:image/' * 700_000,
        (b'"data:image/' + b"a" * 1_023) * 8_000,
        b'"data:' + b"a" * 8_000_000 + b'"',
        (b'"data:image/png;base64,' + b"A" * 1_024) * 8_000,
    ],
)
def test_estimate_takes_few_searches_for_any_body(body: bytes) -> None:
    """Measured in processor time and with much room: 8 MB take about 40 ms."""
    begun = time.process_time()
    estimated = estimate_input_tokens(body, "gpt-5.4")
    assert time.process_time() - begun < 2.0
    assert 0 < estimated <= len(body)
