"""A connection of the egress client without a socket, with a recording transport and a manual
clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, cast

from bench.in_process import QUIET
from headgate.kit.http.connection import HeadLimits, UpstreamConnection


class ManualLoop:
    """Wrap the running loop with a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._loop = asyncio.get_running_loop()

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(callback)

    def create_future(self) -> asyncio.Future[Any]:
        return self._loop.create_future()

    def create_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._loop.create_task(work)


class OpenedTransport:
    """Stand in for a new transport, whose socket records its options."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int, int]] = []

    def get_extra_info(self, name: str) -> OpenedTransport:
        assert name == "socket"
        return self

    def fileno(self) -> int:
        return QUIET.fileno()

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options.append((level, option, value))


class RecordingTransport(asyncio.Transport):
    """Record every send apart. As asyncio's transport, it reports its end on a later turn."""

    def __init__(self, connection: UpstreamConnection) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading: list[bool] = []
        self.aborts = 0
        self.buffered = 0
        self._connection = connection
        connection.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return QUIET if name == "socket" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.written.append(b"".join(list_of_data))

    def pause_reading(self) -> None:
        self.reading.append(False)

    def resume_reading(self) -> None:
        self.reading.append(True)

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def abort(self) -> None:
        self.aborts += 1
        asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)


class RecordingPool:
    """Record the connections that are given back."""

    def __init__(self) -> None:
        self.released: list[UpstreamConnection] = []
        self.forgotten: list[UpstreamConnection] = []

    def release(self, connection: UpstreamConnection) -> None:
        self.released.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        self.forgotten.append(connection)


class Rig:
    """Hold a connection with its loop, pool and transport."""

    def __init__(self, limits: HeadLimits | None = None) -> None:
        self.loop = ManualLoop()
        self.owner = RecordingPool()
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        self.connection = UpstreamConnection(loop, self.owner, limits or HeadLimits())
        self.transport = RecordingTransport(self.connection)
