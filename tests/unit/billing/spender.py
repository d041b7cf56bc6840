"""A process that spends from a wallet for the tests: `spender.py PLACE NAME ATTEMPTS`.

It holds one unit for each attempt, settles every other hold, and prints how many it was granted.
With ATTEMPTS 0 it goes on until it is killed, and prints a line for every answer it completed.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

import msgspec

from headgate.billing.model.ledger import make_unknown_receipt
from headgate.billing.model.refusals import InsufficientFundsError
from headgate.billing.service.ledger import Ledger
from headgate.kit import outbox
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from headgate.kit.db.writer import Writer
from headgate.relay.ports import Hold

CALLERS = 50


async def spend(ledger: Ledger, request_id: str, *, settles: bool) -> bool:
    hold = Hold(request_id, "org_1", 1)
    try:
        await ledger.hold(hold)
    except InsufficientFundsError:
        return False
    if settles:
        receipt = make_unknown_receipt(hold, created_at=1.0)
        await ledger.record(msgspec.structs.replace(receipt, outcome="completed"), hold)
    return True


async def main(place: str, name: str, attempts: int) -> None:
    database = Database(place if "://" in place else Path(place), busy_timeout_seconds=20.0)
    writer = Writer(database)
    writer.start()
    ledger = Ledger(
        writer,
        SystemClock(),
        read_wanted=outbox.want_nothing,
        now=database.read_clock(),
    )
    numbers = iter(range(attempts)) if attempts else itertools.count()

    async def call_on() -> int:
        granted = 0
        for number in numbers:
            settles = attempts == 0 or number % 2 == 0
            granted += await spend(ledger, f"req_{name}_{number}", settles=settles)
            if attempts == 0:
                sys.stdout.write(f"req_{name}_{number}\n")
                sys.stdout.flush()
        return granted

    granted = await asyncio.gather(*[call_on() for _ in range(CALLERS)])
    await writer.stop()
    sys.stdout.write(f"{sum(granted)}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
