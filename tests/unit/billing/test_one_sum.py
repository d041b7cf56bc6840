"""Header, receipt and ledger of a managed call always say the same sum."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from headgate.billing.model.ledger import make_excess_entries, make_settlement_entries
from headgate.catalog.service.catalog import Catalog
from headgate.gateway.encoder import render_cost
from headgate.kit.money import format_dollars
from headgate.llm.usage import ParsedUsage, Usage
from headgate.relay.ports import Hold
from headgate.relay.pricing import price_call
from headgate.relay.receipts import build_receipt
from tests.fakes.example_receipt import make_receipt
from tests.fakes.pipeline import make_call, make_state

NOW = 1_800_000_000.0
CATALOG = Catalog.load()
MODELS = ("gpt-5.4-mini", "gpt-5.4", "gpt-4o-search-preview", "no-such-model")
FEES = ("web_search_call", "file_search_call", "code_interpreter_call", "future_call")

usages = st.builds(
    Usage,
    input_tokens=st.sampled_from([0, 7, 1_000, 300_000, 10**12]),
    cached_tokens=st.sampled_from([0, 0, 7]),
    input_audio_tokens=st.sampled_from([0, 0, 3]),
    output_tokens=st.sampled_from([0, 9, 2_000, 10**9]),
    characters=st.sampled_from([0, 0, 40]),
    tool_calls=st.dictionaries(st.sampled_from(FEES), st.integers(1, 40), max_size=3),
)


@given(
    st.none() | usages,
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.sampled_from(MODELS),
    st.sampled_from([None, "default", "priority", "novel"]),
    st.sampled_from(["completed", "upstream_error", "broken", "unknown", "cancelled"]),
)
def test_header_receipt_and_ledger_say_the_same_sum(
    usage: Usage | None,
    held_nano: int,
    wallet_nano: int,
    model_id: str,
    tier: str | None,
    outcome: str,
) -> None:
    body = b'{"model":"%b","input":"x","max_output_tokens":1000}' % model_id.encode()
    state = make_state(make_call("/responses", body=body))
    state.model = CATALOG.find(model_id)
    state.parsed_usage = ParsedUsage(usage=usage, service_tier=tier)
    state.hold = hold = Hold("req_1", "org_1", held_nano)
    state.attempts, state.was_sent, state.outcome, state.body_bytes = 1, True, outcome, len(body)
    charge = price_call(state, CATALOG, NOW)
    receipt = build_receipt(state, charge, created_at=NOW, ended_at=0.0)
    lines = make_settlement_entries(hold, receipt.cost_nano)
    if receipt.cost_nano > held_nano:
        lines += make_excess_entries(hold, receipt.cost_nano, wallet_nano=wallet_nano)
    moved: dict[str, int] = dict.fromkeys(("wallet", "held", "revenue", "overspend"), 0)
    for line in lines:
        moved[line.account_id.removeprefix("org_1:")] += line.amount_nano
    assert moved["revenue"] == receipt.cost_nano >= 0
    # The wallet has paid the hold before; what is not covered is owed.
    assert held_nano - moved["wallet"] - moved["overspend"] == receipt.cost_nano
    assert receipt.pricing != "implausible" or receipt.cost_nano == held_nano
    said = render_cost(replace(receipt, managed=True)).decode().splitlines()
    told = dict(line.split(": ") for line in said)
    assert told["x-headgate-cost"] == told["x-headgate-wallet-debit"]
    assert told["x-headgate-cost"] == format_dollars(receipt.cost_nano)


def test_wallet_debit_is_what_the_credits_do_not_pay() -> None:
    receipt = make_receipt(managed=True, cost_nano=1_000, credit_nano=400)
    said = render_cost(receipt).decode()
    assert "x-headgate-cost: 0.000001000\r\n" in said
    assert "x-headgate-wallet-debit: 0.000000600\r\n" in said
    assert (
        "x-headgate-wallet-debit: 0.000000000\r\n"
        in render_cost(replace(receipt, credit_nano=1_000)).decode()
    )
