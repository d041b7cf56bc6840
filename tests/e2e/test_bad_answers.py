"""Whatever a provider answers, its caller gets an answer or one clear error, and a receipt."""

from __future__ import annotations

import json
import time
from collections.abc import Generator

import pytest

from tests.fakes.gateway import PROVIDER_KEY, find_port
from tests.fakes.line import check_error
from tests.fakes.road import Road, running_road
from tests.fakes.upstream import Asked

CHAT = "/v1/chat/completions"
BODY = b'{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"Hi"}]}'
COMPLETION = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-5.4-mini",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}'
)


@pytest.fixture(scope="module")
def module_road(tmp_path_factory: pytest.TempPathFactory) -> Generator[Road]:
    data = tmp_path_factory.mktemp("bad-answers") / "data"
    with running_road(data, first_byte_seconds=2, retries_max=0) as running:
        yield running


@pytest.fixture
def road(module_road: Road) -> Road:
    module_road.renew()
    return module_road


def test_unknown_model_is_told_in_the_providers_own_words(road: Road) -> None:
    said = (
        b'{"error": {"message": "The model `gpt-9` does not exist", "type": "invalid_request_error"'
        b',"param":null, "code":"model_not_found", "novel": 1.50}}'
    )
    road.answer_with(lambda asked: asked.answer(said, status=404, headers={"x-request-id": "up1"}))
    answered = road.post(CHAT, {"model": "gpt-9", "messages": []})
    assert (answered.status, answered.body) == (404, said)
    assert answered.headers["x-headgate-error-source"] == "provider"
    assert answered.headers["x-request-id"] == "up1"
    receipt = road.receipts.take_one()
    assert (receipt.status, receipt.outcome, receipt.pricing) == (404, "upstream_error", "free")
    assert (receipt.error_code, receipt.upstream_request_id) == ("model_not_found", "up1")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html; charset=utf-8", b"<!doctype html><title>Sign in</title>"),
        ("application/json", b'{"id":"chatcmpl-1","choices":[{"mess'),
        ("application/json", b""),
        ("application/json", b"[]"),
        ("application/json", b"\xff\xfe"),
        ("application/json", b"null"),
    ],
)
@pytest.mark.parametrize("target", [CHAT, "/v1/responses", "/v1/embeddings"])
def test_garbage_with_status_200_becomes_an_error(
    road: Road, target: str, kind: str, body: bytes
) -> None:
    road.answer_with(lambda asked: asked.answer(body, headers={"content-type": kind}))
    answered = road.post(target, BODY)
    check_error(answered, 502, "provider_invalid_response", source="gateway")
    assert answered.headers["x-should-retry"] == "false"
    receipt = road.receipts.take_one()
    # The provider may have charged for it, so it is neither free nor forgotten (decision 17).
    assert (receipt.outcome, receipt.estimated, receipt.status) == ("unknown", True, 502)


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<html><h1>Bad Gateway</h1></html>"),
        ("application/json", b""),
        ("application/json", b'["odd"]'),
        ("text/event-stream", b"data: {}\n\n"),
    ],
)
def test_refusal_that_is_no_json_is_put_into_the_wires_shape(
    road: Road, status: int, kind: str, body: bytes
) -> None:
    headers = {"content-type": kind, "content-encoding": "br", "etag": '"x"'}
    road.answer_with(lambda asked: asked.answer(body, status=status, headers=headers))
    answered = road.post(CHAT, BODY)
    check_error(answered, status, "provider_error", source="provider")
    assert "content-encoding" not in answered.headers
    assert "etag" not in answered.headers
    assert road.receipts.take_one().pricing == "free"


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain"])
def test_provider_key_that_the_provider_repeats_is_removed(road: Road, kind: str) -> None:
    body = json.dumps({"error": {"message": f"Incorrect key: {PROVIDER_KEY}.", "code": "x"}})
    headers = {"content-type": kind}
    road.answer_with(lambda asked: asked.answer(body.encode(), status=401, headers=headers))
    answered = road.post(CHAT, BODY)
    assert answered.status == 401
    assert PROVIDER_KEY not in f"{answered.fields}{answered.body}"
    assert answered.error["message"] == "Incorrect key: [removed]."
    assert PROVIDER_KEY not in road.gateway.log.read_text()


