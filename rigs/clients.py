"""Hostile clients against a running gateway, while a healthy one keeps calling.

`python -m rigs.clients` runs them in full. Each attack exhausts one thing that a server has little
of: connections, memory, time. The table says how it ended, and what the healthy client noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream
from tests.fakes.waiting import wait_until

CHAT = b'{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"Hi"}]}'
ANSWER = b'{"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
STREAM_BYTES = 32 << 20
PIECE = b'data: {"choices":[{"delta":{"content":"' + b"x" * 16_300 + b'"}}]}\n\n'
SLACK_SECONDS = 2.0
MEBIBYTE = 1 << 20
UPLOAD_LIMIT_BYTES = 4 * MEBIBYTE
SOCKETS_MEBIBYTES = 7.0
"""Bytes that the kernel may buffer on a loopback connection, besides what the server reads."""


@dataclass(frozen=True)
class Plan:
    """Set the size of each attack, and the gateway's deadlines; None leaves the default."""

    heads: int = 1000
    bodies: int = 500
    readers: int = 200
    idle: int = 5000
    upload_bytes: int = 100 * MEBIBYTE
    first_request_seconds: float = 15.0
    header_seconds: float = 10.0
    body_grace_seconds: float = 10.0
    write_seconds: float = 60.0
    probe_seconds: float = 10.0
    pause_seconds: float = 0.02


QUICK = Plan(
    heads=60,
    bodies=30,
    readers=6,
    idle=200,
    upload_bytes=8 * MEBIBYTE,
    first_request_seconds=1.5,
    header_seconds=1.0,
    body_grace_seconds=1.0,
    write_seconds=2.0,
    probe_seconds=1.0,
)


@dataclass
class Figure:
    """Show one measured value beside its bar."""

    name: str
    reached: float
    bar: float
    unit: str
    n: int
    at_least: bool = False

    @property
    def is_good(self) -> bool:
        return self.reached >= self.bar if self.at_least else self.reached <= self.bar

    def render(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "ok" if self.is_good else "MISSED"
        return (
            f"{self.name:58} {self.reached:12.3f} {sign} {self.bar:9.3f} {self.unit:8} "
            f"n={self.n:<6} {verdict}"
        )


@dataclass
class Probe:
    """Call as a healthy client, in a thread: a new connection and a whole call each time."""

    port: int
    key: str
    pause_seconds: float
    seconds: list[float] = field(default_factory=list[float])
    failures: list[str] = field(default_factory=list[str])

    def ask(self) -> None:
        started = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as line:
                line.sendall(render_call(self.key, CHAT))
                answer = b""
                while data := line.recv(65_536):
                    answer += data
            if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(ANSWER):
                self.failures.append(answer[:200].decode("latin-1"))
        except OSError as error:
            self.failures.append(repr(error))
        self.seconds.append(time.monotonic() - started)

    @contextlib.contextmanager
    def running(self) -> Generator[None]:
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                self.ask()
                stop.wait(self.pause_seconds)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def p99(self) -> float:
        return statistics.quantiles(self.seconds, n=100)[-1] if len(self.seconds) > 1 else 0.0


def render_call(key: str, body: bytes, *, length: int | None = None) -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        b"authorization: Bearer %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        % (key.encode(), len(body) if length is None else length)
    ) + body


def read_resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


