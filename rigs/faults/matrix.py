"""The calls of the matrix, and the joining of what is known of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headgate_simulator.fault_server.wires import (
    CHAT,
    EMBEDDING_MODEL,
    EMBEDDINGS,
    MODEL,
    RAW,
    RESPONSES,
)
from rigs.faults import client
from rigs.faults.cells import PLACES, Cell
from rigs.faults.client import ReceivedResponse
from rigs.faults.harness import DEADLINES, FaultHarness
from rigs.faults.judge import Case, judge

AT_ONCE = 24
SETTLE_SECONDS = 10.0
RSS_GROWTH_BYTES_MAX = 16 << 20

_BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    CHAT: ("/v1/chat/completions", {"model": MODEL, "messages": [], "max_completion_tokens": 200}),
    RESPONSES: ("/v1/responses", {"model": MODEL, "input": "Hi", "max_output_tokens": 200}),
    EMBEDDINGS: ("/v1/embeddings", {"model": EMBEDDING_MODEL, "input": "Hi"}),
}


class Matrix:
    """Run cells. `failures` has what was wrong, by cell; `seconds` and `peaks` (bytes of memory
    above the level before, for cells run alone) the figures.
    """

    def __init__(
        self, harness: FaultHarness, total_seconds: float = float(DEADLINES["total_seconds"])
    ) -> None:
        self._stage = harness
        self._total_seconds = total_seconds
        self._heard: list[tuple[Cell, str, ReceivedResponse]] = []
        self.peaks: dict[Cell, int] = {}

    def run(self, cells: Iterable[Cell]) -> None:
        """Call every cell, several at once."""
        asyncio.run(self._run(list(cells)))

    def run_alone(self, cells: Iterable[Cell]) -> None:
        """Call the cells one by one, and record the gateway's peak memory for each."""
        process = Path(f"/proc/{self._stage.gateway.process.pid}")
        for cell in cells:
            (process / "clear_refs").write_text("5")  # resets the peak
            before = read_memory(process, "VmRSS")
            asyncio.run(self._run([cell]))
            self.peaks[cell] = read_memory(process, "VmHWM") - before

    def judge(self) -> list[tuple[Case, list[str]]]:
        """Yield every call with its faults, once all traces of it are there."""
        expected = {tag for _, tag, _ in self._heard}
        deadline = time.monotonic() + SETTLE_SECONDS
        while not expected <= self._stage.receipts().keys() and time.monotonic() < deadline:
            time.sleep(0.1)
        self._wait_for_log(deadline)
        entries, receipts = self._stage.entries(), self._stage.receipts()
        judged: list[tuple[Case, list[str]]] = []
        for cell, tag, response in self._heard:
            found = entries.get(tag, []), receipts.get(tag, [])
            case = Case(cell, tag, response, *found, self._total_seconds)
            faults = judge(case)
            peak = self.peaks.get(cell, 0)
            if peak > RSS_GROWTH_BYTES_MAX:
                faults.append(f"took {peak >> 20} MiB of memory")
            judged.append((case, faults))
        return judged

    def find_leaks(self) -> list[str]:
        """Return what is still not as before ten seconds after the last call."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (leaks := self._stage.find_leaks()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return leaks

    def _wait_for_log(self, deadline: float) -> None:
        """Wait for the provider's log: it notices a disconnect a moment after its caller."""
        wanted = {tag for cell, tag, _ in self._heard if cell.expected.attempts[0]}
        while not wanted <= self._stage.entries().keys() and time.monotonic() < deadline:
            time.sleep(0.1)

    async def _run(self, cells: list[Cell]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def call(cell: Cell) -> None:
            tag = f"cell-{next(self._stage.numbers)}"
            request = render(cell, tag, self._stage.gateway.key)
            async with gate:
                response = await client.ask(self._stage.gateway.port, request)
            self._heard.append((cell, tag, response))

        await asyncio.gather(*(call(cell) for cell in cells))


def render(cell: Cell, tag: str, key: str) -> bytes:
    """Return the request of a cell: on the managed credential where there is something to pay."""
    place = PLACES.get(cell.name, "main")
    spec = "" if cell.name in PLACES else f"fault:{cell.spec}"
    headers = {
        "authorization": f"Bearer {key}",
        "x-headgate-credential": f"{'own' if cell.wire == RAW else 'managed'}-{place}",
        "x-headgate-correlation-id": tag,
        "x-client-request-id": tag,
    }
    if cell.wire == RAW:
        where = spec or "fault:good"
        if cell.streams:
            target, body = f"/v1/threads/{where}/runs", {"stream": True}
            return client.render("POST", target, headers, body)
        return client.render("GET", f"/v1/files/{where}/content", headers)
    target, body = _BODIES[cell.wire]
    body = {**body, "user": spec} | ({"stream": True} if cell.streams else {})
    return client.render("POST", target, headers, body)


def read_memory(process: Path, field: str) -> int:
    """Return a field such as VmRSS of a process, in bytes."""
    for line in (process / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc has no {field}.")
