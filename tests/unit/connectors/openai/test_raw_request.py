from __future__ import annotations

import asyncio
from collections.abc import Mapping
from email import message_from_bytes
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from headgate.assets.model.handle import HandleInfo
from headgate.connectors.model.action import ActionAnswer, ActionContext
from headgate.connectors.model.caller import ToolCaller
from headgate.connectors.model.errors import (
    ActionTimedOutError,
    CallRefusedError,
    InvalidInputError,
    ProviderRefusedError,
)
from headgate.connectors.model.raw_answer import RawResponse
from headgate.connectors.model.raw_request import RawRequestInput
from headgate.connectors.openai import raw_request
from tests.fakes.openai_actions import BY_NAME, CALLER, FakeHandles, NoHttp

PICTURE = b"\x89PNG\r\n\x1a\n\x00\xff"
UPLOAD = "handle_upload"
LARGE_UPLOAD, LARGE = "handle_large", bytes(20 << 20)
OK = ActionAnswer(200, {"content-type": "application/json"}, b'{"ok": true}')


def fail(status: int, code: str = "", **headers: str) -> ActionAnswer:
    body = msgspec.json.encode({"error": {"message": "No.", "code": code}})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ActionAnswer(status, named, body)


class Attempt(msgspec.Struct, frozen=True):
    at: float
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    credential: str | None
    idempotency_key: str | None
    timeout_seconds: float | None


class Uploads(FakeHandles):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def get(self, caller: ToolCaller, handle_id: str) -> tuple[HandleInfo, bytes]:
        self.reads += 1
        if handle_id == LARGE_UPLOAD:
            info = HandleInfo(id=handle_id, media_type="text/plain", bytes=20 << 20, expires_at=1.0)
            return info, LARGE
        assert (caller, handle_id) == (CALLER, UPLOAD)
        info = HandleInfo(id=handle_id, media_type="audio/mpeg", bytes=3, expires_at=1.0)
        return info, b"mp3"


class Rig:
    """Answer attempts in turn, the last one for ever, in a time that only waits let pass."""

    def __init__(self, *answers: ActionAnswer, seconds_each: float = 0.0) -> None:
        self._answers = answers
        self._seconds_each = seconds_each
        self.at = 0.0
        self.attempts: list[Attempt] = []

    async def send(
        self,
        caller: ToolCaller,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] = {},
        body: bytes = b"",
        credential: str | None = None,
        idempotency_key: str | None = None,
        timeout_seconds: float | None = None,
    ) -> ActionAnswer:
        assert caller is CALLER
        self.attempts.append(
            Attempt(
                self.at, method, target, headers, body, credential, idempotency_key, timeout_seconds
            )
        )
        assert timeout_seconds is not None
        if self._seconds_each > timeout_seconds:
            raise ActionTimedOutError("Too slow.")
        self.at += self._seconds_each
        return self._answers[min(len(self.attempts), len(self._answers)) - 1]

    async def sleep(self, seconds: float) -> None:
        self.at += seconds

    def run(self, **given: Any) -> RawResponse:
        self.uploads = Uploads()
        context = ActionContext(
            caller=CALLER,
            request_id="req_1",
            models=self,
            http=NoHttp(),
            handles=self.uploads,
            connection="work",
            idempotency_key="made-by-the-server",
            timeout_seconds=min(given.get("timeout", 60_000) / 1000, 60.0),
        )
        timing = raw_request.Timing(lambda: self.at, lambda: self.at, self.sleep, lambda: 0.5)
        typed = msgspec.convert(given, RawRequestInput)
        return asyncio.run(raw_request.send(context, typed, timing))

    @property
    def starts(self) -> list[float]:
        return [round(each.at, 6) for each in self.attempts]


