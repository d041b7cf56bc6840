"""Roll receipts up into sums, in slices on the writer's thread.

A receipt is marked in the transaction that adds it to the sums. So it counts once, however late it
was written and wherever a process is killed. What is not rolled up yet is read from the receipts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from headgate.accounts.service.accounts import find_reporting_zones
from headgate.metering.model.usage import Group, Measures, find_key
from headgate.metering.model.zones import DEFAULT_ZONE, find_day
from headgate.metering.store import usage as store
from headgate.metering.store.usage import ALWAYS, DAYS, QUARTERS, ZoneState

SLICE_SECONDS = 0.02
"""The duration of a slice: receipts of calls wait for it on the writer's thread."""
STEP_ROWS = 250
"""Receipts between two readings of the clock."""
DELETED_ROWS = 200


def roll_up_some(
    connection: sa.Connection,
    *,
    step_rows: int = STEP_ROWS,
    slice_seconds: float = SLICE_SECONDS,
    read_seconds: Callable[[], float] = time.perf_counter,
) -> int:
    """Roll up receipts for about `slice_seconds`; return how many."""
    begin, total = read_seconds(), 0
    while rows := roll_up_step(connection, step_rows):
        total += rows
        if rows < step_rows or read_seconds() - begin >= slice_seconds:
            break
    return total


def roll_up_step(connection: sa.Connection, rows_max: int) -> int:
    """Roll up at most `rows_max` receipts; return how many."""
    rows = store.select_open(connection, rows_max)
    if not rows:
        return 0
    quarters: dict[Group, Measures] = {}
    for row in rows:
        key = find_key(row)
        measures = quarters.get(key)
        if measures is None:
            measures = quarters[key] = Measures()
        measures.add_row(row)
    states = _find_states(connection, sorted({key[0] for key in quarters}))
    days: dict[Group, Measures] = {}
    for key, measures in quarters.items():
        state = states[key[0]]
        day = find_day(state.zone, key[1]).start
        if day < state.built_until:
            days.setdefault((key[0], day, *key[2:]), Measures()).add(measures)
    store.add_measures(connection, QUARTERS, quarters)
    store.add_measures(connection, DAYS, days)
    store.mark_rolled_up(connection, [row.request_id for row in rows])
    return len(rows)


def _find_states(
    connection: sa.Connection, organization_ids: Sequence[str]
) -> dict[str, ZoneState]:
    """Return the state of each organization; a new one begins complete, in its reporting zone."""
    states: dict[str, ZoneState] = {}
    for organization_id in organization_ids:
        state = store.find_state(connection, organization_id)
        if state is None:
            zone = find_reporting_zones(connection, organization_id).get(organization_id)
            state = ZoneState(organization_id, zone or DEFAULT_ZONE, ALWAYS)
            store.write_state(connection, state)
        states[organization_id] = state
    return states


def rebuild_some(connection: sa.Connection) -> bool:
    """Do one step of rebuilding the days of an organization whose reporting zone has changed.
    Return whether more is to be done.

    The old days are deleted first. Then one day after the other is added up from its quarters.
    Receipts that are rolled up meanwhile are added to days that are built already.
    """
    zones = find_reporting_zones(connection)
    for state in store.list_states(connection):
        zone = zones.get(state.organization_id, state.zone)
        if zone != state.zone:
            store.write_state(connection, ZoneState(state.organization_id, zone, -1))
            return True
        if state.built_until < 0:
            if not store.delete_days(connection, state.organization_id, DELETED_ROWS):
                store.write_state(connection, ZoneState(state.organization_id, zone, 0))
            return True
        if state.built_until < ALWAYS:
            _build_day(connection, state)
            return True
    return False


def _build_day(connection: sa.Connection, state: ZoneState) -> None:
    """Add up the first day with usage that is not built yet; without one, all days are built."""
    first = store.find_first_quarter(connection, state.organization_id, state.built_until)
    built_until = ALWAYS
    if first is not None:
        day = find_day(state.zone, first)
        built_until = day.end
        sums: dict[Group, Measures] = {}
        for group, measures in store.select_quarters(connection, state.organization_id, day):
            sums.setdefault((state.organization_id, day.start, *group), Measures()).add(measures)
        store.add_measures(connection, DAYS, sums)
    store.write_state(connection, ZoneState(state.organization_id, state.zone, built_until))
