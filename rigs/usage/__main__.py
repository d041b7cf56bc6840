"""`python -m rigs.usage`: queries of usage over ten million receipts, on each database."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import msgspec
import sqlalchemy as sa

from headgate.api.schemas.usage import UsageReportQuery, build_usage_request, to_usage_report
from headgate.kit.db.engine import Database
from headgate.metering.model import MICROSECONDS
from headgate.metering.model.zones import QUARTER
from headgate.metering.service.usage import query_usage
from headgate.metering.store.receipts import RECEIPTS
from rigs.usage.workload import CALLS, GROUPS, ORGANIZATION, START, ZONE, fill
from tests.fakes.postgres import running_postgres

RECEIPTS_COUNT = 10_000_000
MS_MAX = 300.0
WHOLE = "the whole range"
QUERIES = {
    "month, by day": UsageReportQuery(group_by="day"),
    "month, by day and model": UsageReportQuery(group_by="day,model", limit=1_000),
    "month, by project": UsageReportQuery(group_by="project"),
    "month, by key and model": UsageReportQuery(group_by="key,model", limit=1_000),
    "month, one key, by day": UsageReportQuery(group_by="day", key_id="key_7"),
    "first page by hour and model": UsageReportQuery(group_by="hour,model"),
    "one day, by hour": UsageReportQuery(group_by="hour", start="2026-03-10", end="2026-03-10"),
    "one day, by model and key": UsageReportQuery(
        group_by="model,key", start="2026-03-10", end="2026-03-10", limit=1_000
    ),
    "month in another zone, total": UsageReportQuery(time_zone="America/New_York"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m rigs.usage", description=__doc__)
    parser.add_argument("--receipts", type=int, default=RECEIPTS_COUNT)
    parser.add_argument("--place", choices=["sqlite", "postgresql"])
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    days = -(-options.receipts // (96 * GROUPS * CALLS))
    is_met = True
    for place in [options.place] if options.place else ["sqlite", "postgresql"]:
        with open_place(place) as database:
            begin = time.perf_counter()
            count = fill(database, days=days, note=lambda text: print(f"  {text}", flush=True))
            print(f"{place}: {count:,} receipts in {time.perf_counter() - begin:.0f} s", flush=True)
            check_total(database, days, count)
            is_met &= measure(database, days, options.runs)
    sys.exit(0 if is_met else 1)


@contextlib.contextmanager
def open_place(place: str) -> Generator[Database]:
    with contextlib.ExitStack() as stack:
        if place == "postgresql":
            server = stack.enter_context(running_postgres())
            database = Database(server.create_database())
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hg-usage-"))
            database = Database(Path(folder) / "usage.db")
        stack.callback(database.close)
        yield database


def run_query(database: Database, query: UsageReportQuery, days: int) -> tuple[float, float, int]:
    """Return the milliseconds from the parsed query to the encoded answer, those of this thread's
    processor, and the size of the answer."""
    now = (START + days * 96 * QUARTER) / MICROSECONDS
    if not query.start:
        query = msgspec.structs.replace(query, start="2026-03-01")
    begin, begin_cpu = time.perf_counter(), time.thread_time()
    request = build_usage_request(
        query, organization_id=ORGANIZATION, zone=ZONE, now=now, limit=query.limit
    )
    with database.reading() as connection:
        answer = query_usage(connection, request)
    encoded = msgspec.json.encode(to_usage_report(request, answer))
    took, cpu = time.perf_counter() - begin, time.thread_time() - begin_cpu
    return took * 1000, cpu * 1000, len(encoded)


def check_total(database: Database, days: int, count: int) -> None:
    """Compare the sums of the whole range with those that the database makes of all receipts."""
    end = START + days * 96 * QUARTER
    request = build_usage_request(
        UsageReportQuery(start="2026-03-01"),
        organization_id=ORGANIZATION,
        zone=ZONE,
        now=end / MICROSECONDS,
    )
    statement = sa.select(sa.func.count(), sa.func.sum(RECEIPTS.c.cost_nano))
    with database.reading() as connection:
        total = query_usage(connection, request).total
        begin = time.perf_counter()
        exact = tuple(map(int, connection.execute(statement).one()))
        took = time.perf_counter() - begin
    assert exact == (total.requests, total.cost_nano), (exact, total)
    assert total.requests == count, (count, total)
    print(f"  totals are equal; adding up the receipts themselves took {took:.1f} s", flush=True)


def measure(database: Database, days: int, runs: int) -> bool:
    """Print the time of each query; return whether all were below the bar."""
    is_met = True
    for name, query in QUERIES.items():
        *_, size = run_query(database, query, days)
        found = sorted(run_query(database, query, days)[:2] for _ in range(runs))
        times, cpu = [each[0] for each in found], min(each[1] for each in found)
        is_met &= times[len(times) // 2] <= MS_MAX
        print(
            f"  {name:<32} median {times[len(times) // 2]:7.1f} ms  worst {times[-1]:7.1f} ms"
            f"  processor {cpu:6.1f} ms  {size // 1024:4} KiB  bar {MS_MAX:g}",
            flush=True,
        )
    return is_met


if __name__ == "__main__":
    main()
