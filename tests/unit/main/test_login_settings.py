from __future__ import annotations

import pytest

from headgate.main.login_settings import check_login_settings
from headgate.settings import InvalidSettingError, Settings

OIDC = {"oidc_issuer": "https://login.example", "oidc_client_id": "x"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"public_url": "http://localhost:4600"},
        {"public_url": "https://gate.example/"},
        {**OIDC, "public_url": "https://gate.example"},
        {"jwt_issuer": "https://login.example", "jwt_audience": ("app",)},
    ],
)
def test_settings_that_fit_are_taken(given: dict[str, object]) -> None:
    check_login_settings(Settings(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"public_url": "http://gate.example"}, "readable"),
        ({"public_url": "https://gate.example/console"}, "without a path"),
        ({"public_url": "gate.example"}, "https://"),
        (OIDC, "HEADGATE_PUBLIC_URL"),
        ({"oidc_issuer": "https://login.example"}, "HEADGATE_OIDC_CLIENT_ID"),
        ({"oidc_issuer": "login.example"}, "HEADGATE_OIDC_ISSUER"),
        ({"jwt_issuer": "https://login.example"}, "HEADGATE_JWT_AUDIENCE"),
        ({"jwt_jwks_url": "x"}, "HEADGATE_JWT_JWKS_URL"),
    ],
)
def test_settings_that_would_let_others_in_stop_the_start(
    given: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidSettingError, match=said):
        check_login_settings(Settings(**given))  # type: ignore[arg-type]
