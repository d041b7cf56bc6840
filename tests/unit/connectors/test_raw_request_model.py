from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes
from typing import Any

import msgspec
import pytest

from headgate.connectors.model.errors import InvalidInputError
from headgate.connectors.model.raw_answer import (
    REDACTED,
    BinaryData,
    describe_answer,
    describe_request,
    is_secret,
    read_data,
)
from headgate.connectors.model.raw_request import (
    RawRequestInput,
    build_data,
    build_headers,
    build_parts,
    build_target,
    check_body,
)
from headgate.connectors.model.retries import RetryRules
from headgate.kit.form_body import write_form

PICTURE = b"\x89PNG\r\n\x1a\n\x00\xff"


def read(**given: Any) -> RawRequestInput:
    return msgspec.convert(given, RawRequestInput)


def pair(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def test_defaults_are_those_of_the_documents() -> None:
    given = read()
    assert (given.url, given.method, given.response_type) == ("/v1/models", "GET", "json")
    assert (given.retries_max, given.retry_delay, given.retry_all_errors) == (0, 0, False)
    assert (given.uses_backoff, given.debug_request, given.timeout) == (False, False, None)


@pytest.mark.parametrize(
    ("url", "query", "target"),
    [
        ("/v1/models", [], "/v1/models"),
        (" /v1/models ", [], "/v1/models"),
        ("/v1/files?purpose=vision", [("limit", 2)], "/v1/files?purpose=vision&limit=2"),
        ("/v1/files", [("after", "a b&c=d"), ("x", True)], "/v1/files?after=a%20b%26c%3Dd&x=true"),
        ("/v1/files?", [], "/v1/files"),
        ("/v1/files/Änderung 1", [], "/v1/files/%C3%84nderung%201"),
        ("/v1/files/a%20b?q=1%2F2", [], "/v1/files/a%20b?q=1%2F2"),
        ("/v1/x?include[]=a&include[]=b", [], "/v1/x?include%5B%5D=a&include%5B%5D=b"),
    ],
)
def test_target_is_the_path_with_both_queries(
    url: str, query: list[tuple[str, Any]], target: str
) -> None:
    given = read(url=url, queryParams=[pair(*each) for each in query])
    assert build_target(given.url, given.query_parameters) == target


@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://evil.example/v1/models",
            "https://api.openai.com/v1/models",
            "//evil.example/v1",
        ),
        *("http:/v1/models", "v1/models", "", "/\\evil.example/v1/x", "/v1/models#x", "/models"),
        *("/v1/", "/v1/a\r\nhost: evil.example", "/v1/a\x00", "/v2/models", "@evil.example/v1/x"),
    ],
)
def test_anything_but_a_path_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        build_target(url, ())
    assert caught.value.param == "url"


def test_headers_of_the_connection_win_whatever_their_case() -> None:
    given = read(
        headers=[
            *(pair("AUTHORIZATION", "Bearer sk-mine"), pair("X-Api-Key", "mine")),
            *(pair("Cookie", "a=b"), pair("Host", "evil.example"), pair("Content-Length", 7)),
            *(pair("x-headgate-credential", "other"), pair("X-Headgate-Project", "other")),
            *(pair("X-Forwarded-For", "1.2.3.4"), pair("x-headgate-metadata", "a=b")),
            *(pair("OpenAI-Beta", "assistants=v2"), pair("openai-beta", "assistants=v3")),
        ]
    )
    headers, overridden = build_headers(given.headers)
    assert headers == {"x-headgate-metadata": "a=b", "openai-beta": "assistants=v3"}
    assert len(overridden) == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a b", "x"),
        ("a:b", "x"),
        ("ä", "x"),
        ("x-a", "x\r\ny: z"),
        ("x-a", "\u0416"),
        ("x-a", "\0"),
    ],
)
def test_header_that_could_break_out_of_its_line_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        build_headers(read(headers=[pair(name, value)]).headers)
    assert caught.value.param == "headers"


@pytest.mark.parametrize(
    ("data", "body", "content_type"),
    [
        ({"a": 1}, b'{"a":1}', "application/json"),
        ([1, None], b"[1,null]", "application/json"),
        (0, b"0", "application/json"),
        ('{"a": 1}', b'{"a": 1}', "application/json"),
        ("a=b&c", b"a=b&c", "text/plain; charset=utf-8"),
        ("", b"", ""),
        (None, b"", ""),
    ],
)
def test_data_is_json_or_text(data: object, body: bytes, content_type: str) -> None:
    assert build_data(data) == (body, content_type)


