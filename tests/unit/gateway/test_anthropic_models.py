"""The list of models for Anthropic's clients, whatever a provider lists."""

from __future__ import annotations

import msgspec
import pytest

from headgate.gateway.anthropic_models import AnthropicModelsEncoder, ModelsPage
from headgate.gateway.encoder import OpenAiEncoder
from headgate.llm.providers.openai import PROVIDER
from headgate.relay.upstream import InvalidProviderResponseError
from tests.fakes.pipeline import ManualClock, make_call, make_state

STATE = make_state(make_call("/models", method="GET", body=b""))
ENCODER = AnthropicModelsEncoder(OpenAiEncoder(PROVIDER, 60.0, ManualClock()), ModelsPage())


def test_rows_that_are_no_models_are_left_out_and_half_characters_replaced() -> None:
    body = rb'{"data":[7,null,[],{"id":"a\ud800","created":NaN},{"id":"b","created":1e300}]}'
    listed = msgspec.json.decode(ENCODER.encode_body(STATE, body))
    assert {each["id"] for each in listed["data"]} == {"a\ufffd", "b"}
    assert {each["created_at"] for each in listed["data"]} == {"1970-01-01T00:00:00Z"}


@pytest.mark.parametrize("body", [b"[]", b"null", b"<html>", b'{"data":' + b"[" * 5_000])
def test_answer_that_is_no_list_of_models_is_the_fault_of_the_provider(body: bytes) -> None:
    with pytest.raises(InvalidProviderResponseError):
        ENCODER.encode_body(STATE, body)
