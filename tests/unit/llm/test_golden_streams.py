"""Recorded streams of every wire format, cut at every byte."""

from __future__ import annotations

import importlib
from pathlib import Path

import msgspec
import pytest

from headgate.llm import sse
from headgate.llm.meter import Meter
from headgate.llm.tap import StreamTap
from headgate.llm.usage import ParsedUsage
from tests.fakes.sse_framer import SseFramer

GOLDEN = Path(__file__).parents[2] / "golden"
STREAMS = sorted(GOLDEN.glob("*/*.sse"))
CHOICES = ("chat", "completions")
FINISHED = {"two_choices": 0b11, "error_after_content": 0}
"""A bit for each choice that has said why it ended."""
Outcome = tuple[bytes, bytes, ParsedUsage, bool, bool]

each_stream = pytest.mark.parametrize(
    "path", STREAMS, ids=lambda path: f"{path.parent.name}-{path.stem}"
)


def meter_of(path: Path) -> Meter:
    return importlib.import_module(f"headgate.llm.wire.{path.parent.name}").METER


def run_tap(meter: Meter, chunks: list[bytes], *, drop: bool) -> Outcome:
    """Return what was passed on before the end, what was held back, and what the tap read."""
    tap = StreamTap(meter, parsed := ParsedUsage(), drop_usage=drop)
    left = b"".join(tap.feed(chunk) for chunk in chunks) + tap.close()
    return left, tap.release(), parsed, tap.finished, tap.truncated


@each_stream
def test_recorded_stream_reads_as_expected(path: Path) -> None:
    stream = path.read_bytes()
    left, withheld, parsed, finished, truncated = run_tap(meter_of(path), [stream], drop=False)
    assert left + withheld == stream
    assert finished
    assert not truncated
    finished = FINISHED.get(path.stem, 1) * (path.parent.name in CHOICES)
    assert parsed.finished_choices == finished
    parsed.finished_choices = 0
    assert parsed == msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=ParsedUsage)


@each_stream
def test_only_the_last_event_is_withheld(path: Path) -> None:
    stream = path.read_bytes()
    framer = SseFramer()
    events = framer.feed(stream) + framer.close()
    _, withheld, *_ = run_tap(meter_of(path), [stream], drop=False)
    errors = [i for i, event in enumerate(events) if event.data.startswith(b'{"error"')]
    last = errors[0] if errors else len(events) - 1
    assert withheld == b"".join(event.raw for event in events[last:])


@each_stream
@pytest.mark.parametrize("drop", [False, True])
def test_cutting_at_any_byte_changes_nothing(path: Path, drop: bool) -> None:
    stream, meter = path.read_bytes(), meter_of(path)
    whole = run_tap(meter, [stream], drop=drop)
    for cut in range(1, len(stream)):
        assert run_tap(meter, [stream[:cut], stream[cut:]], drop=drop) == whole, cut
    assert run_tap(meter, [bytes([byte]) for byte in stream], drop=drop) == whole


@each_stream
def test_dropping_removes_exactly_what_asking_for_usage_added(path: Path) -> None:
    stream, meter = path.read_bytes(), meter_of(path)
    left, withheld, *_ = run_tap(meter, [stream], drop=True)
    framer = SseFramer()
    events = framer.feed(stream) + framer.close()
    kept = b"".join(event.raw for event in events if b'"choices":[],"usage":{' not in event.data)
    if path.parent.name in CHOICES:
        kept = kept.replace(b',"usage":null', b"")
        assert b"null" in kept or path.parent.name == "completions"
    assert left + withheld == kept


@each_stream
def test_framer_gives_the_same_events_at_every_cut(path: Path) -> None:
    stream = path.read_bytes()

    def frame(*chunks: bytes) -> list[sse.Event]:
        framer = SseFramer()
        events = [event for chunk in chunks for event in framer.feed(chunk)]
        return events + framer.close()

    whole = frame(stream)
    assert b"".join(event.raw for event in whole) == stream
    for cut in range(1, len(stream)):
        assert frame(stream[:cut], stream[cut:]) == whole
