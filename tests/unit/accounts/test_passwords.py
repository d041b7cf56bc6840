from __future__ import annotations

import asyncio
import threading

import argon2
import pytest

from headgate.accounts.model import (
    InvalidEmailError,
    WeakPasswordError,
    check_email,
    check_password,
)
from headgate.accounts.service import (
    LoginRateLimiter,
    PasswordHasher,
    SignInOverloadedError,
    TooManySignInsError,
)
from tests.fakes.pipeline import ManualClock

GOOD = "a long sentence of your own"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    "password",
    [GOOD, "twelve chars", "日本語のとても長い文です!", "         x y z", "x" * 1000 + "yz"],
)
def test_password_policy_is_length_only(password: str) -> None:
    assert check_password(password) == password


@pytest.mark.parametrize(
    "password",
    [
        "eleven char",
        "",
        "PASSWORD1234",
        "Qwertyuiop123",
        "abababababab",
        "é" * 513,
        "ada@example.com",
    ],
)
def test_short_common_and_too_long_passwords_are_rejected_without_being_repeated(
    password: str,
) -> None:
    with pytest.raises(WeakPasswordError) as caught:
        check_password(password, email="Ada@example.com")
    assert not password or password not in caught.value.message


def test_passwords_are_normalized_to_nfc() -> None:
    assert check_password("cafe\u0301 cafe\u0301 and") == check_password("café café and")


@pytest.mark.parametrize("email", ["Ada@Example.COM ", "a.b+c@x-y.example", "a@localhost"])
def test_addresses_are_stored_in_lower_case(email: str) -> None:
    assert check_email(email) == email.strip().lower()


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "@x.y",
        "a@",
        "a b@x.y",
        "a@x..y",
        "a@x.y\n@z",
        "\u0430da@example.com",
        "a" * 65 + "@x.y",
    ],
)
def test_ambiguous_addresses_are_refused(email: str) -> None:
    with pytest.raises(InvalidEmailError):
        check_email(email)


@pytest.mark.anyio
async def test_hash_is_argon2id_and_is_renewed_when_its_parameters_are_outdated() -> None:
    hasher = PasswordHasher()
    stored = await hasher.hash(GOOD)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    good, wrong = await hasher.verify(stored, GOOD), await hasher.verify(stored, GOOD + "!")
    assert (good.is_correct, good.needs_rehash, wrong.is_correct) == (True, False, False)
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(GOOD)
    old = await hasher.verify(weak, GOOD)
    assert (old.is_correct, old.needs_rehash) == (True, True)
    composed = await hasher.hash("café café and")
    assert (await hasher.verify(composed, "cafe\u0301 cafe\u0301 and")).is_correct
    nobody = await hasher.verify(None, "nobody has this password")
    assert not nobody.is_correct
    hasher.close()


class Gated(PasswordHasher):
    """Hash only when allowed, and count concurrent calls."""

    def __init__(self) -> None:
        super().__init__(waiting_max=4)
        self.gate = threading.Event()
        self.now = self.most = 0

    def hash_blocking(self, password: str) -> str:
        self.now += 1
        self.most = max(self.most, self.now)
        assert self.gate.wait(20)
        self.now -= 1
        return "hashed"


@pytest.mark.anyio
async def test_few_passwords_are_hashed_at_once_few_wait_and_the_rest_are_refused() -> None:
    hasher = Gated()
    waiting = [asyncio.create_task(hasher.hash(GOOD)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(SignInOverloadedError) as caught:
        await hasher.hash(GOOD)
    assert caught.value.retry_after_seconds is not None
    hasher.gate.set()
    assert await asyncio.gather(*waiting) == ["hashed"] * 4
    assert hasher.most <= hasher.threads <= 2
    assert await hasher.hash(GOOD) == "hashed"
    hasher.close()


def test_attempts_are_limited_by_address_and_by_account_for_a_while() -> None:
    clock = ManualClock()
    limiter = LoginRateLimiter(clock, per_minute=3)
    for count in range(3):
        limiter.take("203.0.113.9", f"{count}@example.com")
    with pytest.raises(TooManySignInsError) as caught:
        limiter.take("203.0.113.9", "9@example.com")
    assert caught.value.retry_after_seconds == pytest.approx(20.0)
    for count in range(3):
        limiter.take(f"203.0.113.{count}", "ada@example.com")
    with pytest.raises(TooManySignInsError):
        limiter.take("198.51.100.1", "ada@example.com")
    clock.seconds += 20.0
    limiter.take("198.51.100.1", "ada@example.com")


def test_ipv6_network_of_a_subscriber_counts_as_one_address() -> None:
    limiter = LoginRateLimiter(ManualClock(), per_minute=1)
    limiter.take("2001:db8::1", "a@example.com")
    with pytest.raises(TooManySignInsError):
        limiter.take("2001:db8::ffff:2", "b@example.com")
    limiter.take("2001:db8:0:1::1", "c@example.com")


def test_number_of_remembered_addresses_is_bounded() -> None:
    limiter = LoginRateLimiter(ManualClock(), per_minute=1)
    for count in range(30_000):
        limiter.take(f"10.{count >> 16}.{count >> 8 & 255}.{count & 255}", str(count))
    # The first ones are forgotten, or they would be refused.
    limiter.take("10.0.0.0", "0")
