"""Every mistake of a client or a provider ends in one clear error of OpenAI's shape."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Generator

import openai
import pytest

from tests.fakes import http_connection
from tests.fakes.gateway import PROVIDER_KEY
from tests.fakes.harness import JSON_TYPE, Harness, running_harness
from tests.fakes.http_connection import HttpResponse, check_error, encode_head, open_http_connection

CHAT = "/v1/chat/completions"
BODY = b'{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"Hi"}]}'
COMPLETION = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-5.4-mini",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}'
)
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    data = tmp_path_factory.mktemp("bad-input") / "data"
    limits = {"json_body_bytes_max": MEBIBYTE, "raw_body_bytes_max": 4 * MEBIBYTE}
    with running_harness(data, first_byte_seconds=2, retries_max=0, **limits) as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    return module_harness


def check_refused(harness: Harness, answered: HttpResponse, status: int, code: str) -> None:
    """Check that it is the gateway's own error, and nothing was sent or recorded."""
    check_error(answered, status, code, source="gateway")
    assert answered.headers["x-headgate-request-id"] == answered.headers["x-request-id"]
    assert harness.upstream.received == []
    assert harness.receipts.take() == []


# Who asks.


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": ""}, "missing_api_key"),
        ({"authorization": "Bearer "}, "missing_api_key"),
        ({"authorization": "Basic Zm9vOmJhcg=="}, "missing_api_key"),
        ({"authorization": "hg_live_without_a_scheme"}, "missing_api_key"),
        ({"authorization": "Bearer nonsense"}, "invalid_api_key"),
        ({"authorization": "Bearer " + "x" * 5000}, "invalid_api_key"),
        ({"authorization": "Bearer hg_live_000000000000_" + "0" * 49}, "invalid_api_key"),
        ({"authorization": f"Bearer {PROVIDER_KEY}"}, "invalid_api_key"),
        ({"x-api-key": "nonsense"}, "invalid_api_key"),
    ],
)
def test_request_without_a_good_key_is_refused(
    harness: Harness, headers: dict[str, str], code: str
) -> None:
    answered = http_connection.ask(
        harness.gateway.port, "POST", CHAT, {**JSON_TYPE, **headers}, BODY
    )
    check_refused(harness, answered, 401, code)


def test_key_in_a_header_of_another_name_is_no_key(harness: Harness) -> None:
    headers = {**JSON_TYPE, "x-authorization": f"Bearer {harness.gateway.key}"}
    answered = http_connection.ask(harness.gateway.port, "POST", CHAT, headers, BODY)
    check_refused(harness, answered, 401, "missing_api_key")


def test_key_is_taken_from_the_header_that_other_sdks_send(harness: Harness) -> None:
    harness.answer_with(lambda received: received.answer(COMPLETION))
    headers = {**JSON_TYPE, "x-api-key": harness.gateway.key}
    assert http_connection.ask(harness.gateway.port, "POST", CHAT, headers, BODY).body == COMPLETION


@pytest.mark.parametrize("change", ["shorter", "longer", "other case", "other end"])
def test_key_with_a_typing_error_is_refused(harness: Harness, change: str) -> None:
    key = harness.gateway.key
    end = "A" if key[-1] != "A" else "B"
    typed = {
        "shorter": key[:-1],
        "longer": key + "0",
        "other case": key.swapcase(),
        "other end": key[:-1] + end,
    }[change]
    answered = harness.post(CHAT, BODY, {"authorization": f"Bearer {typed}"})
    check_refused(harness, answered, 401, "invalid_api_key")
    assert typed not in answered.body.decode()


def test_expired_key_is_refused_as_expired(harness: Harness) -> None:
    created = harness.gateway.run("keys", "create", "--json", "--expires", expiring_soon())
    issued = json.loads(created.stdout)
    answered = poll(harness, issued["token"], until=lambda each: "expired" in each.body.decode())
    check_error(answered, 401, "invalid_api_key", source="gateway")
    assert issued["token"] not in answered.body.decode()


