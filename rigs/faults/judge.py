"""The verdict over one call: from its answer, the provider's log and the receipts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headgate.relay.ports import Receipt
from headgate_simulator.fault_server.wires import CHAT, RAW, RESPONSES
from rigs.faults.cells import FAILED_WHOLE, FREE, PLACES, REPEATED, Cell
from rigs.faults.client import ReceivedResponse
from tests.fakes.gateway import PROVIDER_KEY

LATE_SECONDS = 2.0
"""How long past its deadline a call may last."""
ERROR_FIELDS = {"message", "type", "param", "code"}
LEAKS = ("set-cookie", "server: ", "via: ", "location: ")
CONNECTS = 3
"""Attempts to connect before a call fails."""
CODES = {504: "provider_timeout"}
BROKEN = "provider_invalid_response"
ENDS = {CHAT: b"data: [DONE]", RESPONSES: b"event: response.completed"}
OWN_WAIT_SECONDS_MAX = 60
ADVISED_SECONDS = {"U17.hour": 3600, "U17.date": 3500}
"""Seconds that the provider asks a client to wait, passed on however long; a date loses some."""


@dataclass
class Case:
    """Hold one call with all that is known of it."""

    cell: Cell
    tag: str
    response: ReceivedResponse
    entries: list[dict[str, Any]]
    receipts: list[Receipt]
    total_seconds: float


def judge(case: Case) -> list[str]:
    """Return what is wrong with the call, in sentences."""
    verdict, faults = name_verdict(case.cell, case.response)
    expected = case.cell.expected.verdicts(case.cell.wire, case.cell.streams)
    if verdict not in expected:
        faults.append(f"came to {verdict}, not {'|'.join(expected)}")
    faults += _check_heard(case)
    faults += _check_attempts(case)
    if len(case.receipts) != 1:
        faults.append(f"{len(case.receipts)} receipts")
    else:
        faults += _check_receipt(case, case.receipts[0], verdict)
    return faults


def name_verdict(cell: Cell, response: ReceivedResponse) -> tuple[str, list[str]]:
    """Return the verdict of the call (one of `cells`), and what is wrong with its form."""
    if response.status >= 400:
        source = response.headers.get("x-headgate-error-source")
        faults = list(_check_error(cell, response))
        return f"{'p' if source == 'provider' else ''}{response.status}", faults
    if not response.whole:
        return "cut", [] if cell.wire == RAW else [
            "a stream of events was cut without an error event"
        ]
    if response.status != 200:
        return str(response.status), []
    if not cell.streams or cell.wire == RAW:
        return "ok", []
    return _name_stream(cell, response)


def _check_own_error(
    cell: Cell, response: ReceivedResponse, error: dict[str, Any]
) -> Iterator[str]:
    code = CODES.get(response.status, "provider_unreachable" if cell.name in PLACES else BROKEN)
    if set(error) != ERROR_FIELDS or error["code"] != code:
        yield f"an error {sorted(error)} with the code {error.get('code')}"
    if response.headers.get("x-should-retry") != "false":
        yield "the SDK is not told to stop retrying"
    if "127.0.0.1" in error["message"]:
        yield "the provider's address reached the caller"
    if find_wait(response) > OWN_WAIT_SECONDS_MAX:
        yield "the gateway asks a client to wait for more than a minute"


def find_wait(response: ReceivedResponse) -> int:
    """Return the seconds that the client is asked to wait; 0 where it is not."""
    return int(response.headers.get("retry-after", "0"))


def _check_error(cell: Cell, response: ReceivedResponse) -> Iterator[str]:
    source = response.headers.get("x-headgate-error-source")
    if not response.whole or response.headers.get("content-type") != "application/json":
        yield "an error that is not JSON"
    error = response.error
    if error is None:
        yield f"an error that has not OpenAI's shape: {response.body[:80]!r}"
    elif source == "gateway":
        yield from _check_own_error(cell, response, error)
    if find_wait(response) < ADVISED_SECONDS.get(cell.name, 0):
        yield f"a client is asked to wait {find_wait(response)} s, less than the provider asks"


def _name_stream(cell: Cell, response: ReceivedResponse) -> tuple[str, list[str]]:
    body = response.body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events = [event for event in body.split(b"\n\n") if event.strip()]
    last = events[-1] if events else b""
    is_error = [_is_error(cell, event) for event in events]
    if ENDS[cell.wire] in last:
        return "ok", ["an error stands before the end"] if any(is_error) else []
    if not any(is_error):
        return "open", [f"the stream ends in {last[-80:]!r}"]
    faults = [] if is_error[-1] and sum(is_error) == 1 else ["the error frame is not the last"]
    if ENDS[cell.wire] in response.body:
        faults.append("a stream that failed has the last event of one that did not")
    return "frame", faults


def _is_error(cell: Cell, event: bytes) -> bool:
    """Return whether it is the wire's own error, as its SDK reads it."""
    name, _, data = event.rpartition(b"data: ")
    try:
        value = json.loads(data)
    except ValueError:
        return False
    if cell.wire == RESPONSES:
        fields = {"type", "code", "message", "param", "sequence_number", "error"}
        return name == b"event: error\n" and value["type"] == "error" and fields <= set(value)
    return name == b"" and isinstance(value.get("error"), dict) and "message" in value["error"]


