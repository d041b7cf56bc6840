from __future__ import annotations

import json
import os
import threading

import msgspec
import pytest

from headgate.telemetry.access_log import BATCHES_MAX, AccessLog
from headgate.telemetry.observers import Observers
from tests.fakes.example_receipt import make_receipt


class Entry(msgspec.Struct, frozen=True, tag_field="event", tag="entry"):
    name: str


def test_every_receipt_is_one_line() -> None:
    reading, writing = os.pipe()
    log = AccessLog(writing)
    log.start()
    log.observe([make_receipt(request_id="req_1"), make_receipt(request_id="req_2")])
    log.stop()
    os.close(writing)
    with os.fdopen(reading) as lines:
        entries = [json.loads(line) for line in lines]
    assert [entry["request_id"] for entry in entries] == ["req_1", "req_2"]
    assert entries[0]["event"] == "call"
    assert entries[0]["cost_nano"] == 5_250


@pytest.mark.anyio
async def test_lines_that_are_no_receipts_are_written_with_those_that_are() -> None:
    observers = Observers({}, access_log=True)
    reading, writing = os.pipe()
    observers.access_log = AccessLog(writing)
    observers.start()
    observers.log(Entry("a"))
    observers.observe(make_receipt(), 1)
    observers.log(Entry("b"))
    observers.stop()
    os.close(writing)
    with os.fdopen(reading) as lines:
        entries = [json.loads(line) for line in lines]
    assert [each["event"] for each in entries] == ["call", "entry", "entry"]


def test_closed_access_log_loses_only_its_lines() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = AccessLog(writing)
    log.start()
    log.observe([make_receipt()])
    log.stop()
    os.close(writing)
    assert log.dropped == 1


def test_stalled_reader_of_the_access_log_delays_no_call() -> None:
    log = AccessLog(-1)
    observed = threading.Event()

    def observe() -> None:
        for _ in range(BATCHES_MAX + 10):
            log.observe([make_receipt()])
        observed.set()

    threading.Thread(target=observe).start()
    assert observed.wait(timeout=10)
    assert log.dropped == 10
