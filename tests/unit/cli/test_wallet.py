from __future__ import annotations

import pytest

from headgate.cli.wallet import InvalidAmountError, parse_dollars


def test_amount_is_read_to_the_nano_dollar() -> None:
    assert parse_dollars("2.50") == 2_500_000_000
    assert parse_dollars("0.000000001") == 1


@pytest.mark.parametrize(
    "text", ["-5", "0", "1000000.01", "nothing", "1e999", "0.0000000001", "NaN", "Infinity", ""]
)
def test_amount_that_the_ledger_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(InvalidAmountError):
        parse_dollars(text)
