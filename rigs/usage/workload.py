"""Fills a database with receipts and their roll-ups by SQL, in minutes.

A pattern of eight quarters of an hour is made and rolled up by the code of the gateway. SQL repeats
its receipts and its sums for every quarter of the range. The days are then built from the quarters
by the job that builds them after a change of the reporting zone.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from headgate.accounts.model import Organization
from headgate.accounts.store import tenants
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.llm.usage import Usage
from headgate.metering import store as metering
from headgate.metering.model import MICROSECONDS
from headgate.metering.model.zones import QUARTER
from headgate.metering.service.roll_up import rebuild_some, roll_up_step
from headgate.metering.store import usage as usage_store
from headgate.metering.store.receipts import COLUMNS, RECEIPTS
from headgate.metering.store.usage import QUARTERS, ZoneState
from headgate.relay.ports import Receipt
from tests.fakes.example_receipt import make_receipt

ORGANIZATION = "org_usage"
PATTERN = "org_pattern"
ZONE = "Europe/Berlin"
FIRST_DAY = datetime.datetime(2026, 3, 1, tzinfo=ZoneInfo(ZONE))
START = int(FIRST_DAY.timestamp()) * MICROSECONDS
PATTERN_QUARTERS = 8
KEYS, MODELS_OF_KEY, PROJECTS = 100, 4, 20
MODELS = tuple(f"gpt-{number}" for number in range(8))
GROUPS = KEYS * MODELS_OF_KEY
CALLS = 8
"""The calls of one group in a quarter of an hour."""
OPEN_CALLS = 2_000
"""The calls that are in no roll-up yet: those of the last seconds."""
SLICE = 96
"""Quarters of an hour of one transaction."""


def fill(database: Database, *, days: int, note: Callable[[str], None]) -> int:
    """Fill an empty database; return the number of receipts."""
    quarters = days * 96
    with database.transaction() as connection:
        METADATA.create_all(connection)
        organization = Organization(ORGANIZATION, "Usage", 1.0, reporting_zone=ZONE)
        tenants.insert_organization(connection, organization)
        tenants.update_organization(connection, ORGANIZATION, {"reporting_zone": ZONE})
        metering.insert(connection, _make_pattern())
        while roll_up_step(connection, 5_000):
            pass
    for first in range(0, quarters, SLICE):
        with database.transaction() as connection:
            _repeat(connection, first, min(SLICE, quarters - first))
        if first % (SLICE * 7) == 0:
            note(f"{first // 96} of {days} days")
    with database.transaction() as connection:
        for table in (RECEIPTS, QUARTERS, usage_store.DAYS):
            connection.execute(sa.delete(table).where(table.c.organization_id == PATTERN))
        usage_store.write_state(connection, ZoneState(ORGANIZATION, ZONE, 0))
    note("days from quarters")
    is_left = True
    while is_left:
        with database.transaction() as connection:
            is_left = rebuild_some(connection)
    with database.transaction() as connection:
        last = START + quarters * QUARTER - QUARTER
        metering.insert(connection, _make_open(last))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))
    return quarters * GROUPS * CALLS + OPEN_CALLS


def _make_pattern() -> list[Receipt]:
    random_ = random.Random(1)
    return [
        _make(random_, f"{quarter}{group:03}{call}", quarter * QUARTER, group, PATTERN)
        for quarter in range(PATTERN_QUARTERS)
        for group in range(GROUPS)
        for call in range(CALLS)
    ]


def _make_open(quarter_at: int) -> list[Receipt]:
    random_ = random.Random(2)
    return [
        _make(random_, f"req_zopen{number:06}", quarter_at, number % GROUPS, ORGANIZATION)
        for number in range(OPEN_CALLS)
    ]


def _make(
    random_: random.Random, request_id: str, quarter_at: int, group: int, owner: str
) -> Receipt:
    key, model = divmod(group, MODELS_OF_KEY)
    is_good = random_.random() < 0.97
    return make_receipt(
        request_id=request_id,
        created_at=(quarter_at + random_.randrange(QUARTER)) / MICROSECONDS,
        organization_id=owner,
        project_id=f"proj_{key % PROJECTS}",
        key_id=f"key_{key}",
        model_requested=MODELS[(key + model) % len(MODELS)],
        managed=key % 2 == 0,
        outcome="completed" if is_good else "upstream_error",
        usage=Usage(
            input_tokens=random_.randrange(50, 4_000),
            cached_tokens=random_.randrange(50),
            output_tokens=random_.randrange(10, 900),
        ),
        cost_nano=random_.randrange(10**7),
        total_microseconds=int(random_.lognormvariate(13.5, 0.8)),
    )


def _repeat(connection: sa.Connection, first: int, count: int) -> None:
    """Repeat the pattern in `count` quarters from the number `first` on."""
    numbers = [{"number": number} for number in range(first, first + count)]
    number = sa.bindparam("number", type_=sa.BigInteger)
    shift = START + (number - number % PATTERN_QUARTERS) * QUARTER
    receipts, sums = RECEIPTS.c, QUARTERS.c
    low = (number % PATTERN_QUARTERS) * QUARTER
    changed = {
        "request_id": sa.bindparam("prefix", type_=sa.Text) + receipts.request_id,
        "created_at": receipts.created_at + shift,
        "organization_id": sa.literal(ORGANIZATION),
    }
    chosen = sa.select(
        *(changed.get(name, receipts[name]) for name in COLUMNS), sa.literal(1)
    ).where(
        receipts.organization_id == PATTERN,
        receipts.created_at >= low,
        receipts.created_at < low + QUARTER,
    )
    connection.execute(
        sa.insert(RECEIPTS).from_select([*COLUMNS, "rolled_up"], chosen),
        [{**each, "prefix": f"req_{each['number']:06}"} for each in numbers],
    )
    moved = {"bucket_at": sums.bucket_at + shift, "organization_id": sa.literal(ORGANIZATION)}
    names = [column.name for column in QUARTERS.c]
    copied = sa.select(*(moved.get(name, sums[name]) for name in names)).where(
        sums.organization_id == PATTERN, sums.bucket_at == low
    )
    connection.execute(sa.insert(QUARTERS).from_select(names, copied), numbers)
