"""Callers that leave in the middle of a stream, many times.

`python -m rigs.disconnects [TIMES]`: 2,000 by default, half under each disconnect policy, on chat
and on responses, after every number of events from 0 to 20, eight at a time. The provider sends an
event whenever the last one was taken, and reports at the end what it charges. Fails unless each
call has exactly one receipt, every drained one is exact, no cancelled one is free or above what was
delivered, no more drains run than may, and nothing is left open.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.raw_client import RawClient
from tests.fakes.server_database import ServerDatabase
from tests.fakes.upstream import ReceivedRequest, running_upstream
from tests.fakes.waiting import wait_until

EVENTS = 20
CALLERS = 8
DRAINS_MAX = 4
INPUT_TOKENS, OUTPUT_TOKENS = 1000, 100
TEXT = "word " * 4
PATHS = ("/v1/chat/completions", "/v1/responses")
POLICIES = ("cancel", "drain")


def render_event(path: str) -> bytes:
    """Return an event with `TEXT` in the wire of a path."""
    if path == PATHS[0]:
        data: dict[str, Any] = {"model": "gpt-5.4-mini", "choices": [{"delta": {"content": TEXT}}]}
        return b"data: %b\n\n" % json.dumps(data).encode()
    data = {"type": "response.output_text.delta", "delta": TEXT}
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), json.dumps(data).encode())


def render_ending(path: str) -> bytes:
    """Return the last event, with the usage that the provider charges."""
    if path == PATHS[0]:
        usage = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS}
        data: dict[str, Any] = {"model": "gpt-5.4-mini", "choices": [], "usage": usage}
        return b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(data).encode()
    usage = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, "total_tokens": 1100}
    response = {"id": "r", "model": "gpt-5.4-mini", "status": "completed", "usage": usage}
    data = {"type": "response.completed", "response": response}
    return b"event: response.completed\ndata: %b\n\n" % json.dumps(data).encode()


@dataclass
class Case:
    """Describe one caller: its policy, its stream, and after how many events it leaves."""

    number: int
    policy: str
    path: str
    events: int
    sent: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)


class Provider:
    """Stream by the case that a call names, to the end even when its caller has left."""

    def __init__(self, cases: list[Case]) -> None:
        self.cases = cases

    def __call__(self, received: ReceivedRequest) -> None:
        case = self.cases[int(received.json["user"])]
        received.begin_stream()
        for _ in range(case.events):
            received.send_chunk(render_event(case.path))
        case.sent.set()
        case.left.wait(30)
        for _ in range(case.events, EVENTS):
            received.send_chunk(render_event(case.path))
        received.send_chunk(render_ending(case.path))
        received.send_end()


def make_cases(times: int) -> list[Case]:
    """Yield every combination of policy, wire and number of events in turn."""
    return [
        Case(n, POLICIES[n % 2], PATHS[n // 2 % 2], n // 4 % (EVENTS + 1)) for n in range(times)
    ]


def leave(gateway: Gateway, case: Case, key: str) -> None:
    """Call, read as far as the case says, and disconnect."""
    with RawClient(gateway.port, key) as client:
        body = {"model": "gpt-5.4-mini", "stream": True, "user": str(case.number)}
        rest: dict[str, Any] = {"messages": []} if case.path == PATHS[0] else {"input": "hello"}
        client.ask(case.path, body | rest, x_headgate_correlation_id=f"case-{case.number}")
        assert client.read_head() == 200
        for _ in range(case.events):
            assert client.read_piece()
        assert case.sent.wait(30)


def read_gauge(gateway: Gateway, name: str) -> int:
    found = re.search(rf"^headgate_{name} (\d+)", gateway.metrics(), re.MULTILINE)
    assert found, name
    return int(found[1])


def is_quiet(gateway: Gateway) -> bool:
    """Return whether nothing is under way but this request itself."""
    busy = read_gauge(gateway, "provider_connections") - read_gauge(
        gateway, "provider_connections_idle"
    )
    return (read_gauge(gateway, "requests_in_flight"), busy) == (1, 0)


def judge(case: Case, receipt: dict[str, Any]) -> str:
    """Return what is wrong with the receipt of a case; empty if nothing is."""
    usage: dict[str, int] = receipt["usage"] or {}
    if receipt["cost_nano"] <= 0:
        return "free"
    if receipt["outcome"] == "completed" or not receipt["estimated"]:
        # A cancelled one is exact, too, when its usage was here already and its end was not.
        exact = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
        return "" if usage == exact and not receipt["estimated"] else "not exact"
    if receipt["outcome"] != "cancelled":
        return receipt["outcome"]
    delivered = -(-len(TEXT) * case.events // 4)
    most = -(-len(TEXT) * EVENTS // 4)
    is_fair = delivered <= usage.get("output_tokens", 0) <= most
    return "" if is_fair else "not what was delivered"


def run(folder: Path, times: int) -> dict[str, Any]:
    """Return the figures of so many callers; `faults` is empty if all is well."""
    cases = make_cases(times)
    drains: list[int] = []
    with (
        running_upstream() as upstream,
        running_gateway(
            folder / "data",
            provider_url=upstream.base_url,
            access_log="false",
            drains_max=DRAINS_MAX,
            breaker_failures=0,
        ) as gateway,
    ):
        upstream.script = Provider(cases)
        keys = {policy: make_key(gateway, policy) for policy in POLICIES}

        def run(case: Case) -> None:
            leave(gateway, case, keys[case.policy])
            drains.append(read_gauge(gateway, "drains"))
            case.left.set()

        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(run, cases))
        wait_until(lambda: is_quiet(gateway), 30)
        server_database = ServerDatabase(gateway.data)
        receipts = [row for row in server_database.receipts() if row["correlation_id"]]
        held = server_database.read("SELECT count(*) AS n FROM holds WHERE state = 'held'")[0]["n"]
    by_case: dict[str, list[dict[str, Any]]] = {}
    for receipt in receipts:
        by_case.setdefault(receipt["correlation_id"], []).append(receipt)
    faults: Counter[str] = Counter()
    for case in cases:
        found = by_case.get(f"case-{case.number}", [])
        fault = judge(case, found[0]) if len(found) == 1 else f"{len(found)} receipts"
        if fault:
            faults[f"{case.policy}: {fault}"] += 1
    if max(drains) > DRAINS_MAX:
        faults["more drains than may be"] += 1
    if held:
        faults["holds left"] += held
    outcomes = Counter(f"{row['outcome']}, estimated {row['estimated']}" for row in receipts)
    return {
        "callers": times,
        "receipts": dict(outcomes),
        "drains_at_most": max(drains),
        "holds_left": held,
        "faults": dict(faults),
    }


def make_key(gateway: Gateway, policy: str) -> str:
    """Make a key with a disconnect policy, and wait until the gateway knows it."""
    created: subprocess.CompletedProcess[str] = gateway.run(
        "keys", "create", "--on-disconnect", policy
    )
    key = created.stdout.strip()

    def is_known() -> bool:
        with RawClient(gateway.port, key) as client:
            client.ask("/v1/realtime")
            return client.read_answer()[0] != 401

    wait_until(is_known)
    return key


def main(times: int = 2000) -> int:
    """Run the rig; return 0 if there is no fault."""
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), times)
    print(json.dumps(figures, indent=2))
    return 1 if figures["faults"] else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
