"""All SQL of receipts and usage."""

from headgate.metering.store.receipts import (
    RECEIPTS,
    count,
    count_before,
    delete_before,
    find,
    insert,
    list_outcome,
    list_recent,
    match_scope,
    select_latency_samples,
    sum_columns,
    sum_costs,
    sum_outcomes,
)

__all__ = [
    "RECEIPTS",
    "count",
    "count_before",
    "delete_before",
    "find",
    "insert",
    "list_outcome",
    "list_recent",
    "match_scope",
    "select_latency_samples",
    "sum_columns",
    "sum_costs",
    "sum_outcomes",
]
