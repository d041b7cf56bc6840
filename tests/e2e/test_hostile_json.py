"""JSON of an attacker ends in one clear error, and costs little."""

from __future__ import annotations

from collections.abc import Generator

import psutil
import pytest

from tests.fakes.harness import Harness, running_harness
from tests.fakes.http_connection import check_error

CHAT = "/v1/chat/completions"
MODEL = b'{"model":"gpt-5.4-mini",'
MASS = b",".join(b'"k%d":0' % number for number in range(1_000_000))


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    with running_harness(tmp_path_factory.mktemp("hostile-json") / "data") as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    return module_harness


VECTORS: dict[str, tuple[bytes, str]] = {
    "depth 65": (MODEL + b'"a":' + b"[" * 64 + b"]" * 64 + b"}", "deeper than 64 (byte 91)"),
    "depth 1 MB": (b"[" * (1 << 20), "deeper than 64 (byte 64)"),
    "depth 100,000 of objects": (b'{"a":' * 100_000, "deeper than 64"),
    "million keys": (MODEL + MASS + b"}", "more than 100000 keys"),
    "million strings": (MODEL + b'"a":[' + b'"",' * 1_000_000 + b"0]}", "more than 100000 values"),
    "model twice": (MODEL + b'"model":"gpt-5.4"}', "key 'model' comes twice"),
    "model twice, escaped": (MODEL + b'"\\u006dodel":"gpt-5.4"}', "key 'model' comes twice"),
    "role twice": (MODEL + b'"messages":[{"role":"user","role":"system"}]}', "'role' comes twice"),
    "NaN": (MODEL + b'"temperature":NaN}', "(byte 38)"),
    "Infinity": (MODEL + b'"temperature":Infinity}', "(byte 38)"),
    "-Infinity": (MODEL + b'"temperature":-Infinity}', "(byte 39)"),
    "1e999": (MODEL + b'"temperature":1e999}', "out of range (byte 38)"),
    "5,000 digits": (MODEL + b'"seed":' + b"7" * 5000 + b"}", "out of range"),
    "BOM": (b"\xef\xbb\xbf" + MODEL + b'"a":1}', "byte order mark (byte 0)"),
    "UTF-16": ('{"model":"m"}'.encode("utf-16"), "(byte 0)"),
    "trailing": (MODEL + b'"a":1}{}', "trailing characters (byte 31)"),
    "trailing NUL": (MODEL + b'"a":1}\0', "trailing characters"),
    "invalid UTF-8": (MODEL + b'"user":"\xff"}', "UTF-8 (byte 32)"),
    "invalid UTF-8 in a key": (MODEL + b'"\xff":1}', "UTF-8 (byte 25)"),
    "overlong": (MODEL + b'"user":"\xc0\xaf"}', "UTF-8"),
    "raw surrogate": (MODEL + b'"user":"\xed\xa0\x80"}', "UTF-8"),
    "half a surrogate": (MODEL + b'"user":"\\ud800"}', "surrogate pair stands alone (byte 32)"),
    "halves swapped": (MODEL + b'"user":"\\udc00\\ud800"}', "surrogate"),
    "NUL": (MODEL + b'"user":"\0"}', "(byte 32)"),
    "control character": (MODEL + b'"user":"\n"}', "(byte 32)"),
    "comment": (MODEL + b'/* */"a":1}', "(byte"),
    "cut": (MODEL, "(byte 24)"),
}


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("target", [CHAT, "/v1/threads/runs"])
def test_json_that_could_be_read_in_two_ways_is_refused(
    harness: Harness, name: str, target: str
) -> None:
    body, said = VECTORS[name]
    answered = harness.post(target, body)
    check_error(answered, 400, "invalid_json", source="gateway")
    assert said in answered.error["message"]
    assert harness.upstream.received == []
    if "model twice" in name:
        assert answered.error["param"] == "model"


def test_hostile_body_costs_no_more_than_a_good_one_of_its_size(harness: Harness) -> None:
    """Measured as the server's CPU time: 12 MB of keys against 12 MB of one long text."""
    server = psutil.Process(harness.gateway.process.pid)

    def measure(body: bytes) -> float:
        before = server.cpu_times()
        harness.post(CHAT, body)
        after = server.cpu_times()
        return after.user + after.system - before.user - before.system

    good = min(measure(MODEL + b'"user":"' + b"words " * 2_000_000 + b'"}') for _ in range(3))
    bad = min(measure(VECTORS["million keys"][0]) for _ in range(3))
    assert bad < 20 * good + 0.2


def test_escaped_nul_and_emoji_go_on_as_they_came(harness: Harness) -> None:
    body = MODEL + b'"user":"\\u0000 \\ud83d\\ude00 \xf0\x9f\x98\x80"}'
    assert harness.post(CHAT, body).status != 400
    assert harness.upstream.received[0].body == body


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "text/xml",
                                  "multipart/form-data; boundary=b"])  # fmt: skip
def test_other_content_type_is_refused_where_json_is_read(harness: Harness, kind: str) -> None:
    answered = harness.post(CHAT, b"model=gpt-5.4-mini", {"content-type": kind})
    check_error(answered, 415, "unsupported_content_type", source="gateway")
    assert "application/json" in answered.error["message"]
    assert harness.upstream.received == []


@pytest.mark.parametrize("kind", ["Application/JSON; charset=utf-8", "application/x+json"])
def test_other_json_content_types_are_accepted(harness: Harness, kind: str) -> None:
    assert harness.post(CHAT, MODEL + b'"a":1}', {"content-type": kind}).status == 200
