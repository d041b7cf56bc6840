"""Attack with many large bodies at once, and measure the gateway's memory.

    python -m rigs.bodies --callers 2048 --mebibytes 64 --bound 256

Starts a server of its own whose provider answers nothing, announces and sends the bodies over many
connections, and prints the answers and the peak memory of the process beside its bound.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import tempfile
import time
from pathlib import Path

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.upstream import running_upstream

MEBIBYTE = 1 << 20
PIECE = b"x" * 65536
START = b'{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"'


async def send_body(gateway: Gateway, size: int, *, chunked: bool) -> str:
    """Send one body; return the status, or how the connection ended."""
    length = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % size
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %b\r\n"
    head = head % gateway.key.encode() + b"content-type: application/json\r\n%b\r\n\r\n" % length
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    except OSError:
        return "no connection"
    answer = asyncio.ensure_future(reader.read(12))
    try:
        writer.write(head)
        left = size
        while left > 0 and not answer.done():
            piece = START if left == size else PIECE
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            left -= len(piece)
            await writer.drain()
        return (await answer)[9:12].decode() or "closed"
    except OSError:
        await asyncio.wait([answer])
        return "reset" if answer.exception() else answer.result()[9:12].decode() or "closed"
    finally:
        answer.cancel()
        with contextlib.suppress(OSError):
            writer.close()


def read_memory(gateway: Gateway, name: str) -> int:
    """Return a line of the process's status, in bytes."""
    for line in Path(f"/proc/{gateway.process.pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


async def attack(gateway: Gateway, callers: int, size: int, *, seconds: float) -> None:
    """Send all bodies at once, half of them without a length."""
    before, began = read_memory(gateway, "VmRSS"), time.monotonic()
    tasks = [
        asyncio.create_task(send_body(gateway, size, chunked=number % 2 == 1))
        for number in range(callers)
    ]
    done, waiting = await asyncio.wait(tasks, timeout=seconds)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    ends = collections.Counter(task.result() for task in done)
    print(f"{callers} callers, {size // MEBIBYTE} MiB each, {time.monotonic() - began:.1f} s")
    print(f"answers: {dict(ends)}, still sending or held: {len(waiting)}")
    peak = read_memory(gateway, "VmHWM")
    print(f"memory: {before / MEBIBYTE:.0f} MiB before, {peak / MEBIBYTE:.0f} MiB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=2048)
    parser.add_argument("--mebibytes", type=int, default=64)
    parser.add_argument("--bound", type=int, default=256, help="HEADGATE_BODIES_BYTES_MAX, in MiB")
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_upstream() as upstream,
        running_gateway(
            Path(folder) / "data",
            provider_url=upstream.base_url,
            bodies_bytes_max=given.bound * MEBIBYTE,
        ) as gateway,
    ):
        upstream.script = lambda received: received.answer(b'{"id":"x"}')
        size = given.mebibytes * MEBIBYTE
        asyncio.run(attack(gateway, given.callers, size, seconds=given.seconds))
        print(f"healthy afterwards: {gateway.process.poll() is None}")


if __name__ == "__main__":
    main()
