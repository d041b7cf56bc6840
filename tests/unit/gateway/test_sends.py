"""How often the sockets of one call are written to, on both sides of a whole gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench import calls, traffic
from bench.in_process import Gateway, TimelessLoop, running_gateway

ANSWER = calls.make_answer(1023)


def run(data: Path, work: Callable[[Gateway], Awaitable[None]]) -> None:
    async def around() -> None:
        async with running_gateway(data) as gateway:
            await work(gateway)

    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        runner.run(around())


def request(gateway: Gateway, kind: traffic.Kind) -> bytes:
    return traffic.render_request(kind, traffic.Address(80, key=gateway.key))


def test_call_is_one_send_on_each_side(tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        for count, kind in enumerate((traffic.SMALL, traffic.LARGE), start=1):
            gateway.send(request(gateway, kind))
            sent = await gateway.provider.transport.take()
            assert sent.endswith(traffic.render_body(kind))
            gateway.provider.send(ANSWER)
            answered = await gateway.client.take()
            assert answered.endswith(ANSWER.partition(b"\r\n\r\n")[2])
            assert (gateway.provider.transport.sends, gateway.client.sends) == (count, count)

    run(tmp_path, work)


def test_answers_of_requests_that_came_together_keep_their_order(tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        no_key = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
        no_json = request(gateway, traffic.SMALL).replace(b'{"model"', b'["model"', 1)
        gateway.send(no_key + no_json + no_key)
        answered = await gateway.client.take(lambda written: written.count(b"HTTP/1.1 ") == 3)
        assert [part[:3] for part in answered.split(b"HTTP/1.1 ")[1:]] == [b"401", b"400", b"401"]

    run(tmp_path, work)


def test_events_read_together_are_sent_together(tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        gateway.send(request(gateway, traffic.STREAM))
        await gateway.provider.transport.take()
        gateway.provider.send(calls.STREAM_HEAD)
        await gateway.client.take()
        before = gateway.client.sends
        events = [calls.make_event(number) for number in range(7)]
        gateway.provider.send(b"".join(events))
        assert gateway.client.peek() == b""
        await gateway.settle()
        assert gateway.client.peek() == b"".join(events)
        assert gateway.client.sends == before + 1

    run(tmp_path, work)


def test_last_event_and_end_of_stream_are_sent_together(tmp_path: Path) -> None:
    async def work(gateway: Gateway) -> None:
        gateway.send(request(gateway, traffic.STREAM))
        await gateway.provider.transport.take()
        gateway.provider.send(calls.STREAM_HEAD + calls.make_event(1))
        await gateway.client.take(lambda written: b"word1" in written)
        before = gateway.client.sends
        gateway.provider.send(calls.STREAM_END + b"0\r\n\r\n")
        end = await gateway.client.take(lambda written: b"[DONE]" in written)
        assert end.endswith(b"0\r\n\r\n")
        # The usage went on when it came; what completes the answer waited for its receipt.
        assert gateway.client.sends <= before + 2
        assert len(gateway.read_receipts(2)) == 1

    run(tmp_path, work)
