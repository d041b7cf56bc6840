"""The judge: joins what clients received, what the provider charged and what the database says."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import copy
from typing import Any

import msgspec
import psycopg

Read = Callable[[str], list[tuple[Any, ...]]]
"""A function that runs a query on the database."""

VERDICTS = {
    "L0": "billed and never charged by the provider",
    "L1": "complete and not billed, or at another price",
    "L2": "billed twice, or other than its receipt says",
    "L3": "billed above its hold",
    "L4": "entries that do not sum to 0",
    "L5": "a balance that is not the sum of its entries",
    "L6": "a hold that nobody resolved",
    "L7": "a balance below 0",
    "L8": "an event lost, or one too many",
    "L9": "not exactly the calls that a limit covers",
    "B1": "a budget whose counter is not the sum of its receipts",
    "B2": "a budget that is used above its limit",
    "B3": "held for a budget while no call runs",
    "B4": "a refusal that names another limit, or one that covers the call",
    "R1": "a provider called more than twice for one idempotency key, or twice without need",
    "R2": "an idempotency key that was billed twice, or answered in two ways",
    "T1": "a duration that cannot be",
    "DB": "a database that is damaged",
}


class Answer(msgspec.Struct, frozen=True):
    """Identify an answer that a client received whole, by the gateway's and the provider's id."""

    request_id: str
    answer_id: str


class Finding(msgspec.Struct, frozen=True):
    """Describe something that must not be; `verdict` is one of `VERDICTS`."""

    verdict: str
    text: str


def judge(
    read: Read, answers: Iterable[Answer], charges: Mapping[str, int], *, has_events: bool = True
) -> list[Finding]:
    """Return everything that is wrong when all is quiet: no call runs, the last start has cleaned
    up.

    `charges` are the nano-dollars of every answer that the provider began, by its id.
    """
    return [
        *judge_answers(read, answers, charges),
        *judge_bills(read),
        *judge_ledger(read),
        *(judge_events(read) if has_events else ()),
        *_find(read, "L6", "SELECT request_id FROM holds WHERE state = 'held'"),
    ]


def judge_answers(
    read: Read, answers: Iterable[Answer], charges: Mapping[str, int]
) -> Iterable[Finding]:
    """Compare whole answers with receipts, and receipts with charges."""
    rows = read("SELECT request_id, outcome, answer_id, cost_nano FROM receipts")
    receipts = {row[0]: row[1:] for row in rows}
    for answer in answers:
        receipt = receipts.get(answer.request_id)
        wanted = ("completed", answer.answer_id, charges.get(answer.answer_id))
        if receipt != wanted:
            yield Finding("L1", f"{answer.request_id}: {receipt}, not {wanted}")
    billed: set[str] = set()
    for request_id, (outcome, answer_id, _) in receipts.items():
        if outcome != "completed":
            continue
        if answer_id in billed:
            yield Finding("L2", f"{answer_id} is billed again by {request_id}")
        billed.add(answer_id)
        if answer_id not in charges:
            yield Finding("L0", f"{request_id} bills {answer_id}")


def judge_bills(read: Read) -> Iterable[Finding]:
    """Compare managed receipts with their entries and their holds."""
    paid = dict(
        read(
            "SELECT request_id, sum(amount_nano) FROM entries "
            "WHERE account_id LIKE '%:revenue' GROUP BY request_id"
        )
    )
    held = dict(read("SELECT request_id, amount_nano FROM holds"))
    for request_id, cost in read("SELECT request_id, cost_nano FROM receipts WHERE managed = 1"):
        amount = paid.pop(request_id, 0)
        if amount != cost:
            yield Finding("L2", f"{request_id} costs {cost}, and {amount} were paid")
        if amount > held.get(request_id, 0):
            yield Finding("L3", f"{request_id} paid {amount} of {held.get(request_id)} held")
    for request_id, amount in paid.items():
        yield Finding("L2", f"{request_id} paid {amount} without a receipt")


def judge_ledger(read: Read) -> Iterable[Finding]:
    """Check the ledger by itself; correct at any moment, also when calls run."""
    yield from _find(
        read,
        "L4",
        "SELECT transaction_id, sum(amount_nano) FROM entries "
        "GROUP BY transaction_id HAVING sum(amount_nano) <> 0",
    )
    yield from _find(
        read,
        "L5",
        "SELECT a.id, a.balance_nano, coalesce(sum(e.amount_nano), 0) FROM ledger_accounts a "
        "LEFT JOIN entries e ON e.account_id = a.id "
        "GROUP BY a.id HAVING a.balance_nano <> coalesce(sum(e.amount_nano), 0)",
    )
    yield from _find(
        read,
        "L5",
        "SELECT a.id, a.balance_nano FROM ledger_accounts a WHERE a.kind = 'held' "
        "AND a.balance_nano <> (SELECT coalesce(sum(amount_nano), 0) FROM holds h "
        "WHERE h.organization_id = a.organization_id AND h.state = 'held' AND h.managed = 1)",
    )
    yield from _find(
        read,
        "L7",
        "SELECT id, balance_nano FROM ledger_accounts "
        "WHERE balance_nano < 0 AND kind IN ('wallet', 'held')",
    )


def judge_events(read: Read) -> Iterable[Finding]:
    """Check that there is one event for each receipt."""
    yield from _find(
        read,
        "L8",
        "SELECT request_id FROM receipts WHERE 'request.completed:' || request_id NOT IN "
        "(SELECT id FROM outbox)",
    )
    yield from _find(
        read,
        "L8",
        "SELECT id FROM outbox WHERE id LIKE 'request.completed:%' "
        "AND substr(id, 19) NOT IN (SELECT request_id FROM receipts)",
    )


def _find(read: Read, verdict: str, query: str) -> Iterable[Finding]:
    for row in read(query):
        yield Finding(verdict, " ".join(map(str, row)))


def judge_file(
    place: Path | str,
    answers: Iterable[Answer],
    charges: Mapping[str, int],
    *,
    has_events: bool = True,
) -> list[Finding]:
    """Judge a database that nobody uses now."""
    with opened(place) as read:
        return judge(read, answers, charges, has_events=has_events)


@contextmanager
def opened(place: Path | str) -> Generator[Read]:
    """Open the SQLite file at a path, or the PostgreSQL database at a URL, to read one state."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(place, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            yield _reader(connection)
        return
    with closing(psycopg.connect(place)) as server:
        server.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        yield lambda query: server.execute(query.encode()).fetchall()


def check_after_crash(path: Path) -> list[Finding]:
    """Return what is wrong with the files of a dead server; on a copy, so that the next start finds
    them as they were.
    """
    with tempfile.TemporaryDirectory() as folder:
        for file in path.parent.glob(f"{path.name}*"):
            copy(file, folder)
        with closing(sqlite3.connect(Path(folder) / path.name)) as connection:
            read = _reader(connection)
            found = [row[0] for row in read("PRAGMA integrity_check")]
            damage = [] if found == ["ok"] else [Finding("DB", text) for text in found]
            return [*damage, *judge_ledger(read)]


def _reader(connection: sqlite3.Connection) -> Read:
    return lambda query: connection.execute(query).fetchall()
