"""A client that does not read its stream, and how much its provider can send meanwhile."""

from __future__ import annotations

import socket
import threading

from tests.fakes.gateway import Gateway
from tests.fakes.raw_client import RawClient
from tests.fakes.upstream import FakeUpstream, ReceivedRequest
from tests.fakes.waiting import wait_until

CHAT = b'{"model":"gpt-5.4-mini","messages":[],"stream":true}'
PIECE = b"data: %b\n\n" % (b"x" * 65_536)
SENT_BYTES_MAX = 3 << 20
STALL_SECONDS = 0.5


def test_provider_is_slowed_down_by_a_client_that_does_not_read(
    upstream: FakeUpstream, gateway: Gateway
) -> None:
    sent, stalled = [0], threading.Event()

    def answer(received: ReceivedRequest) -> None:
        received.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        received.begin_stream()
        received.connection.settimeout(STALL_SECONDS)
        try:
            while sent[0] < 8 * SENT_BYTES_MAX:
                received.send_chunk(PIECE)
                sent[0] += len(PIECE)
        except TimeoutError:
            stalled.set()
        received.close()

    upstream.script = answer
    with RawClient(gateway.port, gateway.key, receive_bytes=4096) as client:
        client.ask(body=CHAT)
        wait_until(stalled.is_set, 20)
    assert sent[0] < SENT_BYTES_MAX
