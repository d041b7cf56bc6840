"""The bodies of all events are what users rely on: golden files, which the documentation shows.

`python -m tests.unit.webhooks.test_events` writes the golden files anew.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook

from headgate.webhooks.model import EVENTS
from headgate.webhooks.model.event import API_VERSION, parse_event, render_body
from headgate.webhooks.model.signature import make_secret, parse_secret, sign
from tests.fakes.webhook_events import EXAMPLES, make_row

GOLDEN = Path(__file__).parents[2] / "golden" / "webhooks"
PAGE = Path(__file__).parents[3] / "docs" / "webhook-events.md"


def render(name: str) -> bytes:
    return render_body(parse_event(make_row(name)))


def read_golden(name: str) -> str:
    return (GOLDEN / f"{name}.json").read_text()


def format_body(body: bytes) -> str:
    return msgspec.json.format(body, indent=2).decode() + "\n"


def test_every_event_has_an_example() -> None:
    assert set(EXAMPLES) == set(EVENTS)
    assert {path.stem for path in GOLDEN.iterdir()} == set(EVENTS)


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_body_is_the_golden_one(name: str) -> None:
    assert format_body(render(name)) == read_golden(name)


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_documentation_shows_the_golden_body(name: str) -> None:
    page = PAGE.read_text()
    assert f"## {name}\n" in page
    assert f"```json\n{read_golden(name)}```\n" in page
    assert EVENTS[name] in page


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_official_library_verifies_the_body(name: str) -> None:
    secret, body = make_secret(), render(name)
    now = int(datetime.datetime.now(datetime.UTC).timestamp())
    event_id = json.loads(body)["id"]
    headers = {
        "webhook-id": event_id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign([parse_secret(secret)], event_id, now, body),
    }
    verified: Any = Webhook(secret).verify(body, headers)
    assert (verified["type"], verified["api_version"]) == (name, API_VERSION)
    assert len(body) < 20_000


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for each in EXAMPLES:
        (GOLDEN / f"{each}.json").write_text(format_body(render(each)))
