"""Refusals of a provider, in its own words where these are the wire's.

Answers that break off or make no sense are in test_fault_matrix.py.
"""

from __future__ import annotations

import json
from collections.abc import Generator

import pytest

from tests.fakes.gateway import PROVIDER_KEY
from tests.fakes.harness import Harness, running_harness
from tests.fakes.http_connection import check_error

CHAT = "/v1/chat/completions"
BODY = b'{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"Hi"}]}'


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    data = tmp_path_factory.mktemp("bad-answers") / "data"
    with running_harness(data, first_byte_seconds=2, retries_max=0) as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    return module_harness


def test_unknown_model_error_is_the_providers_own(harness: Harness) -> None:
    said = (
        b'{"error": {"message": "The model `gpt-9` does not exist", "type": "invalid_request_error"'
        b',"param":null, "code":"model_not_found", "novel": 1.50}}'
    )
    harness.answer_with(
        lambda received: received.answer(said, status=404, headers={"x-request-id": "up1"})
    )
    answered = harness.post(CHAT, {"model": "gpt-9", "messages": []})
    assert (answered.status, answered.body) == (404, said)
    assert answered.headers["x-headgate-error-source"] == "provider"
    assert answered.headers["x-request-id"] == "up1"
    receipt = harness.receipts.take_one()
    assert (receipt.status, receipt.outcome, receipt.pricing) == (404, "upstream_error", "free")
    assert (receipt.error_code, receipt.upstream_request_id) == ("model_not_found", "up1")


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
    harness: Harness, status: int, kind: str, body: bytes
) -> None:
    headers = {"content-type": kind, "content-encoding": "br", "etag": '"x"'}
    harness.answer_with(lambda received: received.answer(body, status=status, headers=headers))
    answered = harness.post(CHAT, BODY)
    code = "provider_rejected_credential" if status == 403 else "provider_error"
    check_error(answered, status, code, source="provider")
    assert "content-encoding" not in answered.headers
    assert "etag" not in answered.headers
    assert harness.receipts.take_one().pricing == "free"


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain"])
def test_provider_key_that_the_provider_repeats_is_removed(harness: Harness, kind: str) -> None:
    body = json.dumps({"error": {"message": f"Incorrect key: {PROVIDER_KEY}.", "code": "x"}})
    headers = {"content-type": kind}
    harness.answer_with(
        lambda received: received.answer(body.encode(), status=401, headers=headers)
    )
    answered = harness.post(CHAT, BODY)
    assert answered.status == 401
    assert PROVIDER_KEY not in f"{answered.fields}{answered.body}"
    assert answered.error["message"].endswith("It answered 401 (x): Incorrect key: [removed].")
    assert PROVIDER_KEY not in harness.gateway.log.read_text()


@pytest.mark.parametrize(("status", "kind"), [(401, "invalid_request_error"), (403, "")])
def test_refusal_of_the_credential_is_not_taken_for_one_of_the_callers_key(
    harness: Harness, status: int, kind: str
) -> None:
    said = {"message": "Incorrect API key provided.", "type": kind, "code": "invalid_api_key"}
    body = json.dumps({"error": said}).encode()
    harness.answer_with(
        lambda received: received.answer(body, status=status, headers={"etag": '"x"'})
    )
    answered = harness.post(CHAT, BODY)
    check_error(answered, status, "provider_rejected_credential", source="provider")
    assert "not your key" in answered.error["message"]
    assert "(invalid_api_key): Incorrect API key provided." in answered.error["message"]
    assert answered.error["type"] == (kind or "upstream_error")
    assert "etag" not in answered.headers
    assert harness.receipts.take_one().error_code == "provider_rejected_credential"
    refused = harness.post(CHAT, BODY, {"authorization": "Bearer hg_live_0000"})
    check_error(refused, 401, "invalid_api_key", source="gateway")


@pytest.mark.parametrize(
    "body", [b'{"model":"m\\r\\nset-cookie: a=b"}', b'{"model":"\\u0000\\u00e9"}']
)
def test_model_cannot_write_headers(harness: Harness, body: bytes) -> None:
    answered = harness.post(CHAT, body)
    assert "set-cookie" not in answered.headers
    assert answered.headers["x-headgate-model"] in ("m??set-cookie: a=b", "??")


@pytest.mark.parametrize(
    ("advice", "told"),
    [
        ({"retry-after": "7"}, {"retry-after": "7"}),
        ({"retry-after": "86400"}, {"retry-after": "86400"}),
        ({"retry-after": "soon"}, {"retry-after": "60"}),
        ({"retry-after-ms": "1500.5"}, {"retry-after-ms": "1500.5"}),
        ({"retry-after-ms": "99999999"}, {"retry-after-ms": "99999999"}),
    ],
)
def test_advised_wait_is_passed_on_unchanged(
    harness: Harness, advice: dict[str, str], told: dict[str, str]
) -> None:
    body = b'{"error":{"message":"Slow down","type":"requests","param":null,"code":"rate"}}'
    harness.answer_with(lambda received: received.answer(body, status=429, headers=advice))
    answered = harness.post(CHAT, BODY)
    assert answered.status == 429
    assert {n: v for n, v in answered.headers.items() if n.startswith("retry")} == told
