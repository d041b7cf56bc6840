from __future__ import annotations

from pathlib import Path

import pytest

from headgate import settings
from headgate.main.payment_settings import check_payments
from headgate.settings import InvalidSettingError, Settings
from tests.fakes.stripe import SECRET_KEY, WEBHOOK_SECRET


def load(**variables: str) -> Settings:
    environment = {f"HEADGATE_{name.upper()}": value for name, value in variables.items()}
    return settings.load(environment, data=Path("data"))


def test_complete_settings_are_accepted_and_so_are_none() -> None:
    check_payments(load())
    check_payments(load(stripe_secret_key=SECRET_KEY, stripe_webhook_secret=WEBHOOK_SECRET))


@pytest.mark.parametrize(
    "variables",
    [
        {"stripe_secret_key": SECRET_KEY},
        {"stripe_secret_key": SECRET_KEY, "stripe_webhook_secret": ""},
        {"stripe_secret_key": SECRET_KEY, "stripe_webhook_secret": "whsec_short"},
        {"stripe_webhook_secret": "x" * 23},
        {"stripe_api_base": "ftp://example.com"},
        {"top_up_cents_min": "600", "top_up_cents_max": "500"},
        {"invoice_font": "nowhere.ttf"},
    ],
)
def test_settings_by_which_a_wallet_could_be_forged_are_refused(variables: dict[str, str]) -> None:
    with pytest.raises(InvalidSettingError) as refused:
        check_payments(load(**variables))
    assert "whsec_short" not in refused.value.message


def test_secrets_are_not_shown() -> None:
    loaded = load(stripe_secret_key=SECRET_KEY, stripe_webhook_secret=WEBHOOK_SECRET)
    assert SECRET_KEY not in repr(loaded)
    assert WEBHOOK_SECRET not in repr(loaded)
