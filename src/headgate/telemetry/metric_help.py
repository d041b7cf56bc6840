"""Say what each metric of `/metrics` measures, for its help text and for docs/metrics.md."""

from __future__ import annotations

HELP: dict[str, str] = {
    "calls": "Model calls that were settled.",
    "tokens": "Tokens that providers reported for settled calls.",
    "cost_dollars": "Price of settled calls in US dollars; `managed` calls were paid by wallets.",
    "refusals": "Requests that the gateway answered with an error of its own, by its code.",
    "retries": "Attempts after the first one of a call.",
    "overhead_seconds": "Time of a call that was not spent waiting for the provider.",
    "settlement_seconds": "Time from the end of a provider's answer to its committed receipt.",
    "first_byte_seconds": "Time from sending a call to the first byte of the provider's answer.",
    "call_seconds": "Time from the head of a request to the end of its answer.",
    "event_loop_lag_seconds": "How late timers of the event loop fire: above 0.1 s is overload.",
    "connections": "Connections of clients that are open.",
    "requests_in_flight": "Requests of clients that are being answered.",
    "provider_connections": "Connections to providers that are open.",
    "provider_connections_idle": "Connections to providers that wait for another call.",
    "provider_connections_awaited": "Calls that wait for a connection to a provider.",
    "log_lines_dropped": "Access log lines that were lost because nobody read them in time.",
    "tasks": "Tasks of the event loop.",
    "threads": "Threads of the process.",
    "background_responses": "Responses in the background that have not ended.",
    "holds_open": "Holds of managed calls that are neither settled nor released.",
    "database_bytes": "Size of the SQLite database file; 0 with PostgreSQL.",
    "database_wal_bytes": "Size of SQLite's write-ahead log; 0 with PostgreSQL.",
    "storage_good": "1 while the database can record calls, 0 while calls are refused.",
    "receipts_deferred": "Receipts that wait in memory until the database works again.",
    "master_key_outdated": "1 after another process replaced the master key: restart this one.",
    "idempotency_keys": "Idempotency keys of model calls that are remembered.",
    "idempotency_bytes": "Size of the answers that are kept for idempotency keys.",
    "idempotent_replays": "Calls that were answered with the stored answer of an earlier one.",
    "idempotency_conflicts": "Calls that were refused because of their idempotency key.",
    "database_connections": "Connections to the database that are open.",
    "breakers_open": "Circuit breakers that are open.",
    "breaker_openings": "How often a circuit breaker opened.",
    "drains": "Answers that are read to their end after their client disconnected.",
    "calls_admitted": "Calls that are running.",
    "calls_of_one_key_max": "Most calls that one key may run; falls while the event loop is late.",
    "bodies_bytes": "Memory that the bodies of requests and answers occupy.",
    "webhooks_pending": "Webhook deliveries that wait for their first or next attempt.",
    "webhooks_oldest_seconds": "Age of the oldest event among the webhook deliveries that wait.",
    "webhooks_in_flight": "Webhook deliveries that this process is sending.",
    "webhooks_delivered": "Attempts of webhook deliveries that the receiver answered with 2xx.",
    "webhooks_failed": "Attempts of webhook deliveries that failed and are tried again.",
    "webhooks_exhausted": "Webhook deliveries that were given up.",
    "bodies_refused": "Bodies that were refused for lack of memory.",
}
"""By the name without `headgate_`, and without the `_total` of counters."""

COUNTERS: dict[str, tuple[str, ...]] = {
    "calls": ("endpoint", "model", "outcome", "status", "pricing"),
    "tokens": ("model", "kind"),
    "cost_dollars": ("model", "managed"),
    "refusals": ("code", "status"),
    "retries": (),
    "breaker_openings": (),
    "bodies_refused": (),
    "idempotent_replays": (),
    "idempotency_conflicts": (),
    "webhooks_delivered": (),
    "webhooks_failed": (),
    "webhooks_exhausted": (),
}
"""The counters and their labels."""

HISTOGRAMS = (
    "overhead_seconds",
    "settlement_seconds",
    "first_byte_seconds",
    "call_seconds",
    "event_loop_lag_seconds",
)
