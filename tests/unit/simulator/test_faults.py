from __future__ import annotations

import json
import time
from typing import Any

import httpx2
import openai
import pytest

URL = "/v1/chat/completions"
RESPONSES = "/v1/responses"


def body(fault: str = "", **extra: Any) -> dict[str, Any]:
    model = f"gpt-5.4-mini@fault:{fault}" if fault else "gpt-5.4-mini"
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **extra}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500, 502, 503, 504])
def test_status_is_answered_in_the_shape_of_openai(http: httpx2.Client, status: int) -> None:
    response = http.post(URL, json=body(f"status={status}"))
    assert response.status_code == status
    assert response.json()["error"].keys() == {"message", "type", "param", "code"}


def test_retry_advice_and_quota(http: httpx2.Client) -> None:
    limited = http.post(URL, json=body("status=429,retry_after=1.5,should_retry=false"))
    assert limited.headers["retry-after"] == "1.5"
    assert limited.headers["retry-after-ms"] == "1500"
    assert limited.headers["x-should-retry"] == "false"
    assert limited.json()["error"]["code"] == "rate_limit_exceeded"
    assert http.post(URL, json=body("quota")).json()["error"]["code"] == "insufficient_quota"


def test_fault_may_come_in_a_header_on_any_path(http: httpx2.Client) -> None:
    response = http.get("/v1/models", headers={"x-simulator-fault": "status=503"})
    assert response.status_code == 503


def test_times_lets_later_calls_through_and_the_model_loses_its_fault(address: str) -> None:
    with openai.OpenAI(api_key="sk-t", base_url=f"{address}/v1", max_retries=2) as client:
        answer = client.chat.completions.create(
            model="gpt-4o@fault:status=500,retry_after=0.001,times=2",
            messages=[{"role": "user", "content": "patience"}],
        )
    assert answer.model == "gpt-4o"


def test_unknown_fault_is_told_with_the_known_ones(http: httpx2.Client) -> None:
    response = http.post(URL, json=body("explode"))
    assert response.status_code == 400
    assert "retry_after" in response.json()["error"]["message"]


def test_rate_limit_headers_can_be_set(http: httpx2.Client) -> None:
    headers = http.post(URL, json=body("remaining_requests=0,reset_requests=6m0s")).headers
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "6m0s"


@pytest.mark.parametrize("fault", ["delay=60", "first_chunk=60"])
def test_answer_can_be_late(http: httpx2.Client, fault: str) -> None:
    begun = time.monotonic()
    assert http.post(URL, json=body(fault)).status_code == 200
    assert time.monotonic() - begun >= 0.06


def test_connection_can_drop_before_the_head(http: httpx2.Client) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        http.post(URL, json=body("drop"))


@pytest.mark.parametrize("fault", ["cut=3", "cut_mid=3"])
def test_stream_is_cut_after_so_many_events(http: httpx2.Client, fault: str) -> None:
    got = b""
    with http.stream("POST", URL, json=body(fault, stream=True)) as response:
        try:
            for piece in response.iter_raw():
                got += piece
            raise AssertionError("the stream ended as if it were whole")
        except httpx2.RemoteProtocolError:
            pass
    assert got.count(b"\n\n") == 3
    assert got.endswith(b"\n\n") is (fault == "cut=3")


def test_buffered_body_is_cut_in_its_middle(http: httpx2.Client) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        http.post(URL, json=body("cut=0"))


@pytest.mark.parametrize("stream", [True, False])
def test_stall_goes_silent_and_stays_open(http: httpx2.Client, stream: bool) -> None:
    timeout = httpx2.Timeout(5, read=0.1)
    with pytest.raises(httpx2.ReadTimeout):
        http.post(URL, json=body("stall=2", stream=stream), timeout=timeout)


def test_malformed_bodies_do_not_parse(http: httpx2.Client) -> None:
    with pytest.raises(json.JSONDecodeError):
        http.post(URL, json=body("malformed")).json()
    frames = http.post(URL, json=body("malformed", stream=True)).text.split("\n\n")
    with pytest.raises(json.JSONDecodeError):
        json.loads(frames[1].removeprefix("data: "))


def test_error_arrives_inside_a_stream(client: openai.OpenAI, http: httpx2.Client) -> None:
    text = http.post(URL, json=body("error=2", stream=True)).text
    frames = text.strip().split("\n\n")
    assert len(frames) == 3
    assert "server_error" in frames[-1]
    asked = {"model": "gpt-4o@fault:error=2", "input": "x", "stream": True}
    last = http.post(RESPONSES, json=asked).text.strip().split("\n\n")[-1]
    assert last.startswith("event: error\n")


def test_response_fails_inside_its_stream(client: openai.OpenAI) -> None:
    stream = client.responses.create(model="gpt-4o@fault:failed=5", input="x", stream=True)
    last = list(stream)[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.code == "server_error"


def test_usage_can_be_missing_everywhere(http: httpx2.Client) -> None:
    assert "usage" not in http.post(URL, json=body("no_usage")).json()
    asked = body("no_usage", stream=True, stream_options={"include_usage": True})
    text = http.post(URL, json=asked).text
    assert "prompt_tokens" not in text
    assert text.endswith("data: [DONE]\n\n")
    response = {"model": "gpt-4o@fault:no_usage", "input": "x", "stream": True}
    assert "input_tokens" not in http.post(RESPONSES, json=response).text
