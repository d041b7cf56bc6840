"""Input tokens by OpenAI's published rules, with the examples that it gives."""

from __future__ import annotations

import base64
import struct
import time
from typing import Any

import pytest
from fpdf import FPDF

from headgate.kit.tokenizer import Tokenizer
from headgate.llm.documents import measure_document
from headgate.llm.pictures import find_rule, find_size
from headgate.llm.token_count import TokenCounter

WEATHER = {
    "type": "function",
    "name": "get_current_weather",
    "description": "Get the current weather in a given location",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {
                "type": "string",
                "description": "The city and state, e.g. San Francisco, CA",
            },
            "unit": {
                "type": "string",
                "description": "The unit of temperature to return",
                "enum": ["celsius", "fahrenheit"],
            },
        },
        "required": ["location"],
    },
}
SYSTEM = "You are a helpful assistant that can answer to questions about the weather."
QUESTION = "What's the weather like in San Francisco?"


def make_png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height)


def make_pdf(pages: int, text: str) -> bytes:
    pdf = FPDF()
    pdf.set_font("helvetica", size=12)
    for _ in range(pages):
        pdf.add_page()
        pdf.multi_cell(0, text=text)
    return bytes(pdf.output())


def make_data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def say(*content: dict[str, Any] | str, role: str = "user") -> dict[str, Any]:
    parts = [
        {"type": "input_text", "text": each} if isinstance(each, str) else each for each in content
    ]
    return {"type": "message", "role": role, "content": parts}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer()


def count(tokenizer: Tokenizer, model: str = "gpt-4o", **body: Any) -> int:
    return TokenCounter(model, tokenizer.count).count(body)


def test_cookbook_example_of_messages_and_tools(tokenizer: Tokenizer) -> None:
    """OpenAI's API counts 101 tokens for it."""
    items = [say(SYSTEM, role="system"), say(QUESTION)]
    assert count(tokenizer, input=items, tools=[WEATHER]) == 101
    developed = count(tokenizer, instructions=SYSTEM, input=[say(QUESTION)], tools=[WEATHER])
    assert developed == 101


def test_tools_that_are_called_and_their_results_count(tokenizer: Tokenizer) -> None:
    call = {"type": "function_call", "name": "get", "arguments": '{"a":1}'}
    output = {"type": "function_call_output", "call_id": "c", "output": "Sunny, 20 degrees"}
    alone = count(tokenizer, input=[say("x")])
    assert count(tokenizer, input=[say("x"), call]) == alone + 3 + 1 + 1 + 5
    assert count(tokenizer, input=[say("x"), output]) == alone + 3 + 1 + 5


def test_nested_schemas_count_as_flat_ones_do(tokenizer: Tokenizer) -> None:
    inner = {"type": "object", "properties": {"a": {"type": "string"}, "b": True}}
    tool: dict[str, Any] = {"type": "function", "name": "f"}
    tool["parameters"] = {"properties": {"x": inner}}
    nested = count(tokenizer, tools=[tool])
    listed = {"type": "array", "items": {"anyOf": [inner, 5]}}
    tool["parameters"] = {"properties": {"x": listed}}
    assert count(tokenizer, tools=[tool]) == nested
    tool["parameters"] = {"properties": {"x": {"type": "object"}}}
    assert count(tokenizer, tools=[tool]) < nested


@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [
        ("gpt-4o", (1_024, 1_024), "high", 765),
        ("gpt-4o", (2_048, 4_096), "high", 1_105),
        ("gpt-4o", (4_096, 8_192), "low", 85),
        ("gpt-4o", None, "auto", 1_445),
        ("gpt-4.1-mini", (1_024, 1_024), "auto", 1_659),
        ("gpt-4.1-mini", (1_800, 2_400), "auto", 2_353),
        ("gpt-4.1-mini", None, "low", 415),
        ("o4-mini", None, "high", 2_642),
        ("gpt-5.4", (4_096, 4_096), "auto", 2_500),
        ("gpt-5.4", (4_096, 4_096), "original", 10_000),
        ("gpt-5.5", (4_096, 2_048), "auto", 8_192),
        ("gpt-5.6", (4_096, 4_096), "auto", 16_384),
        ("gpt-5", (1_024, 1_024), "auto", 630),
        ("gpt-5.2", (1_024, 1_024), "auto", 1_024),
        ("acme/o3", (1_024, 1_024), "original", 675),
        ("gpt-5.4", (1, 100_000), "auto", 64),
        ("gpt-4o", (1, 1), "auto", 255),
    ],
)
def test_pictures_count_by_the_rule_of_the_model(
    model: str, size: tuple[int, int] | None, detail: str, tokens: int
) -> None:
    assert find_rule(model).count(size, detail) == tokens


