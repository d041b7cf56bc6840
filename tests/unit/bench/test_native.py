from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench import machine, traffic

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")


@dataclass(frozen=True)
class Pair:
    """The load program and a mock upstream that sends stream events every millisecond."""

    load: Path
    port: int
    folder: Path

    def run(self, kind: traffic.Kind, *options: str) -> dict[str, Any]:
        request = self.folder / "request"
        request.write_bytes(traffic.render_request(kind, traffic.Address(self.port)))
        command = [str(self.load), "--port", str(self.port), "--request", str(request)]
        done = subprocess.run([*command, *options], stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    def expect(self, body: bytes) -> Sequence[str]:
        path = self.folder / "expected"
        path.write_bytes(body)
        return ("--expect", str(path))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("native")
    upstream = machine.build_native("upstream", folder)
    with subprocess.Popen([upstream, "0", "1"], stdout=subprocess.PIPE) as running:
        assert running.stdout
        port = int(running.stdout.readline())
        yield Pair(machine.build_native("load", folder), port, folder)
        running.terminate()


def test_exact_number_of_calls_is_made_and_measured(pair: Pair) -> None:
    report = pair.run(
        traffic.SMALL, "--contains", "completion_tokens", "--connections", "4", "--requests", "500"
    )
    assert (report["requests"], report["errors"]) == (500, 0)
    latency = report["latency"]
    assert latency["count"] == 500
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p999"]


def test_answer_that_differs_from_the_expected_bytes_is_an_error(pair: Pair) -> None:
    report = pair.run(traffic.SMALL, *pair.expect(b"x" * 1023), "--requests", "10")
    assert report["requests"] == 0
    assert report["errors"] == 10
    assert report["first_error"].startswith("not the expected body")


def test_large_request_gets_the_large_answer(pair: Pair) -> None:
    report = pair.run(traffic.LARGE, "--contains", "completion_tokens", "--requests", "20")
    assert (report["requests"], report["errors"]) == (20, 0)


def test_streams_are_followed_to_their_end_and_their_events_counted(pair: Pair) -> None:
    options = ("--stream", "--connections", "8", "--requests", "16")
    report = pair.run(traffic.STREAM, *options, "--events", str(traffic.EVENTS))
    assert (report["requests"], report["errors"]) == (16, 0)
    assert report["events"] == 16 * traffic.EVENTS
    assert report["first_chunk"]["count"] == 16


def test_stream_that_comes_at_once_has_every_event(pair: Pair) -> None:
    options = ("--stream", "--connections", "4", "--requests", "40")
    report = pair.run(traffic.BURST, *options, "--events", str(traffic.EVENTS))
    assert (report["requests"], report["errors"]) == (40, 0)
    assert report["events"] == 40 * traffic.EVENTS


def test_stream_with_a_missing_event_is_an_error(pair: Pair) -> None:
    report = pair.run(traffic.STREAM, "--stream", "--requests", "2", "--events", "67")
    assert report["requests"] == 0
    assert report["first_error"].startswith("stream with a wrong number of events")


def test_plain_answer_is_no_stream(pair: Pair) -> None:
    report = pair.run(traffic.SMALL, "--stream", "--requests", "2")
    assert report["requests"] == 0
    assert report["first_error"].startswith("stream without [DONE]")
