from __future__ import annotations

import asyncio
import base64
import hmac
import warnings
from typing import Any, cast

import pytest

from headgate.accounts.service.issuer import (
    InvalidTokenError,
    IssuerKeysUnavailableError,
    IssuerUnreachableError,
    parse_jwks,
    read_external_identity,
)
from headgate.accounts.service.issuer import Issuer as RealIssuer
from tests.fakes.issuer import URL, FakeIssuer
from tests.fakes.pipeline import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def fake(clock: ManualClock) -> FakeIssuer:
    fake = FakeIssuer(now=clock.now())
    fake.add_key("k1")
    return fake


@pytest.fixture
def issuer(fake: FakeIssuer, clock: ManualClock) -> RealIssuer:
    return RealIssuer(fake, clock, url=URL, jwks_url=None)


async def is_good(issuer: RealIssuer, token: str) -> bool:
    try:
        await issuer.verify(token, audiences=("app",))
    except InvalidTokenError:
        return False
    return True


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_tokens_of_the_issuer_are_accepted(clock: ManualClock, algorithm: str) -> None:
    fake = FakeIssuer(now=clock.now())
    fake.add_key("k1", algorithm)
    issuer = RealIssuer(fake, clock, url=URL, jwks_url=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joserfc deprecates the name EdDSA, but issuers use it
        claims = await issuer.verify(fake.sign("k1", algorithm), audiences=("app",))
    assert claims["sub"] == "ada-1"


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, True),
        ({"aud": ["other", "app"]}, True),
        ({"aud": None, "azp": "app"}, True),
        ({"nbf": 1_800_001_020}, True),
        ({"exp": 1_800_000_980}, True),
        ({"exp": 1_800_000_960}, False),
        ({"exp": None}, False),
        ({"exp": "soon"}, False),
        ({"exp": True}, False),
        ({"nbf": 1_800_001_040}, False),
        ({"iat": 1_800_001_040}, False),
        ({"iss": "https://other.example"}, False),
        ({"iss": None}, False),
        ({"iss": f"{URL}/"}, False),
        ({"aud": "other"}, False),
        ({"aud": [], "azp": "app"}, False),
        ({"aud": "other", "azp": "app"}, False),
        ({"aud": None}, False),
        ({"aud": ["app", 7]}, True),
        ({"sub": None}, False),
        ({"sub": ""}, False),
        ({"sub": 7}, False),
        ({"sub": "x" * 256}, False),
    ],
)
async def test_token_must_be_current_and_for_this_audience(
    issuer: RealIssuer, fake: FakeIssuer, claims: dict[str, object], expected: bool
) -> None:
    assert await is_good(issuer, fake.sign("k1", claims=claims)) is expected


async def test_only_an_otherwise_valid_token_is_reported_as_expired(
    issuer: RealIssuer, fake: FakeIssuer
) -> None:
    old = fake.sign("k1", claims={"exp": 1_800_000_000})
    with pytest.raises(InvalidTokenError, match="expired"):
        await issuer.verify(old, audiences=("app",))
    with pytest.raises(InvalidTokenError, match="another issuer"):
        await issuer.verify(old[:-4] + "AAAA", audiences=("app",))


async def test_unsigned_and_hs_tokens_are_refused(issuer: RealIssuer, fake: FakeIssuer) -> None:
    good = fake.sign("k1")
    _, payload, _ = good.split(".")

    def encode(text: bytes) -> str:
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    unsigned = encode(b'{"alg":"none","kid":"k1"}')
    critical = encode(b'{"alg":"RS256","kid":"k1","crit":["x"],"x":1}')
    # A verifier that mistakes the public key for a shared secret would accept this.
    header = encode(b'{"alg":"HS256","kid":"k1"}')
    body = f"{header}.{payload}"
    public = fake.keys["k1"].as_pem(private=False)
    shared = f"{body}.{encode(hmac.digest(public, body.encode(), 'sha256'))}"
    for token in (
        f"{unsigned}.{payload}.",
        f"{unsigned}.{payload}.AAAA",
        shared,
        f"{critical}.{payload}.AAAA",
        "a.b.c",
        "..",
        "é.é.é",
        "x" * 20_000,
    ):
        assert not await is_good(issuer, token), token[:80]
    assert await is_good(issuer, good)