async def hold(port: int, first: bytes, drop: bytes, *, pause_seconds: float) -> float:
    """Send something, then drop by drop; return the seconds until the server closes."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(first)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    while await reader.read(65_536):
                        pass
                    return time.monotonic() - started
            if drop:
                writer.write(drop)
                await writer.drain()
    except OSError:
        return time.monotonic() - started
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def hold_many(count: int, port: int, first: bytes, drop: bytes) -> list[float]:
    return await asyncio.gather(
        *(hold(port, first, drop, pause_seconds=0.5 + at % 50 / 100) for at in range(count))
    )


class Rig:
    """Hold a gateway in front of a fake provider, its healthy client, and the figures so far."""

    def __init__(self, plan: Plan, gateway: Gateway, upstream: FakeUpstream) -> None:
        self.plan = plan
        self.gateway = gateway
        self.upstream = upstream
        self.figures: list[Figure] = []
        self.sending: list[list[int]] = []
        self.stalls: list[float] = []
        self.baseline = 0.0
        upstream.script = self.answer

    def answer(self, received: ReceivedRequest) -> None:
        if b'"stream"' not in received.body:
            received.answer(ANSWER)
            return
        sent, stalled, moved_at = [0], 0.0, time.monotonic()
        self.sending.append(sent)
        try:
            received.begin_stream()
            for _ in range(STREAM_BYTES // len(PIECE)):
                received.send_chunk(PIECE)
                sent[0] += len(PIECE)
                moved_at, before = time.monotonic(), moved_at
                stalled = max(stalled, moved_at - before)
            received.send_chunk(b"data: [DONE]\n\n")
            received.send_end()
        finally:
            self.stalls.append(max(stalled, time.monotonic() - moved_at))
            self.sending.remove(sent)

    def add(self, name: str, reached: float, bar: float, unit: str, n: int, **more: bool) -> None:
        self.figures.append(Figure(name, reached, bar, unit, n, **more))

    def probe(self) -> Probe:
        return Probe(self.gateway.port, self.gateway.key, self.plan.pause_seconds)

    async def measure_baseline(self) -> None:
        probe = self.probe()
        with probe.running():
            await asyncio.sleep(self.plan.probe_seconds)
        assert probe.failures == []
        self.baseline = probe.p99()

    async def attack(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run an attack, and record what the healthy client noticed of it."""
        probe = self.probe()
        with probe.running():
            await work()
        count = len(probe.seconds)
        good = 100 * (count - len(probe.failures)) / count
        self.add(f"{name}: healthy calls that succeed", good, 99.9, "%", count, at_least=True)
        ratio = probe.p99() / self.baseline
        self.add(f"{name}: healthy p99 to that of a quiet time", ratio, 2.0, "x", count)

    async def slow_heads(self) -> None:
        count, port = self.plan.heads, self.gateway.port
        first = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        seconds = await hold_many(count, port, first, b"x-a: b\r\n")
        bar = self.plan.header_seconds + SLACK_SECONDS
        self.add("C1 slow head: longest until closed", max(seconds), bar, "s", count)

    async def slow_bodies(self) -> None:
        count, port = self.plan.bodies, self.gateway.port
        first = render_call(self.gateway.key, b"", length=100_000)
        seconds = await hold_many(count, port, first, b" ")
        bar = self.plan.body_grace_seconds + SLACK_SECONDS
        self.add("C2 slow body: longest until closed", max(seconds), bar, "s", count)

    async def slow_readers(self) -> None:
        """Attack with clients that never read; they connect before memory is measured."""
        count, pid = self.plan.readers, self.gateway.process.pid
        body = CHAT[:-1] + b',"stream":true}'
        lines: list[socket.socket] = []
        try:
            for _ in range(count):
                line = socket.socket()
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                line.connect(("127.0.0.1", self.gateway.port))
                lines.append(line)
            before = read_resident_bytes(pid)
            for line in lines:
                line.sendall(render_call(self.gateway.key, body))
            await asyncio.sleep(self.plan.write_seconds / 2)
            held = (read_resident_bytes(pid) - before) / count / 1024
            self.add("C3 slow reader: memory for each", held, 128.0, "KiB", count)
            most = max((sent[0] for sent in self.sending), default=STREAM_BYTES) / MEBIBYTE
            self.add("C3 slow reader: most that the provider could send", most, 12.0, "MiB", count)
            await asyncio.to_thread(
                wait_until, lambda: not self.sending, 5 * self.plan.write_seconds + 10
            )
            bar = 1.5 * self.plan.write_seconds + SLACK_SECONDS
            self.add("C3 slow reader: longest stall until cut", max(self.stalls), bar, "s", count)
        finally:
            for line in lines:
                line.close()

    async def idle(self) -> None:
        count, port = self.plan.idle, self.gateway.port
        seconds = await hold_many(count, port, b"", b"")
        bar = self.plan.first_request_seconds + SLACK_SECONDS
        self.add("C4 idle connection: longest until closed", max(seconds), bar, "s", count)

    async def uploads(self) -> None:
        """Attack with bodies that are too large, announced and not, with a key and without."""
        size, pid = self.plan.upload_bytes, self.gateway.process.pid
        for who, key in (("with a key", self.gateway.key), ("without a key", "hg_live_none")):
            before = read_resident_bytes(pid)
            announced = await asyncio.to_thread(self.upload, render_call(key, b"", length=size))
            # Sockets and one read buffer some of it before the limit is checked.
            self.add(f"C5 {who}: MiB taken of 100 announced", announced, 2.0, "MiB", 1)
            head = render_call(key, b"", length=0).replace(
                b"content-length: 0", b"transfer-encoding: chunked"
            )
            taken = await asyncio.to_thread(self.upload, head, chunked=True)
            limit = UPLOAD_LIMIT_BYTES if key == self.gateway.key else 64 * 1024
            bar = limit / MEBIBYTE + SOCKETS_MEBIBYTES
            self.add(f"C5 {who}: MiB taken of an endless one", taken, bar, "MiB", 1)
            grown = (read_resident_bytes(pid) - before) / MEBIBYTE
            self.add(f"C5 {who}: growth of memory", grown, 8.0, "MiB", 2)

    def upload(self, head: bytes, *, chunked: bool = False) -> float:
        """Return how many bytes are taken until the server answers and closes."""
        piece = b"x" * 16_384
        data = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
        sent, answer = 0, b""
        with socket.create_connection(("127.0.0.1", self.gateway.port), timeout=20) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
            line.sendall(head)
            with contextlib.suppress(OSError):
                while sent < self.plan.upload_bytes:
                    sent += line.send(data)
            with contextlib.suppress(OSError):
                answer = line.recv(65_536)
        assert not answer or answer.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 401 ")), answer
        return sent / MEBIBYTE


async def run(rig: Rig) -> list[Figure]:
    """Run every attack, one after the other."""
    await rig.measure_baseline()
    await rig.attack("C1", rig.slow_heads)
    await rig.attack("C2", rig.slow_bodies)
    await rig.attack("C3", rig.slow_readers)
    await rig.attack("C4", rig.idle)
    await rig.attack("C5", rig.uploads)
    return rig.figures


def measure(plan: Plan, folder: Path) -> list[Figure]:
    """Run a plan against a gateway of its own."""
    with (
        running_upstream() as upstream,
        running_gateway(
            folder / "data",
            provider_url=upstream.base_url,
            first_request_seconds=plan.first_request_seconds,
            header_seconds=plan.header_seconds,
            body_grace_seconds=plan.body_grace_seconds,
            write_seconds=plan.write_seconds,
            json_body_bytes_max=UPLOAD_LIMIT_BYTES,
            access_log="false",
        ) as gateway,
    ):
        return asyncio.run(run(Rig(plan, gateway, upstream)))


def main() -> int:
    plan = QUICK if "--quick" in sys.argv[1:] else Plan()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(plan, Path(folder))
    for figure in figures:
        print(figure.render())
    return 0 if all(figure.is_good for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
