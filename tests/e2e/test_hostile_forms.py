"""Forms of an attacker end in one clear error, and cost little memory."""

from __future__ import annotations

from collections.abc import Generator

import psutil
import pytest

from tests.fakes.harness import Harness, running_harness
from tests.fakes.http_connection import check_error

TRANSCRIPTIONS = "/v1/audio/transcriptions"
MEBIBYTE = 1 << 20
TYPE = "multipart/form-data; boundary=b0"
END = b"--b0--\r\n"


def part(name: bytes, value: bytes = b"m", more: bytes = b"", headers: bytes = b"") -> bytes:
    head = b'content-disposition: form-data; name="%b"%b\r\n%b\r\n' % (name, more, headers)
    return b"--b0\r\n" + head + value + b"\r\n"


MODEL = part(b"model", b"whisper-1")
INNER = b'--b1\r\ncontent-disposition: form-data; name="model"\r\n\r\nother\r\n--b1--\r\n'
NESTED = b"content-type: multipart/mixed; boundary=b1\r\n"
VECTORS: dict[str, tuple[str, bytes]] = {
    "10,000 parts": (TYPE, part(b"x") * 10_000 + MODEL + END),
    "name of 1 MB": (TYPE, part(b"x" * MEBIBYTE) + MODEL + END),
    "header of 1 MB": (TYPE, part(b"x", headers=b"y: " + b"z" * MEBIBYTE + b"\r\n") + END),
    "5,000 headers": (TYPE, part(b"x", headers=b"y: z\r\n" * 5000) + MODEL + END),
    "no end": (TYPE, MODEL),
    "no end, 4 MB": (TYPE, MODEL + b"--b0\r\n" + b"x" * 4 * MEBIBYTE),
    "boundary of 0": ("multipart/form-data; boundary=", MODEL + END),
    "boundary of 71": (f"multipart/form-data; boundary={'b' * 71}", MODEL + END),
    "no boundary": ("multipart/form-data", MODEL + END),
    "other boundary": ("multipart/form-data; boundary=b1", MODEL + END),
    "boundary as beginning": ("multipart/form-data; boundary=b", MODEL + END),
    "nested": (TYPE, part(b"x", INNER, headers=NESTED) + MODEL + END),
    "model twice": (TYPE, MODEL + MODEL + END),
    "model with a file name": (TYPE, part(b"model", more=b'; filename="m"') + END),
    "no disposition": (TYPE, b"--b0\r\nx: y\r\n\r\nm\r\n" + MODEL + END),
    "bare LF": (TYPE, (MODEL + END).replace(b"\r\n", b"\n")),
    "bare CR": (TYPE, (MODEL + END).replace(b"\r\n", b"\r")),
    "CR in a name": (TYPE, part(b"mo\rdel") + MODEL + END),
    "boundary lines only": (TYPE, b"--b0\r\n" * 500_000),
    "empty": (TYPE, b""),
}


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    with running_harness(tmp_path_factory.mktemp("hostile-forms") / "data") as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    return module_harness


@pytest.mark.parametrize("name", VECTORS)
def test_hostile_form_is_refused_and_little_memory_used(harness: Harness, name: str) -> None:
    content_type, body = VECTORS[name]
    server = psutil.Process(harness.gateway.process.pid)
    before = server.memory_info().rss
    answered = harness.ask("POST", TRANSCRIPTIONS, {"content-type": content_type}, body)
    check_error(answered, 400, "invalid_form", source="gateway")
    assert server.memory_info().rss - before <= 16 * MEBIBYTE
    assert harness.upstream.received == []


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain"])
def test_other_content_type_is_refused_where_a_form_is_read(harness: Harness, kind: str) -> None:
    answered = harness.ask("POST", TRANSCRIPTIONS, {"content-type": kind}, b"model=whisper-1")
    check_error(answered, 415, "unsupported_content_type", source="gateway")
    assert "multipart/form-data" in answered.error["message"]


def test_form_may_say_its_type_in_capitals(harness: Harness) -> None:
    kind = "Multipart/Form-Data; boundary=b0"
    body = MODEL + part(b"file", b"RIFF", b'; filename="a.wav"') + END
    assert harness.ask("POST", TRANSCRIPTIONS, {"content-type": kind}, body).status == 200
    assert harness.upstream.received[0].body == body