def test_revoked_key_is_refused_as_revoked_within_a_second(harness: Harness) -> None:
    issued = json.loads(harness.gateway.run("keys", "create", "--json").stdout)
    assert poll(harness, issued["token"], until=lambda each: each.status == 200).status == 200
    assert harness.gateway.run("keys", "revoke", issued["key"]["id"]).returncode == 0
    revoked_at = time.monotonic()
    answered = poll(harness, issued["token"], until=lambda each: each.status != 200)
    assert time.monotonic() - revoked_at < 1.0
    check_error(answered, 401, "invalid_api_key", source="gateway")
    assert "revoked" in answered.error["message"]


def expiring_soon() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6))


def poll(harness: Harness, token: str, *, until: Callable[[HttpResponse], bool]) -> HttpResponse:
    """Call with a key until the answer is as wanted, or a deadline has passed."""
    deadline = time.monotonic() + 15.0
    while True:
        answered = harness.ask("GET", "/v1/models", {"authorization": f"Bearer {token}"})
        if until(answered) or time.monotonic() > deadline:
            return answered


@pytest.mark.parametrize("target", [CHAT, "/v1/responses", "/v1/files", "/v1/anything"])
def test_management_key_calls_no_models(harness: Harness, target: str) -> None:
    headers = {"authorization": f"Bearer {harness.gateway.keys['admin_key']}"}
    answered = harness.post(target, BODY, headers)
    check_refused(harness, answered, 403, "management_key_cannot_call_models")


def test_sdk_raises_what_it_raises_for_openai(harness: Harness) -> None:
    client = harness.gateway.sdk(api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as raised:
        client.models.list()
    assert raised.value.code == "invalid_api_key"
    assert raised.value.request_id is not None


# What is asked.


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b'{"model":"m"} trailing', "invalid_json", None),
        (b"model=m", "invalid_json", None),
        (b'{"model":"\xff"}', "invalid_json", None),
        (b'{"messages":' * 20_000, "invalid_json", None),
        (b"[]", "invalid_type", None),
        (b"null", "invalid_type", None),
        (b'"text"', "invalid_type", None),
        (b'{"model":7}', "invalid_type", "model"),
        (b'{"model":"' + b"m" * 300 + b'"}', "invalid_request", "model"),
    ],
)
@pytest.mark.parametrize("target", [CHAT, "/v1/responses", "/v1/embeddings"])
def test_body_that_cannot_be_understood_is_refused(
    harness: Harness, target: str, body: bytes, code: str, param: str | None
) -> None:
    answered = harness.post(target, body)
    check_refused(harness, answered, 400, code)
    assert answered.error["type"] == "invalid_request_error"
    assert answered.error["param"] == param


@pytest.mark.parametrize(
    ("target", "field", "value"),
    [
        (CHAT, "stream", "yes"),
        (CHAT, "stream_options", []),
        (CHAT, "n", "two"),
        ("/v1/responses", "stream", "yes"),
        ("/v1/responses", "stream_options", []),
        ("/v1/responses", "background", "transparent"),
    ],
)
def test_field_of_another_type_is_refused_where_the_address_defines_it(
    harness: Harness, target: str, field: str, value: object
) -> None:
    answered = harness.post(target, json.dumps({"model": "m", field: value}).encode())
    check_refused(harness, answered, 400, "invalid_type")
    assert answered.error["param"] == field


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--x\r\n\r\n\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--y\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\ncontent-disposition: form-data\r\n\r\n\r\n"),
    ],
)
def test_form_that_cannot_be_understood_is_refused(
    harness: Harness, kind: str, body: bytes
) -> None:
    answered = harness.ask("POST", "/v1/audio/transcriptions", {"content-type": kind}, body)
    check_refused(harness, answered, 400, "invalid_form")


def test_body_with_too_large_content_length_is_refused_before_it_arrives(harness: Harness) -> None:
    headers = {**harness.authorization, **JSON_TYPE, "content-length": str(MEBIBYTE + 1)}
    with open_http_connection(harness.gateway.port) as waiting:
        waiting.send(encode_head("POST", CHAT, headers))
        answered = waiting.read("POST")
        check_refused(harness, answered, 413, "request_too_large")
        assert answered.headers["connection"] == "close"
        assert str(MEBIBYTE) in answered.error["message"]


@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
def test_chunked_body_is_refused_when_it_grows_too_large(harness: Harness, target: str) -> None:
    headers = {**harness.authorization, **JSON_TYPE, "transfer-encoding": "chunked"}
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with open_http_connection(harness.gateway.port) as waiting:
        waiting.send(encode_head("POST", target, headers))
        with contextlib.suppress(ConnectionError):
            waiting.send(chunk * 80)
        answered = waiting.read("POST")
    check_error(answered, 413, "request_too_large", source="gateway")
    assert answered.headers["connection"] == "close"