def pair(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def test_request_goes_once_through_the_pipeline_with_the_connection() -> None:
    rig = Rig(OK)
    response = rig.run(
        url="/v1/files?purpose=vision",
        queryParams=[pair("limit", 2)],
        headers=[pair("Authorization", "Bearer mine"), pair("OpenAI-Beta", "x")],
    )
    assert (response.data, response.status) == ({"ok": True}, 200)
    [sent] = rig.attempts
    assert (sent.method, sent.target) == ("GET", "/v1/files?purpose=vision&limit=2")
    assert sent.headers == {"openai-beta": "x", "x-headgate-retries": "0"}
    assert (sent.body, sent.credential) == (b"", "work")
    assert sent.idempotency_key == "made-by-the-server"


def test_idempotency_key_of_the_input_is_that_of_the_call() -> None:
    rig = Rig(OK)
    rig.run(method="POST", data={"a": 1}, headers=[pair("Idempotency-Key", "mine")])
    [sent] = rig.attempts
    assert (sent.body, sent.idempotency_key) == (b'{"a":1}', "mine")
    assert sent.headers == {"content-type": "application/json", "x-headgate-retries": "0"}


def test_form_has_text_base64_and_what_a_handle_names() -> None:
    rig = Rig(OK)
    rig.run(
        method="POST",
        url="/v1/images/edits",
        formData=[pair("prompt", "a cat")],
        fileData=[
            pair("a", "text"),
            pair("b", {"data": "iVBORw0KGgoA/w==", "contentType": "image/png"}),
            pair("c", {"handle": UPLOAD}),
        ],
        fileDataFileNames=[pair("a", "a.txt")],
        headers=[pair("Content-Type", "text/html")],
    )
    [sent] = rig.attempts
    head = f"content-type: {sent.headers['content-type']}\r\n\r\n".encode()
    _, *parts = message_from_bytes(head + sent.body).walk()
    assert [
        (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
        for part in parts[1:]
    ] == [
        ("a.txt", "text/plain", b"text"),
        ("b", "image/png", PICTURE),
        ("c", "audio/mpeg", b"mp3"),
    ]


@pytest.mark.parametrize("value", [{}, {"data": "eA==", "handle": UPLOAD}, {"data": "no base64!"}])
def test_file_that_is_none_is_refused_before_anything_is_sent(value: object) -> None:
    rig = Rig(OK)
    with pytest.raises(InvalidInputError) as caught:
        rig.run(method="POST", fileData=[pair("a", value)])
    assert (caught.value.param, rig.attempts) == ("fileData", [])


def test_form_that_is_too_large_is_refused_before_all_of_it_is_read() -> None:
    rig = Rig(OK)
    with pytest.raises(InvalidInputError, match="larger than"):
        rig.run(method="POST", fileData=[pair(f"f{n}", {"handle": LARGE_UPLOAD}) for n in range(9)])
    assert (rig.uploads.reads, rig.attempts) == (2, [])


def test_server_errors_are_tried_again_as_often_as_allowed() -> None:
    rig = Rig(fail(503), fail(500), OK)
    assert rig.run(method="POST", maxRetries=2, retryDelayMS=500).status == 200
    assert rig.starts == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(("status", "attempts_on_wish"), [(429, 3), (404, 3), (302, 3), (503, 3)])
def test_other_errors_are_tried_again_only_on_wish(status: int, attempts_on_wish: int) -> None:
    for retries_all, attempts in ((False, 3 if status == 503 else 1), (True, attempts_on_wish)):
        rig = Rig(fail(status))
        with pytest.raises(ProviderRefusedError) as caught:
            rig.run(maxRetries=2, retryAllErrors=retries_all)
        assert (len(rig.attempts), caught.value.status) == (attempts, status)


def test_no_retry_is_made_without_a_count() -> None:
    rig = Rig(fail(503))
    with pytest.raises(ProviderRefusedError):
        rig.run(retryDelayMS=500, retryAllErrors=True, useExponentialBackoff=True)
    assert len(rig.attempts) == 1


def test_backoff_grows_with_jitter_and_the_delay_is_ignored() -> None:
    rig = Rig(fail(500), fail(500), fail(500), OK)
    rig.run(maxRetries=3, useExponentialBackoff=True, retryDelayMS=50_000)
    assert rig.starts == [0.0, 0.22, 0.66, 1.54]


def test_longer_wait_of_the_provider_wins() -> None:
    rig = Rig(fail(503, retry_after="7"), fail(503, retry_after_ms="20"), OK)
    rig.run(maxRetries=2, retryDelayMS=500)
    assert rig.starts == [0.0, 7.0, 7.5]


def test_timeout_spans_all_attempts_and_their_waits() -> None:
    rig = Rig(fail(503), seconds_each=0.4)
    with pytest.raises(ActionTimedOutError) as caught:
        rig.run(maxRetries=9, retryDelayMS=100, timeout=1_200)
    assert "within 1200 ms" in caught.value.message
    assert rig.starts == [0.0, 0.5, 1.0]
    assert [each.timeout_seconds for each in rig.attempts] == pytest.approx([1.2, 0.7, 0.2])


def test_last_answer_is_told_where_the_next_wait_would_not_end_in_time() -> None:
    rig = Rig(fail(503, retry_after="30"))
    with pytest.raises(ProviderRefusedError) as caught:
        rig.run(maxRetries=9, timeout=20_000)
    assert (len(rig.attempts), rig.at, caught.value.retry_after_seconds) == (1, 0.0, 30.0)


def test_no_wait_is_longer_than_the_whole_call_may_take_whatever_its_timeout() -> None:
    rig = Rig(fail(503, retry_after="90"))
    with pytest.raises(ProviderRefusedError):
        rig.run(maxRetries=1, timeout=600_000)
    assert rig.starts == [0.0]


def test_failure_has_status_data_and_headers() -> None:
    with pytest.raises(ProviderRefusedError) as caught:
        Rig(fail(404, "model_not_found", x_request_id="up_1")).run(url="/v1/models/none")
    error = caught.value
    assert (error.status, error.data) == (
        404,
        {"error": {"message": "No.", "code": "model_not_found"}},
    )
    assert error.headers == {"x-request-id": "up_1"}


def test_refusal_of_the_gateway_keeps_its_kind() -> None:
    refused = fail(403, "endpoint_out_of_scope", x_headgate_error_source="gateway")
    with pytest.raises(CallRefusedError) as caught:
        Rig(refused).run()
    assert (caught.value.kind.value, caught.value.code) == (403, "endpoint_out_of_scope")


def test_debug_is_logged_and_returned_without_secrets() -> None:
    secret = "plantedSecret0123456789"
    answer = ActionAnswer(200, {"x-api-key": secret}, msgspec.json.encode({"token": secret}))
    with capture_logs() as logs:
        response = Rig(fail(500), answer).run(
            method="POST",
            url=f"/v1/x?api_key={secret}",
            data={"password": secret, "a": "b"},
            headers=[pair("Authorization", f"Bearer {secret}"), pair("X-Secret-Thing", secret)],
            debugRequest=True,
            maxRetries=1,
        )
    assert response.debug is not msgspec.UNSET
    [logged] = [each for each in logs if each["event"] == "connector.raw_request"]
    for shown in (logged, response.debug):
        assert secret not in repr(shown)
        assert (shown["request"]["method"], shown["response"]["status"]) == ("POST", 200)
        assert shown["request"]["overriddenHeaders"] == ["authorization"]
        assert [each["status"] for each in shown["attempts"]] == [500, 200]


def test_nothing_is_logged_without_debug() -> None:
    with capture_logs() as logs:
        assert Rig(OK).run().debug is msgspec.UNSET
    assert logs == []


def test_picture_is_content_for_agents_and_other_bytes_are_json() -> None:
    action = BY_NAME["raw-request"]
    assert action.to_tool_result is not None
    picture = ActionAnswer(200, {"content-type": "image/png"}, PICTURE)
    shown = action.to_tool_result(Rig(picture).run(responseType="arraybuffer"))
    [content] = shown.content
    assert (content.type, content.fields["mimeType"]) == ("image", "image/png")
    assert msgspec.to_builtins(shown)["structured"]["data"] == {
        "contentType": "image/png",
        "size": 10,
    }
    archive = ActionAnswer(200, {"content-type": "application/zip"}, b"PK")
    shown = action.to_tool_result(Rig(archive).run(responseType="arraybuffer"))
    assert msgspec.to_builtins(shown)["structured"]["data"]["base64"] == "UEs="
    assert not shown.content
