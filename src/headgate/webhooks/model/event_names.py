"""The names of all events that can be sent to an endpoint, with what each of them tells.

The features that cause the events declare their content in their own `events.py`. This list is what
an endpoint may subscribe to, and what the documentation shows.
"""

from __future__ import annotations

TEST_EVENT = "webhook.test"

EVENTS: dict[str, str] = {
    "invoice.paid": "An invoice was paid.",
    "key.revoked": "An API key was revoked.",
    "request.completed": "A model call was settled. The object is its receipt.",
    "request.rate_limited": (
        "Requests of a key were refused with 429. One event stands for all of a key's refusals "
        "within a second; `count` is their number."
    ),
    "response.cancelled": "A background response was cancelled, and settled.",
    "response.completed": "A background response is complete, and settled.",
    "response.failed": (
        "A background response failed, or nobody knows how it ended (`status` is `unknown`)."
    ),
    "response.incomplete": "A background response ended early, for example at its token limit.",
    "usage.implausible": (
        "A provider reported a usage that its request cannot have. The operator decides what it "
        "costs."
    ),
    "usage.threshold_reached": "A budget reached one of its thresholds in this month.",
    "wallet.recharged": "Money was added to the wallet.",
    "wallet.top_up_failed": (
        "An automatic top-up was declined, or its monthly maximum is reached. The object says why, "
        "and when it is tried again."
    ),
    "webhook.endpoint_disabled": "An endpoint was disabled, because it failed for too long.",
    TEST_EVENT: "A test, sent to one endpoint on request. Nothing happened.",
}