def _check_heard(case: Case) -> Iterator[str]:
    response = case.response
    if response.seconds > case.total_seconds + LATE_SECONDS:
        yield f"took {response.seconds:.1f} s"
    if PROVIDER_KEY.encode() in response.head + response.body:
        yield "the provider's key reached the caller"
    leaked = [name for name in LEAKS if f"\n{name}" in response.head.decode("latin-1").lower()]
    if leaked:
        yield f"provider headers that reached the caller: {leaked}"


def _check_attempts(case: Case) -> Iterator[str]:
    least, most = case.cell.expected.attempts
    most = max(most, REPEATED.get(case.cell.name, 1)) if case.cell.wire == RAW else most
    if not least <= len(case.entries) <= most:
        yield f"{len(case.entries)} attempts at the provider, not {least} to {most}"
    if any(entry["place"] == "elsewhere" for entry in case.entries):
        yield "a redirect was followed"
    begun = [entry for entry in case.entries if entry["sold"]]
    if len(begun) > 1:
        yield "tried again after an answer had begun"


def _check_receipt(case: Case, receipt: Receipt, verdict: str) -> Iterator[str]:
    made = CONNECTS if case.cell.name in PLACES else len(case.entries)
    if receipt.attempts != made:
        yield f"{receipt.attempts} attempts are recorded, not {made}"
    last = case.entries[-1] if case.entries else {"sold": None, "told": False}
    usage = receipt.usage
    if verdict == "ok":
        fails = case.cell.name in FAILED_WHOLE and not case.cell.streams and case.cell.wire != RAW
        outcome = "upstream_error" if fails else "completed"
        if receipt.outcome != outcome or receipt.estimated != (
            receipt.managed and receipt.pricing == "unpriced"
        ):
            yield f"a whole answer is {receipt.outcome}, estimated {receipt.estimated}"
        if last["told"] and case.cell.wire != RAW:
            found = usage and {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
            }
            if found != last["sold"]:
                yield f"the provider charges {last['sold']}, the receipt has {found}"
        elif usage is not None or receipt.pricing == "priced":
            yield f"a usage that the provider never stated is recorded: {usage}"
    elif verdict in ("502", "504", "cut") or (verdict == "frame" and receipt.outcome == "unknown"):
        yield from _check_unknown(case, receipt)
    elif verdict.startswith("p") and (receipt.outcome, receipt.cost_nano) != ("upstream_error", 0):
        yield f"a refusal is {receipt.outcome}, {receipt.cost_nano} nano"


def _check_unknown(case: Case, receipt: Receipt) -> Iterator[str]:
    """Check a call that was lost: free if nobody worked on it, otherwise marked as an estimate."""
    if case.cell.name.startswith(FREE):
        if (receipt.outcome, receipt.cost_nano) != ("upstream_error", 0):
            yield f"a call that reached no provider is {receipt.outcome}, {receipt.cost_nano} nano"
    elif receipt.outcome != "unknown":
        yield f"a call that was lost is {receipt.outcome}"
    elif case.cell.wire != RAW and not (receipt.estimated and receipt.cost_nano):
        yield f"a call that was lost is {receipt.pricing}, estimated {receipt.estimated}"
