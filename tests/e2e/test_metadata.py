"""The metadata that a caller sends for the receipt of a call."""

from __future__ import annotations

import json

import pytest

from tests.fakes.gateway import Gateway
from tests.fakes.http_connection import HttpResponse, ask, check_error
from tests.fakes.server_database import ServerDatabase
from tests.fakes.upstream import FakeUpstream

BODY = b'{"model":"gpt-5.4-mini","messages":[],"metadata":{"of":"the body"}}'


def post(gateway: Gateway, metadata: str) -> HttpResponse:
    headers = {
        "authorization": f"Bearer {gateway.key}",
        "content-type": "application/json",
        "x-headgate-metadata": metadata,
    }
    return ask(gateway.port, "POST", "/v1/chat/completions", headers, BODY)


def test_metadata_of_the_header_is_in_the_receipt_and_goes_no_further(
    gateway: Gateway, upstream: FakeUpstream, server_database: ServerDatabase
) -> None:
    upstream.script = lambda received: received.answer(b'{"id":"c1","choices":[]}')
    assert post(gateway, '{"team": "search", "user": "u1"}').status == 200
    (receipt,) = server_database.wait_for(1)
    assert json.loads(receipt["metadata"]) == {"team": "search", "user": "u1"}
    assert "x-headgate-metadata" not in upstream.received[0].headers
    assert upstream.received[0].json["metadata"] == {"of": "the body"}


@pytest.mark.parametrize(
    "metadata",
    [
        "team=search",
        '["a"]',
        '{"a": 1}',
        json.dumps({str(number): "x" for number in range(17)}),
        json.dumps({"k" * 65: "x"}),
        json.dumps({"k": "x" * 513}),
    ],
)
def test_malformed_metadata_is_refused(
    shared_gateway: Gateway, shared_upstream: FakeUpstream, metadata: str
) -> None:
    shared_upstream.forget()
    refused = post(shared_gateway, metadata)
    check_error(refused, 400, "invalid_metadata", source="gateway")
    assert not shared_upstream.received
