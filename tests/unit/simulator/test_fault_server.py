"""The upstream that fails byte for byte: its catalogue, its bombs, its log."""

from __future__ import annotations

import asyncio
import itertools
import zlib
from typing import Any

import pytest

from headgate_simulator.fault_server import bombs, catalogue, wires
from headgate_simulator.fault_server.parsing import ReceivedRequest, find_fault
from headgate_simulator.fault_server.server import FaultServer
from headgate_simulator.fault_server.steps import FaultRequest, Script, Send, StartBilling

pytestmark = pytest.mark.anyio
WIRES = (wires.CHAT, wires.RESPONSES, wires.EMBEDDINGS, wires.RAW)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("script", catalogue.SCRIPTS.values(), ids=lambda script: script.name)
def test_script_plays_the_same_each_time_on_every_wire(script: Script) -> None:
    for wire, streams in itertools.product(WIRES, (False, True)):
        if wire == wires.EMBEDDINGS and streams:
            continue
        request = FaultRequest(wire, streams, b"sk-x", {"seconds": 0}, "http://elsewhere")
        first, second = (list(script.play(request)) for _ in range(2))
        assert first
        assert first == second or script.name == "U17.date"
        assert "U17" not in script.name or not any(isinstance(step, StartBilling) for step in first)


def test_answer_cut_midway_ends_inside_a_character() -> None:
    script, options = catalogue.find("U6.in-body,seconds=0")
    sent = [
        s.data
        for s in script.play(FaultRequest(wires.CHAT, True, b"", options))
        if isinstance(s, Send)
    ]
    with pytest.raises(UnicodeDecodeError, match="unexpected end"):
        sent[-1].decode()


def test_gzip_bomb_is_a_mebibyte_of_a_gibibyte() -> None:
    bomb = bombs.gzip()
    assert len(bomb) < 1.1 * 2**20
    unpacked = zlib.decompressobj(31).decompress(bomb, 8 << 20)
    assert unpacked == bytes(8 << 20)
    assert int.from_bytes(bomb[-4:], "little") == bombs.SIZE_BYTES
    assert zlib.decompress(bombs.nested(), 31) == bomb


def test_other_bombs_are_small_too() -> None:
    assert len(bombs.brotli()) < 1024
    assert bombs.zstd()[:4] == b"\x28\xb5\x2f\xfd"
    assert len(bombs.zstd()) < 33_000


@pytest.mark.parametrize(
    "asks",
    [
        {"headers": {"x-simulator-fault": "U8.late,seconds=2"}},
        {"body": {"model": "m@fault:U8.late,seconds=2"}},
        {"body": {"model": "m", "user": "fault:U8.late,seconds=2"}},
        {"target": "/v1/files/fault:U8.late,seconds=2/content?a=b"},
        {"target": "/v1/files/fault%3AU8.late%2Cseconds%3D2/content"},
    ],
)
def test_fault_is_asked_for_by_header_model_user_or_path(asks: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"method": "GET", "target": "/v1/files/f", "headers": {}, "body": {}}
    script, request = find_fault(ReceivedRequest(**(plain | asks)))
    assert (script.name, request.options) == ("U8.late", {"seconds": 2.0})


def test_fault_that_is_not_known_is_refused_with_those_that_are() -> None:
    for spec in ("U99.nothing", "U8.late,soon"):
        with pytest.raises(ValueError, match=r"Known: good, U4\.reset"):
            catalogue.find(spec)


async def talk(address: str, *requests: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    writer.write("".join(requests).encode())
    writer.write_eof()
    heard = await reader.read()
    writer.close()
    await writer.wait_closed()
    return heard


async def test_each_request_is_logged_with_what_it_charges() -> None:
    log: list[dict[str, Any]] = []
    line = FaultServer("127.0.0.1", log.append)
    await line.start(0)
    try:
        body = '{"model":"m","stream":true}'
        head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n"
        ask = f"{head}x-client-request-id: call\r\nx-simulator-fault: "
        await talk(
            line.addresses["main"],
            *(f"{ask}{name}\r\n\r\n{body}" for name in ("good", "U18.503", "U99", "U7.close")),
        )
    finally:
        await line.stop()
    assert log[0] == {"event": "ready", **line.addresses}
    whole = {"input_tokens": wires.INPUT_TOKENS, "output_tokens": wires.OUTPUT_TOKENS}
    begun = {"input_tokens": wires.INPUT_TOKENS, "output_tokens": 2 * wires.PIECE_TOKENS}
    assert [(e["attempt"], e["script"], e["sold"], e["told"], e["ended"]) for e in log[1:]] == [
        (1, "good", whole, True, "complete"),
        (2, "U18.503", None, False, "complete"),
        (3, None, None, False, "complete"),
        (4, "U7.close", begun, False, "closed"),
    ]


async def test_port_that_refuses_and_port_that_says_nothing_do_so() -> None:
    line = FaultServer("127.0.0.1", lambda _: None)
    await line.start(0)
    try:
        with pytest.raises(ConnectionRefusedError):
            await talk(line.addresses["refused"])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await talk(line.addresses["blackhole"])
    finally:
        await line.stop()
