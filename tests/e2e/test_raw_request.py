"""Raw requests on a running server, over REST, against a fake provider (M84 to M89, M141)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator
from email import message_from_bytes
from typing import Any

import pytest

from tests.fakes import http_connection
from tests.fakes.http_connection import HttpResponse
from tests.fakes.simulated_gateway import SimulatedGateway
from tests.fakes.upstream import FakeUpstream, ReceivedRequest

SECRET = "sk-0123456789abcdefghijklmnopqrB"
BYTES = b"\x89PNG\r\n\x1a\n\x00\xff"
PLANTED = "planted-secret-0123456789"
METHODS = ("DELETE", "GET", "HEAD", "LINK", "OPTIONS", "PATCH", "POST", "PURGE", "PUT", "UNLINK")


@pytest.fixture(scope="module")
def provider(
    module_simulated_gateway: SimulatedGateway, shared_upstream: FakeUpstream
) -> FakeUpstream:
    """Return a fake provider, which answers for the connection `raw`."""
    given = {
        "integration_name": "openai",
        "auth_data": {"api_key": SECRET, "base_url": shared_upstream.base_url},
        "display_name": "raw",
    }
    keys = module_simulated_gateway.gateway.keys
    headers = {
        "authorization": f"Bearer {keys['admin_key']}",
        "x-organization-id": keys["organization_id"],
        "content-type": "application/json",
    }
    port = module_simulated_gateway.gateway.port
    added = http_connection.ask(
        port, "POST", "/api/credentials", headers, json.dumps(given).encode()
    )
    assert added.status == 201, added.body
    return shared_upstream


@pytest.fixture
def upstream(provider: FakeUpstream, sdk: SimulatedGateway) -> Generator[FakeUpstream]:
    provider.forget()
    sdk.receipts.take()
    yield provider
    provider.script = lambda received: received.answer(b"{}")


def ask(sdk: SimulatedGateway, path: str = "", /, **given: Any) -> HttpResponse:
    headers = {"authorization": f"Bearer {sdk.gateway.key}", "content-type": "application/json"}
    body = json.dumps({"connection": "raw", **given}).encode()
    path = path or "/api/connectors/openai/actions/raw-request"
    return http_connection.ask(sdk.gateway.port, "POST", path, headers, body)


def pair(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def hang(received: ReceivedRequest) -> None:
    received.wait_closed(10)


def pour(received: ReceivedRequest) -> None:
    """Answer without an end."""
    received.send_head(200, {"content-type": "application/octet-stream", "connection": "close"})
    with contextlib.suppress(OSError):
        while True:
            received.send(bytes(1 << 20))


def answer_in_turn(*statuses: int) -> Callable[[ReceivedRequest], None]:
    left = list(statuses)

    def answer(received: ReceivedRequest) -> None:
        received.answer(b"{}", status=left.pop(0) if len(left) > 1 else left[0])

    return answer


def test_all_methods_reach_the_provider_with_one_receipt_each(
    sdk: SimulatedGateway, upstream: FakeUpstream
) -> None:
    upstream.script = lambda received: received.answer(b'{"a": 1}')
    for method in METHODS:
        query = [pair("b", "2 3")]
        answered = ask(sdk, method=method, url="/v1/new/thing?a=1", queryParams=query)
        assert answered.status == 200, answered.body
        assert answered.json["status"] == 200
        assert "connection" not in answered.json["headers"]
        assert answered.json["data"] == (None if method == "HEAD" else {"a": 1})
        received = upstream.received[-1]
        assert (received.method, received.target) == (method, "/v1/new/thing?a=1&b=2%203")
    receipts = sdk.receipts.take()
    assert [(each.method, each.endpoint) for each in receipts] == [(m, "other") for m in METHODS]
    # Also at an address that has other methods, unless it costs.
    assert ask(sdk, method="PATCH", url="/v1/models").json["data"] == {"a": 1}
    assert ask(sdk, method="PUT", url="/v1/embeddings").status == 405
    sdk.receipts.take()


def test_chat_completion_is_metered_as_any_other(
    sdk: SimulatedGateway, upstream: FakeUpstream
) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    upstream.script = lambda received: received.answer(
        json.dumps({"object": "chat.completion", "choices": [], "usage": usage}).encode()
    )
    data: dict[str, Any] = {"model": "gpt-4o", "messages": []}
    answered = ask(sdk, method="POST", url="/v1/chat/completions", data=data)
    assert answered.json["data"]["usage"] == usage
    receipt = sdk.receipts.take_one()
    assert receipt.endpoint == "chat.completions"
    assert receipt.usage is not None
    assert (receipt.usage.input_tokens, receipt.cost_nano > 0) == (7, True)


def test_authorization_of_the_connection_wins_and_goes_nowhere_else(
    sdk: SimulatedGateway, upstream: FakeUpstream
) -> None:
    headers = [pair("AUTHORIZATION", f"Bearer {PLANTED}"), pair("X-Mine", "yes")]
    assert ask(sdk, url="/v1/new", headers=headers).status == 200
    [received] = upstream.received
    assert received.headers["authorization"] == f"Bearer {SECRET}"
    assert received.headers["x-mine"] == "yes"
    for url in ("https://evil.example/v1/x", "//evil.example/v1/x", f"{upstream.base_url}/x"):
        refused = ask(sdk, url=url)
        assert refused.status == 422, refused.body
        assert refused.json["detail"][0]["loc"] == ["body", "url"]
    assert len(upstream.received) == 1


def test_form_arrives_with_given_and_default_file_names(
    sdk: SimulatedGateway, upstream: FakeUpstream
) -> None:
    form = {
        "formData": [pair("purpose", "vision")],
        "fileData": [pair("file", {"data": "iVBORw0KGgoA/w=="}), pair("notes", "text")],
        "fileDataFileNames": [pair("file", "a.png")],
    }
    assert ask(sdk, method="POST", url="/v1/files", **form).status == 200
    [received] = upstream.received
    head = f"content-type: {received.headers['content-type']}\r\n\r\n".encode()
    parts = list(message_from_bytes(head + received.body).walk())[1:]
    assert [(part.get_filename(), part.get_payload(decode=True)) for part in parts] == [
        (None, b"vision"),
        ("a.png", BYTES),
        ("notes", b"text"),
    ]
    assert ask(sdk, method="POST", url="/v1/files", data={"a": 1}, **form).status == 422


@pytest.mark.parametrize(
    ("response_type", "data"),
    [
        ("json", BYTES.decode("utf-8", "replace")),
        ("text", BYTES.decode("utf-8", "replace")),
        ("arraybuffer", {"base64": "iVBORw0KGgoA/w==", "contentType": "image/png", "size": 10}),
    ],
)
def test_binary_answer_is_read_as_asked(
    sdk: SimulatedGateway, upstream: FakeUpstream, response_type: str, data: object
) -> None:
    upstream.script = lambda received: received.answer(BYTES, headers={"content-type": "image/png"})
    answered = ask(sdk, url="/v1/files/file-1/content", responseType=response_type)
    assert answered.json["data"] == data


@pytest.mark.parametrize(
    ("statuses", "given", "attempts", "succeeds"),
    [
        ((503, 503, 200), {"maxRetries": 2}, 3, True),
        ((503,), {}, 1, False),
        ((429, 200), {"maxRetries": "2"}, 1, False),
        ((429, 404, 200), {"maxRetries": 2, "retryAllErrors": "yes"}, 3, True),
        ((302, 200), {"maxRetries": 1, "retryAllErrors": True}, 2, True),
    ],
)
def test_provider_is_called_as_often_as_the_caller_says(
    sdk: SimulatedGateway,
    upstream: FakeUpstream,
    statuses: tuple[int, ...],
    given: dict[str, Any],
    attempts: int,
    succeeds: bool,
) -> None:
    upstream.script = answer_in_turn(*statuses)
    answered = ask(sdk, method="POST", url="/v1/new", data={}, **given)
    assert (len(upstream.received), answered.status == 200) == (attempts, succeeds)
    assert [each.attempts for each in sdk.receipts.take()] == [1] * attempts


def test_answer_that_fills_the_memory_is_cut(sdk: SimulatedGateway, upstream: FakeUpstream) -> None:
    """A file is passed on to clients whatever its size, but an action holds it in memory."""
    upstream.script = pour
    answered = ask(sdk, url="/v1/files/file-1/content", responseType="arraybuffer")
    assert (answered.status, answered.json["code"]) == (502, "answer_too_large")


def test_failure_tells_the_answer_of_the_provider_in_both_envelopes(
    sdk: SimulatedGateway, upstream: FakeUpstream
) -> None:
    body = b'{"error": {"message": "Not there.", "code": "missing"}}'
    upstream.script = lambda received: received.answer(
        body, headers={"x-request-id": "up_1"}, status=404
    )
    answered = ask(sdk, url="/v1/new")
    assert (answered.json["code"], answered.json["status"]) == ("provider_error", 404)
    assert answered.json["data"] == json.loads(body)
    assert answered.json["headers"]["x-request-id"] == "up_1"
    enveloped = ask(sdk, "/api/integrations/openai/raw-request", url="/v1/new").json
    assert enveloped["success"] is False
    assert "Not there." in enveloped["error_object"]["message"]


def test_timeout_spans_the_whole_request(sdk: SimulatedGateway, upstream: FakeUpstream) -> None:
    upstream.script = hang
    answered = ask(sdk, url="/v1/new", timeout=300, maxRetries=5)
    assert (answered.status, answered.json["code"]) == (504, "action_timed_out")


def test_debug_is_logged_with_sizes_and_without_secrets(
    sdk: SimulatedGateway, upstream: FakeUpstream
) -> None:
    echoed = json.dumps({"authorization": f"Bearer {SECRET}", "api_key": PLANTED}).encode()
    upstream.script = lambda received: received.answer(echoed)
    answered = ask(
        sdk,
        method="POST",
        url=f"/v1/new?token={PLANTED}",
        data={"password": PLANTED, "long": "x" * 20_000},
        headers=[pair("Authorization", PLANTED), pair("X-Auth", PLANTED)],
        debugRequest=True,
    )
    debug = answered.json["debug"]
    assert debug["request"]["data"].startswith("<data (")
    assert (debug["request"]["method"], debug["response"]["status"]) == ("POST", 200)
    log = sdk.gateway.log.read_text()
    assert "connector.raw_request" in log
    for text in (json.dumps(debug), log):
        assert PLANTED not in text
        assert SECRET not in text