def test_large_upload_with_a_wrong_key_is_refused_for_its_key(harness: Harness) -> None:
    client = harness.gateway.sdk(api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        client.files.create(file=("a.jsonl", b"x" * (3 * MEBIBYTE)), purpose="batch")
    assert harness.upstream.received == []


def test_sender_with_expect_gets_100_continue(harness: Harness) -> None:
    harness.answer_with(lambda received: received.answer(COMPLETION))
    headers = {**harness.authorization, **JSON_TYPE, "expect": "100-continue"}
    with open_http_connection(harness.gateway.port) as waiting:
        waiting.send(encode_head("POST", CHAT, headers, BODY))
        assert waiting.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        waiting.send(BODY)
        assert waiting.read("POST").body == COMPLETION


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"authorization": "Bearer wrong"}, 401, "invalid_api_key"),
        ({"content-length": str(2 * MEBIBYTE)}, 413, "request_too_large"),
    ],
)
def test_sender_with_expect_is_refused_by_its_head(
    harness: Harness, change: dict[str, str], status: int, code: str
) -> None:
    headers = {"content-length": "10", **harness.authorization, "expect": "100-continue", **change}
    with open_http_connection(harness.gateway.port) as waiting:
        waiting.send(encode_head("POST", CHAT, headers))
        check_refused(harness, waiting.read("POST"), status, code)


# How it is asked.


@pytest.mark.parametrize(
    "head",
    [
        b"HELLO\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n",
        b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: ten\r\n\r\n",
        b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/files HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_bytes_that_are_not_http_are_refused_and_the_connection_closed(
    harness: Harness, head: bytes
) -> None:
    with open_http_connection(harness.gateway.port) as broken:
        broken.send(head)
        check_refused(harness, broken.read(), 400, "malformed_request")
        assert broken.is_closed()


def test_header_that_is_too_large_is_refused(harness: Harness) -> None:
    answered = harness.ask("GET", "/v1/models", {"x-large": "a" * 70_000})
    check_refused(harness, answered, 431, "headers_too_large")


def test_too_many_headers_are_refused(harness: Harness) -> None:
    answered = harness.ask("GET", "/v1/models", {f"x-{number}": "a" for number in range(150)})
    check_refused(harness, answered, 431, "headers_too_large")


def test_header_without_an_end_is_cut_off(harness: Harness) -> None:
    with open_http_connection(harness.gateway.port) as endless:
        endless.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-endless: ")
        with pytest.raises(ConnectionError):
            endless.send(b"a" * (64 * MEBIBYTE))
        check_refused(harness, endless.read(), 431, "headers_too_large")


def test_long_target_is_refused(harness: Harness) -> None:
    answered = harness.ask("GET", "/v1/models?after=" + "a" * 9000)
    check_refused(harness, answered, 414, "target_too_long")


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("DELETE", CHAT, {"GET", "POST"}),
        ("PUT", "/v1/embeddings", {"POST"}),
        ("GET", "/v1/moderations", {"POST"}),
        ("PATCH", "/v1/responses/resp_1", {"GET", "DELETE"}),
    ],
)
def test_unsupported_method_is_refused_with_the_supported_ones(
    harness: Harness, method: str, target: str, allowed: set[str]
) -> None:
    answered = harness.ask(method, target)
    check_refused(harness, answered, 405, "method_not_allowed")
    assert set(answered.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("value", ["", "-1", "10", "many", "1, 2"])
def test_number_of_retries_that_is_none_is_refused(harness: Harness, value: str) -> None:
    answered = harness.post(CHAT, BODY, {"x-headgate-retries": value})
    check_refused(harness, answered, 400, "invalid_retries_header")


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "M-SEARCH"])
def test_method_that_no_api_has_is_refused(harness: Harness, method: str) -> None:
    check_refused(harness, harness.ask(method, "/v1/new/address"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../secrets",
        "/v1/..",
        "/v1/./models",
        "/v1/files/../../x",
        "/v1/%2e%2e/secrets",
        "/v1/%2E./secrets",
        "/v1/.%2e/secrets",
        "/v1/files%2f..%2f..%2fx",
        "/v1/files/%252e%252e/x",
        "/v1/files/..%5c..%5cx",
        "/v1/files/a%00b",
        "/v1/files/a%0d%0ax:y",
        "/v1//chat/completions",
        "/v1/files//content",
        "/v1/models/",
        "/v1/",
        "/v1/chat%2Fcompletions",
        "/v1/chat/%63ompletions",
        "/v1/Chat/Completions",
        "/v1/chat;x/completions/..",
    ],
)
def test_path_that_could_be_read_in_two_ways_is_refused(harness: Harness, target: str) -> None:
    check_refused(harness, harness.ask("GET", target), 400, "invalid_path")