@pytest.mark.parametrize(
    "data",
    [
        make_png(640, 480),
        b"GIF89a" + struct.pack("<HH", 640, 480),
        b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 640, 480),
        b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", 639 | 479 << 14) + b"\0" * 8,
        b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\x7f\x02\0\xdf\x01\0",
        b"\xff\xd8\xff\xe1\0\x08Exif\0\0\xff\xff\xc2\0\x11\x08" + struct.pack(">HH", 480, 640),
    ],
)
def test_size_is_read_from_the_first_bytes(data: bytes) -> None:
    assert find_size(data) == (640, 480)
    for end in range(len(data) - 1):
        assert find_size(data[:end]) in (None, (640, 480))


@pytest.mark.parametrize("data", [b"", b"BM6", make_png(0, 4), b"\xff\xd8" + b"\xff" * 999])
def test_picture_of_unknown_size_counts_as_the_largest(tokenizer: Tokenizer, data: bytes) -> None:
    assert find_size(data) is None
    picture = {"type": "input_image", "image_url": make_data_url("image/png", data)}
    assert count(tokenizer, input=[say(picture)]) - count(tokenizer, input=[say()]) == 1_445


def test_pictures_and_documents_count_wherever_they_are(tokenizer: Tokenizer) -> None:
    empty = count(tokenizer, input=[say()])
    png = make_png(1_024, 1_024)
    picture = {"type": "input_image", "image_url": make_data_url("image/png", png)}
    assert count(tokenizer, input=[say(picture)]) == empty + 765
    output = {"type": "function_call_output", "call_id": "c", "output": [picture]}
    assert count(tokenizer, input=[say(), output]) == empty + 4 + 765
    away = {"type": "input_image", "image_url": "https://a.example/x.png", "detail": "auto"}
    fetched = {"https://a.example/x.png": png}
    counter = TokenCounter("gpt-4o", tokenizer.count, fetched)
    assert counter.count({"input": [say(away)]}) == empty + 765
    assert count(tokenizer, input=[say(away)]) == empty + 1_445
    stored = {"type": "input_file", "file_id": "file_1"}
    assert count(tokenizer, input=[say(stored)]) == empty + 2_500


def test_document_counts_its_text_and_a_picture_of_each_page(tokenizer: Tokenizer) -> None:
    text = "The quick (brown) fox jumps over the lazy dog. " * 20
    data = make_pdf(3, text)
    size = measure_document(data)
    assert size.pages == 3
    assert size.characters == pytest.approx(3 * len(text), rel=0.02)
    file = {"type": "input_file", "filename": "a.pdf"}
    whole = file | {"file_data": make_data_url("application/pdf", data)}
    tokens = count(tokenizer, input=[say(whole)]) - count(tokenizer, input=[say()])
    assert tokens == 3 * 765 + -(-size.characters // 4) + tokenizer.count("a.pdf")
    plain = file | {"file_data": make_data_url("text/plain", b"hello world")}
    assert count(tokenizer, input=[say(plain)]) - count(tokenizer, input=[say()]) < 10


@pytest.mark.parametrize(
    "unit",
    [
        b"",
        b"stream\n",
        b"BT ",
        b"BT(",
        b"BT(\\",
        b"BT<0",
        b"(",
        b"BT ET ",
        b"/Type /",
        b"endstream ",
    ],
)
def test_garbled_document_is_one_page_and_takes_no_long_search(unit: bytes) -> None:
    """Measured in processor time and with much room: a megabyte takes about 20 ms."""
    begun = time.process_time()
    for end in (b"", b"ET"):
        data = b"%PDF-stream\n" + unit * (1_000_000 // max(1, len(unit))) + end
        assert measure_document(data).pages == 1
    assert time.process_time() - begun < 3.0


def test_reasoning_counts_in_its_own_turn(tokenizer: Tokenizer) -> None:
    reasoning = {"type": "reasoning", "encrypted_content": "x" * 500}
    alone = count(tokenizer, input=[say("x")])
    assert count(tokenizer, input=[reasoning, say("x")]) == alone
    assert count(tokenizer, input=[say("x"), reasoning]) == alone + 100


def test_text_that_no_model_takes_is_estimated() -> None:
    texts: list[str] = []
    counter = TokenCounter("gpt-4o", lambda text: len(texts) if texts.append(text) else 1)
    assert counter.count({"input": [say("a" * 3_999_000, "b" * 8_000)]}) > 2_000
    assert max(map(len, texts)) == 3_999_000