async def test_new_key_is_fetched_and_unknown_keys_cause_one_request_in_ten_seconds(
    issuer: RealIssuer, fake: FakeIssuer, clock: ManualClock
) -> None:
    assert await is_good(issuer, fake.sign("k1"))
    known = len(fake.asked)
    stranger = FakeIssuer(now=clock.now())
    stranger.add_key("k9")
    clock.seconds += 11.0
    tokens = [stranger.sign("k9") for _ in range(20)]
    assert not any(await asyncio.gather(*(is_good(issuer, token) for token in tokens)))
    assert len(fake.asked) == known + 1
    fake.add_key("k2")
    assert not await is_good(issuer, fake.sign("k2"))
    clock.seconds += 10.0
    assert await is_good(issuer, fake.sign("k2"))
    assert len(fake.asked) == known + 2


async def test_old_keys_stay_in_use_while_new_ones_are_fetched_or_cannot_be(
    issuer: RealIssuer, fake: FakeIssuer, clock: ManualClock
) -> None:
    token = fake.sign("k1", claims={"exp": int(clock.now()) + 100_000})
    assert await is_good(issuer, token)
    known = len(fake.asked)
    clock.seconds += 601.0
    assert await is_good(issuer, token)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(fake.asked) == known + 1
    fake.is_down = True
    clock.seconds += 3600.0
    assert await is_good(issuer, token)
    await asyncio.sleep(0.01)
    del fake.keys["k1"]
    fake.add_key("k2")
    fake.is_down = False
    clock.seconds += 3600.0
    assert await is_good(issuer, token)  # The old keys serve while the new ones are fetched.
    await asyncio.sleep(0.01)
    assert not await is_good(issuer, token)


async def test_without_keys_no_token_is_accepted_or_refused(
    issuer: RealIssuer, fake: FakeIssuer, clock: ManualClock
) -> None:
    fake.is_down = True
    with pytest.raises(IssuerKeysUnavailableError):
        await issuer.verify(fake.sign("k1"), audiences=("app",))
    fake.is_down = False
    clock.seconds += 11.0
    assert await is_good(issuer, fake.sign("k1"))


async def test_discovery_document_of_another_issuer_is_refused(
    issuer: RealIssuer, fake: FakeIssuer
) -> None:
    fake.extra["issuer"] = "https://other.example"
    with pytest.raises(IssuerUnreachableError):
        await issuer.find_endpoint("token_endpoint")


def test_only_signature_keys_are_parsed(fake: FakeIssuer) -> None:
    public = fake.keys["k1"].as_dict(private=False)
    secret = {"kty": "oct", "kid": "s", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}
    document = {"keys": [secret, {**public, "use": "enc"}, "x", {"kty": "new"}, public]}
    assert [key.kid for key in parse_jwks(document).keys] == ["k1"]
    for broken in cast("list[dict[str, Any]]", [{"keys": [secret]}, {"keys": {}}, {}]):
        with pytest.raises(ValueError, match="no key"):
            parse_jwks(broken)


@pytest.mark.parametrize(
    ("claims", "email"),
    [
        ({"email": "a@b.co", "email_verified": True}, "a@b.co"),
        ({"email": "a@b.co", "email_verified": "true"}, "a@b.co"),
        ({"email": "a@b.co", "email_verified": "false"}, None),
        ({"email": "a@b.co", "email_verified": 1}, None),
        ({"email": "a@b.co"}, None),
        ({"email": 7, "email_verified": True}, None),
    ],
)
def test_email_counts_only_when_the_issuer_has_verified_it(
    claims: dict[str, object], email: str | None
) -> None:
    assert read_external_identity(URL, {"sub": "s", **claims}).email == email
