"""The setting that names the Valkey in which several processes count."""

from __future__ import annotations

import pytest

from headgate import settings
from headgate.kit.clock import SystemClock
from headgate.main.capacity import InvalidValkeyUrlError, connect


def test_url_of_no_valkey_is_refused_at_the_start() -> None:
    wrong = settings.load({"HEADGATE_VALKEY_URL": "http://127.0.0.1:6379"})
    with pytest.raises(InvalidValkeyUrlError, match="HEADGATE_VALKEY_URL cannot be read"):
        connect(wrong, SystemClock())


@pytest.mark.parametrize("scheme", ["valkey", "valkeys", "redis", "rediss"])
def test_valkey_is_named_like_redis(scheme: str) -> None:
    named = settings.load({"HEADGATE_VALKEY_URL": f"{scheme}://127.0.0.1:6379/0"})
    assert connect(named, SystemClock()).counters.is_available
