"""The rig of kills finds what is lost, foreign, forged or named twice."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from headgate.webhooks.model.signature import make_secret, parse_secret, sign
from rigs.webhooks.kills import EVENT, FOREIGN, judge
from rigs.webhooks.receivers import Received

SECRETS = {"good": make_secret(), FOREIGN: make_secret()}


def make(request_id: str, name: str = "good", **changes: Any) -> Received:
    event_id = changes.pop("id", f"evt_{request_id}")
    secret = changes.pop("secret", SECRETS[name])
    body = json.dumps({"type": EVENT, "data": {"object": {"request_id": request_id}}})
    now = int(time.time())
    headers = {
        "webhook-id": event_id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign([parse_secret(secret)], event_id, now, body.encode()),
    }
    return Received(name=name, headers=headers, body=body, accepted=True, at=now)


def test_repetitions_of_an_id_are_counted_and_no_finding() -> None:
    outcome = judge([make("r1"), make("r2"), make("r2")], SECRETS, {"r1", "r2"})
    assert outcome.findings == []
    assert (outcome.received, outcome.repeated) == (3, 1)


@pytest.mark.parametrize(
    ("deliveries", "finding"),
    [
        ([make("r1")], "1 calls that good never heard of"),
        ([make("r1"), make("r2"), make("r3")], "1 events of calls without a receipt"),
        ([make("r1"), make("r2"), make("r2", id="evt_x")], "1 calls of two ids at good"),
        ([make("r1"), make("r2"), make("r1", FOREIGN)], "1 events of somebody else"),
        (
            [make("r1"), make("r2"), make("r2", secret=make_secret())],
            "1 signatures that the library rejects",
        ),
    ],
)
def test_what_must_not_be_is_found(deliveries: list[Received], finding: str) -> None:
    assert judge(deliveries, SECRETS, {"r1", "r2"}).findings == [finding]