def test_form_has_fields_and_files_with_given_and_default_names() -> None:
    given = read(
        formData=[pair("purpose", "vision"), pair("n", 2)],
        fileData=[pair("file", "text"), pair("mask", {"data": "eA=="})],
        fileDataFileNames=[pair("mask", 'm"1.png')],
    )
    check_body(given)
    parts = build_parts(given, [("file", b"text", None), ("mask", PICTURE, None)])
    body = write_form(parts, "cut")
    parsed = message_from_bytes(b'content-type: multipart/form-data; boundary="cut"\r\n\r\n' + body)
    found = [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get_content_type() if part["content-type"] else None,
            part.get_payload(decode=True),
        )
        for part in parsed.walk()
        if not part.is_multipart()
    ]
    assert found == [
        ("purpose", None, None, b"vision"),
        ("n", None, None, b"2"),
        ("file", "file", "application/octet-stream", b"text"),
        ("mask", "m%221.png", "image/png", PICTURE),
    ]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"data": {}, "formData": [pair("a", "b")]}, "data"),
        ({"data": "x", "fileData": [pair("a", "b")]}, "data"),
        (
            {"fileData": [pair("a", "b")], "fileDataFileNames": [pair("b", "c")]},
            "fileDataFileNames",
        ),
    ],
)
def test_bodies_that_contradict_each_other_are_refused(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_body(read(**given))
    assert caught.value.param == param


def test_form_has_a_limit() -> None:
    with pytest.raises(InvalidInputError) as caught:
        build_parts(read(), [("a", bytes(17 << 20), None), ("b", bytes(16 << 20), None)])
    assert caught.value.param == "fileData"


@pytest.mark.parametrize(
    ("response_type", "body", "data"),
    [
        ("json", b'{"a": [1]}', {"a": [1]}),
        ("json", b"no json", "no json"),
        ("json", b"", None),
        ("json", PICTURE, PICTURE.decode("utf-8", "replace")),
        ("text", b'{"a": 1}', '{"a": 1}'),
        ("text", PICTURE, PICTURE.decode("utf-8", "replace")),
        ("document", b"<p>", "<p>"),
        ("arraybuffer", PICTURE, BinaryData(PICTURE, "application/octet-stream", len(PICTURE))),
        ("arraybuffer", b"", BinaryData(b"", "application/octet-stream", 0)),
    ],
)
def test_answer_is_read_in_the_type_that_was_asked(
    response_type: str, body: bytes, data: object
) -> None:
    assert read_data(response_type, {}, body) == data


def test_text_is_read_in_its_charset_and_bytes_keep_their_type() -> None:
    headers = {"content-type": 'text/plain; charset="latin-1"'}
    assert read_data("text", headers, "ä".encode("latin-1")) == "ä"
    assert read_data("text", {"content-type": "text/plain; charset=none"}, b"a") == "a"
    found = read_data("arraybuffer", {"content-type": "image/png"}, PICTURE)
    assert msgspec.to_builtins(found) == {
        "base64": "iVBORw0KGgoA/w==",
        "contentType": "image/png",
        "size": 10,
    }


def draw_half() -> float:
    return 0.5


@pytest.mark.parametrize(
    ("status", "code", "usually", "on_wish"),
    [
        (500, "", True, True),
        (503, "overloaded", True, True),
        (502, "provider_unreachable", True, True),
        (504, "provider_timeout", False, True),
        (429, "rate_limit_exceeded", False, True),
        (404, "", False, True),
        (302, "", False, True),
        (200, "", False, False),
    ],
)
def test_which_failures_are_tried_again(
    status: int, code: str, usually: bool, on_wish: bool
) -> None:
    for retries_all, expected in ((False, usually), (True, on_wish)):
        assert RetryRules(3, 0, retries_all, False).applies_to(status, code) is expected


@pytest.mark.parametrize(
    ("rules", "advised", "draw", "waits"),
    [
        (RetryRules(3, 0.5, False, False), None, draw_half, [0.5, 0.5, 0.5]),
        (RetryRules(3, 0.5, False, False), 2.0, draw_half, [2.0, 2.0, 2.0]),
        (RetryRules(3, 0.5, False, False), 0.1, draw_half, [0.5, 0.5, 0.5]),
        (RetryRules(3, 9.0, False, True), None, lambda: 0.0, [0.2, 0.4, 0.8]),
        (RetryRules(3, 9.0, False, True), None, lambda: 1.0, [0.24, 0.48, 0.96]),
        (RetryRules(3, 9.0, False, True), 0.5, draw_half, [0.5, 0.5, 0.88]),
    ],
)
def test_waits_are_constant_or_grow_and_the_longer_advice_wins(
    rules: RetryRules, advised: float | None, draw: Callable[[], float], waits: list[float]
) -> None:
    found = [rules.compute_wait(retry, advised, draw) for retry in (1, 2, 3)]
    assert found == pytest.approx(waits)


def test_description_has_method_url_status_and_sizes_and_no_secret() -> None:
    secret = "plantedSecret0123456789"
    headers = {"authorization": secret, "x-service-key": secret, "x-a": f"Bearer {secret}"}
    shown = describe_request(
        "POST",
        f"/v1/files?api_key={secret}&limit=2",
        {**headers, "content-type": "application/json"},
        msgspec.json.encode({"password": secret, "max_tokens": 7, "a": [{"token": secret}]}),
        timeout_seconds=1.5,
    )
    answer = describe_answer(404, {"set-cookie": secret}, f"sk-proj-{secret}".encode())
    assert secret not in repr((shown, answer))
    assert (shown["method"], shown["timeout"]) == ("POST", 1500)
    assert shown["url"] == f"/v1/files?api_key={REDACTED}&limit=2"
    assert shown["data"]["max_tokens"] == 7
    assert (answer["status"], answer["statusText"]) == (404, "Not Found")
    assert describe_answer(599, {}, PICTURE)["data"] == "<data (10 bytes)>"
    deep = b'{"a":' * 900 + b"1" + b"}" * 900
    assert len(str(describe_answer(200, {}, deep)["data"])) < 1_000
    assert describe_answer(200, {}, bytes(10_001))["data"] == "<data (10001 bytes)>"


@pytest.mark.parametrize("name", ["prompt_tokens", "max_tokens", "x-ratelimit-limit-tokens", "key"])
def test_names_of_counts_are_no_names_of_secrets(name: str) -> None:
    assert is_secret(name) is (name == "key")