def test_provider_that_breaks_off_ends_in_an_error_and_a_receipt(road: Road) -> None:
    road.answer_with(Asked.reset)
    answered = road.post(CHAT, BODY)
    check_error(answered, 502, "provider_invalid_response", source="gateway")
    assert road.receipts.take_one().outcome == "unknown"


def test_provider_that_is_down_is_told_and_costs_nothing(road: Road) -> None:
    added = road.gateway.run(
        *("credentials", "add", "openai", "--api-key-stdin", "--name", "down"),
        *("--base-url", f"http://127.0.0.1:{find_port()}/v1"),
        stdin=PROVIDER_KEY,
    )
    assert added.returncode == 0, added.stderr
    deadline = time.monotonic() + 1.0
    while (answered := road.post(CHAT, BODY, {"x-headgate-credential": "down"})).status != 502:
        assert time.monotonic() < deadline, answered.body
    check_error(answered, 502, "provider_unreachable", source="gateway")
    assert answered.headers["x-should-retry"] == "false"
    assert "127.0.0.1" not in answered.body.decode()
    receipt = road.receipts.take()[-1]
    assert (receipt.outcome, receipt.pricing, receipt.attempts) == ("upstream_error", "free", 1)


def test_provider_that_says_nothing_ends_in_a_timeout(road: Road) -> None:
    def say_nothing(asked: Asked) -> None:
        asked.wait_closed(10)

    road.answer_with(say_nothing)
    answered = road.post(CHAT, BODY)
    check_error(answered, 504, "provider_timeout", source="gateway")
    assert road.receipts.take_one().outcome == "unknown"


def test_answer_that_is_shorter_than_announced_is_an_error(road: Road) -> None:
    def answer(asked: Asked) -> None:
        asked.send_head(200, {"content-type": "application/json", "content-length": "500"})
        asked.send(COMPLETION[:100])
        asked.reset()

    road.answer_with(answer)
    check_error(road.post(CHAT, BODY), 502, "provider_invalid_response", source="gateway")


def test_cookies_and_addresses_of_the_provider_stay_behind(road: Road) -> None:
    headers = {"set-cookie": "a=b", "server": "nginx", "location": "http://other", "via": "proxy"}
    road.answer_with(lambda asked: asked.answer(COMPLETION, headers=headers))
    answered = road.post(CHAT, BODY)
    assert not {"set-cookie", "server", "location", "via"} & set(answered.headers)


@pytest.mark.parametrize(
    "body", [b'{"model":"m\\r\\nset-cookie: a=b"}', b'{"model":"\\u0000\\u00e9"}']
)
def test_model_cannot_write_headers(road: Road, body: bytes) -> None:
    answered = road.post(CHAT, body)
    assert "set-cookie" not in answered.headers
    assert answered.headers["x-headgate-model"] in ("m??set-cookie: a=b", "??")


@pytest.mark.parametrize(
    ("advice", "told"),
    [
        ({"retry-after": "7"}, {"retry-after": "7"}),
        ({"retry-after": "86400"}, {"retry-after": "60"}),
        ({"retry-after": "soon"}, {"retry-after": "60"}),
        ({"retry-after-ms": "1500.5"}, {"retry-after-ms": "1500.5"}),
        ({"retry-after-ms": "99999999"}, {"retry-after-ms": "60000"}),
    ],
)
def test_advice_to_wait_is_passed_on_up_to_a_minute(
    road: Road, advice: dict[str, str], told: dict[str, str]
) -> None:
    body = b'{"error":{"message":"Slow down","type":"requests","param":null,"code":"rate"}}'
    road.answer_with(lambda asked: asked.answer(body, status=429, headers=advice))
    answered = road.post(CHAT, BODY)
    assert answered.status == 429
    assert {n: v for n, v in answered.headers.items() if n.startswith("retry")} == told