@pytest.mark.parametrize(
    "target",
    ["/chat/completions", "/v1", "//v1/chat/completions", "/V1/models", "/openai/v1/responses"],
)
def test_path_outside_v1_says_which_base_url_is_needed(harness: Harness, target: str) -> None:
    answered = harness.post(target, BODY)
    check_error(answered, 404, "unknown_url", source="gateway")
    assert "base URL that ends in /v1" in answered.error["message"]
    assert harness.upstream.received == []


@pytest.mark.parametrize("target", ["/", "/metrics", "/health/ready"])
def test_wrong_method_outside_v1_is_refused_in_the_same_shape(
    harness: Harness, target: str
) -> None:
    answered = harness.post(target, BODY)
    check_error(answered, 405, "method_not_allowed", source="gateway")
    assert answered.headers["allow"]


@pytest.mark.parametrize("target", ["/v1/realtime?model=gpt-realtime", "/v1/responses", "/ws"])
def test_websocket_is_refused_with_what_to_use_instead(harness: Harness, target: str) -> None:
    headers = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    answered = harness.ask("GET", target, headers)
    check_refused(harness, answered, 426, "websocket_unsupported")
    assert answered.headers["upgrade"] == "HTTP/1.1"
    assert "over HTTP" in answered.error["message"]
    assert answered.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1/realtime/client_secrets"),
        ("POST", "/v1/realtime/calls/call_1/hangup"),
        ("GET", "/v1/realtime"),
        ("POST", "/v1/chatkit/sessions"),
    ],
)
def test_endpoint_that_would_bypass_the_gateway_is_refused(
    harness: Harness, method: str, target: str
) -> None:
    answered = harness.ask(method, target, JSON_TYPE, b"{}" if method == "POST" else None)
    check_refused(harness, answered, 501, "unsupported_endpoint")
    assert "not available here" in answered.error["message"]


def test_address_of_the_providers_administration_is_closed_to_ordinary_keys(
    harness: Harness,
) -> None:
    answered = harness.ask("GET", "/v1/organization/admin_api_keys")
    check_refused(harness, answered, 403, "endpoint_out_of_scope")


def test_connection_is_kept_after_a_client_error(harness: Harness) -> None:
    harness.answer_with(lambda received: received.answer(COMPLETION))
    headers = {**harness.authorization, **JSON_TYPE}
    with open_http_connection(harness.gateway.port) as kept:
        assert kept.ask("POST", CHAT, {**headers, "authorization": "Bearer x"}, BODY).status == 401
        assert kept.ask("POST", CHAT, headers, b"{").status == 400
        assert kept.ask("DELETE", CHAT, headers).status == 405
        assert kept.ask("GET", "/v1/..", headers).status == 400
        assert kept.ask("POST", "/v1/chatkit/sessions", headers, b"{}").status == 501
        assert kept.ask("GET", "/nowhere").status == 404
        assert kept.ask("HEAD", "/v1/..", headers).body == b""
        assert kept.ask("POST", CHAT, headers, BODY).body == COMPLETION


def test_pipelined_requests_with_errors_are_answered_in_order(harness: Harness) -> None:
    harness.answer_with(lambda received: received.answer(received.target.encode()))
    heads = [encode_head("GET", f"/v1/files/{each}", harness.authorization) for each in "abc"]
    with open_http_connection(harness.gateway.port) as ahead:
        ahead.send(b"".join(heads) + encode_head("GET", "/health/live", None))
        bodies = [ahead.read().body for _ in range(4)]
    assert bodies == [b"/v1/files/a", b"/v1/files/b", b"/v1/files/c", b'{"status":"live"}']
