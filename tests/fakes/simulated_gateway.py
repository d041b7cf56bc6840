"""A server that answers by its own simulator, the official SDK before it, and its receipts."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from openai.types import CompletionUsage
from openai.types.responses import ResponseUsage

from headgate.llm.usage import Usage
from headgate.relay.ports import Receipt
from tests.fakes.gateway import Gateway, find_port, running_gateway
from tests.fakes.grammar.watching import watch_streams
from tests.fakes.receipts import Receipts, open_receipts


@dataclass
class SimulatedGateway:
    gateway: Gateway
    client: openai.OpenAI
    receipts: Receipts

    def check(
        self, endpoint: str, *, pricing: str, usage: Usage | None = None, cost_nano: int = 0
    ) -> Receipt:
        """Check the one receipt since the last check."""
        receipt = self.receipts.take_one()
        assert (receipt.endpoint, receipt.pricing) == (endpoint, pricing), receipt.unpriced_reason
        assert (receipt.usage, receipt.cost_nano) == (usage, cost_nano)
        assert (receipt.outcome, receipt.status, receipt.attempts) == ("completed", 200, 1)
        assert not receipt.estimated
        assert (receipt.unpriced_reason is None) == (pricing in ("priced", "free"))
        return receipt

    def check_free(self, endpoint: str, *, calls: int = 1) -> None:
        """Check that so many calls came, all of this endpoint and all free."""
        receipts = self.receipts.take()
        assert [(each.endpoint, each.pricing) for each in receipts] == [(endpoint, "free")] * calls
        assert {(each.cost_nano, each.outcome) for each in receipts} == {(0, "completed")}

    def check_unpriced(self, endpoint: str) -> None:
        """Check that one call came whose cost is not known."""
        receipt = self.receipts.take_one()
        assert (receipt.endpoint, receipt.pricing) == (endpoint, "unpriced")
        assert (receipt.cost_nano, receipt.outcome) == (0, "completed")
        assert receipt.unpriced_reason


@contextmanager
def running_simulated_gateway(data: Path) -> Generator[SimulatedGateway]:
    settings: dict[str, Any] = {"simulator": "true", "simulator_port": find_port()}
    with running_gateway(data, **settings) as gateway, open_receipts(gateway) as receipts:
        http_client = openai.DefaultHttpxClient(event_hooks={"response": [watch_streams]})
        client = gateway.sdk(max_retries=0, timeout=10, http_client=http_client)
        yield SimulatedGateway(gateway, client, receipts)


def usage_of_chat(usage: CompletionUsage | None) -> Usage:
    """Return what the receipt of an answer with that usage must say."""
    assert usage is not None
    into, out = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input_tokens=usage.prompt_tokens,
        cached_tokens=(into and into.cached_tokens) or 0,
        input_audio_tokens=(into and into.audio_tokens) or 0,
        output_tokens=usage.completion_tokens,
        reasoning_tokens=(out and out.reasoning_tokens) or 0,
        output_audio_tokens=(out and out.audio_tokens) or 0,
        accepted_prediction_tokens=(out and out.accepted_prediction_tokens) or 0,
        rejected_prediction_tokens=(out and out.rejected_prediction_tokens) or 0,
    )


def usage_of_response(usage: ResponseUsage | None, **tool_calls: int) -> Usage:
    """Return what the receipt of a response with that usage must say."""
    assert usage is not None
    return Usage(
        input_tokens=usage.input_tokens,
        cached_tokens=usage.input_tokens_details.cached_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.output_tokens_details.reasoning_tokens,
        tool_calls=tool_calls,
    )
