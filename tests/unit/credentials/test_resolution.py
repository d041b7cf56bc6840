"""Which credential a call is sent with."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from headgate.audit.model import SYSTEM
from headgate.credentials.model.credential import (
    CredentialNotFoundError,
    CredentialRequest,
    NoCredentialError,
    UnusableCredentialError,
    find_purpose,
)
from headgate.credentials.model.secret import mask_secret
from headgate.credentials.service.credentials import ENVIRONMENT_NAME
from headgate.credentials.store import credentials as credential_store
from headgate.kit.crypto import BrokenSealError
from headgate.kit.db.schema import read_revisions
from headgate.kit.http.message import Origin
from headgate.relay.ports import OPERATOR
from headgate.vault.model.base_url import InvalidCredentialError
from headgate.vault.service.sealing import open_secret
from tests.fakes.vault import SECRET, VaultHarness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[VaultHarness]:
    harness = VaultHarness(tmp_path / "headgate.db")
    yield harness
    harness.database.close()


def test_opened_credential_is_ready_to_be_sent(harness: VaultHarness) -> None:
    harness.add(base_url="https://Proxy.example:8443/openai/v1/", provider_organization="org-1")
    credential = harness.resolver.resolve(harness.own, integration="openai", name=None)
    assert credential.origin == Origin("https", "proxy.example", 8443)
    assert credential.base_path == b"/openai/v1"
    assert credential.headers == [
        (b"authorization", b"Bearer " + SECRET.encode()),
        (b"openai-organization", b"org-1"),
    ]
    assert credential.secret == SECRET.encode()
    assert not credential.managed


@pytest.mark.parametrize(
    ("base_url", "has_catalog_models"),
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://api.openai.com.proxy.example/v1", False),
        ("https://gate.example/v1", False),
    ],
)
def test_what_the_catalog_says_of_models_holds_at_their_own_address(
    harness: VaultHarness, base_url: str, has_catalog_models: bool
) -> None:
    harness.add(base_url=base_url)
    credential = harness.resolver.resolve(harness.own, integration="openai", name=None)
    assert credential.has_catalog_models is has_catalog_models


def test_no_organization_header_unless_configured(harness: VaultHarness) -> None:
    harness.add()
    credential = harness.resolver.resolve(harness.own, integration="openai", name=None)
    assert credential.origin == Origin("https", "api.openai.com", 443)
    assert [name for name, _ in credential.headers] == [b"authorization"]


def test_default_then_newest_valid_then_managed(harness: VaultHarness) -> None:
    managed = harness.add(organization_id=None, name="platform")
    assert harness.taken() == managed.id
    older = harness.add(name="older")
    newer = harness.add(name="newer", expires_at=harness.clock.time + 100)
    assert harness.taken() == newer.id
    default = harness.add(name="default", is_default=True, expires_at=harness.clock.time + 50)
    harness.add(name="newest")
    assert harness.taken() == default.id
    harness.clock.time += 60
    newest = harness.taken()
    assert newest not in {default.id, newer.id, older.id}
    assert harness.taken(name="older") == older.id
    assert harness.taken(organization_id=harness.other) == managed.id
    assert harness.resolver.resolve("org_x", integration="headgate", name=None).managed


def test_name_of_a_credential_tells_its_integration(harness: VaultHarness) -> None:
    ours = harness.add()
    theirs = harness.add("acme-key", integration="acme", name="theirs")
    platform = harness.add(organization_id=None, integration="acme", name="platform")
    foreign = harness.add(organization_id=harness.other, integration="acme", name="foreign")
    find = functools.partial(harness.resolver.find_integration, harness.own, preferred="openai")
    for known in (theirs, platform):
        assert (find(known.id), find(known.name)) == ("acme", "acme")
    assert find(ours.id) == "openai"
    # What is not known or somebody else's stays where the call would have gone.
    assert (find("nothing"), find(foreign.id), find(foreign.name)) == ("openai",) * 3
    harness.add("acme-key", integration="acme", name=ours.name)
    assert find(ours.name) == "openai"
    assert harness.resolver.find_integration(harness.own, ours.name, "acme") == "acme"


def test_own_credentials_of_an_integration_are_seen_without_being_used(
    harness: VaultHarness,
) -> None:
    harness.add(organization_id=None, integration="acme", name="platform")
    assert harness.resolver.has_any(harness.own, "acme")
    assert not harness.resolver.has_any(harness.own, "openai")
    assert harness.resolver.peek(harness.own, "acme") is None
    theirs = harness.add("acme-key", integration="acme", expires_at=harness.clock.time + 10)
    found = harness.resolver.peek(harness.own, "acme")
    assert found is not None
    assert (found.id, found.has_integration_address) == (theirs.id, True)
    harness.clock.time += 20
    assert harness.resolver.peek(harness.own, "acme") is None
    elsewhere = harness.add(integration="acme", base_url="https://proxy.example/v1")
    found = harness.resolver.peek(harness.own, "acme")
    assert found is not None
    assert (found.id, found.has_integration_address) == (elsewhere.id, False)


def test_pinned_credential_is_never_replaced(harness: VaultHarness) -> None:
    harness.add(name="good")
    expired = harness.add(name="short", expires_at=harness.clock.time + 10)
    foreign = harness.add(name="foreign", organization_id=harness.other)
    assert harness.taken(name=expired.id) == expired.id
    harness.clock.time += 10
    for name in ("short", expired.id, foreign.id, "foreign", "nothing"):
        with pytest.raises(UnusableCredentialError) as caught:
            harness.taken(name=name)
        assert caught.value.should_retry is False


def test_removed_credential_is_never_used_again(harness: VaultHarness) -> None:
    record = harness.add()
    with harness.database.transaction() as connection:
        harness.service.remove(connection, record, by=SYSTEM)
    harness.reload()
    with pytest.raises(NoCredentialError, match="headgate credentials add openai"):
        harness.taken()
    with pytest.raises(UnusableCredentialError):
        harness.taken(name=record.id)
    with harness.database.reading() as connection:
        assert (
            connection.execute(sa.select(credential_store.CREDENTIALS.c.sealed)).scalar_one()
            is None
        )
        assert harness.service.list(connection) == []


def test_own_name_wins_over_a_managed_one(harness: VaultHarness) -> None:
    own = harness.add(name="same")
    harness.add(name="same", organization_id=None)
    assert harness.taken(name="same") == own.id


def test_making_another_default_takes_it_from_the_first(harness: VaultHarness) -> None:
    first = harness.add(name="first", is_default=True)
    second = harness.add(name="second")
    with harness.database.transaction() as connection:
        harness.service.make_default(connection, second, by=SYSTEM)
    with harness.database.reading() as connection:
        defaults = [record.id for record in harness.service.list(connection) if record.is_default]
    assert defaults == [second.id]
    assert first.is_default


def test_last_use_is_written_when_flushed(harness: VaultHarness) -> None:
    record = harness.add()
    harness.taken()
    with harness.database.transaction() as connection:
        assert harness.service.find(connection, record.id).last_used_at is None
        harness.resolver.flush_used(connection)
        assert harness.service.find(connection, record.id).last_used_at == harness.clock.time


def test_secret_is_nowhere_in_the_files_and_masked_in_the_record(harness: VaultHarness) -> None:
    record = harness.add()
    assert record.hint == "sk-proj-…WXYZ"
    assert SECRET not in repr(record)
    harness.database.close()
    for path in harness.database.path.parent.iterdir():
        content = path.read_bytes()
        assert SECRET[8:16].encode() not in content
    request = CredentialRequest(organization_id=None, integration="openai", secret=SECRET)
    assert SECRET not in repr(request)


def test_ciphertext_of_another_row_or_address_does_not_open(harness: VaultHarness) -> None:
    records = [
        harness.add(name=str(number), organization_id=owner)
        for owner in (harness.own, harness.other, None)
        for number in range(4)
    ]
    with harness.database.reading() as connection:
        keys = harness.sealer.organization_keys(connection)
        sealed = {record.id: box for record, box in credential_store.select_credentials(connection)}
    for one, other in itertools.permutations(records, 2):
        for key in keys.values():
            with pytest.raises(BrokenSealError):
                open_secret(key, sealed[other.id], one)
    moved = msgspec.structs.replace(records[0], base_url="https://evil.example/v1")
    with pytest.raises(BrokenSealError):
        open_secret(keys[moved.key_id], sealed[moved.id], moved)


def test_changed_row_is_left_out_and_named(harness: VaultHarness) -> None:
    good, bad = harness.add(name="good"), harness.add(name="bad")
    harness.change(bad.id, base_url="https://evil.example/v1")
    faults = harness.reload()
    assert [fault.credential_id for fault in faults] == [bad.id]
    assert harness.taken() == good.id
    with pytest.raises(UnusableCredentialError):
        harness.taken(name="bad")


def test_environment_credential_follows_its_variables(harness: VaultHarness) -> None:
    first = harness.upsert()
    assert first.name == "environment"
    assert first.is_default
    with harness.database.reading() as connection:
        revision = read_revisions(connection)["credentials"]
    assert harness.upsert() == first
    with harness.database.reading() as connection:
        assert read_revisions(connection)["credentials"] == revision
    changed = harness.upsert("local", base_url="http://127.0.0.1:9/v1")
    assert changed.id == first.id
    harness.reload()
    assert harness.resolver.resolve(harness.own, integration="openai", name=None).secret == b"local"


def test_credential_that_people_call_environment_is_theirs(harness: VaultHarness) -> None:
    own = harness.add("sk-own-0123456789abcdefWXYZ", name="environment")
    made = harness.upsert()
    assert made.id != own.id
    with harness.database.reading() as connection:
        assert harness.service.open(connection, own) == "sk-own-0123456789abcdefWXYZ"


def test_environment_credential_is_not_default_where_another_is(harness: VaultHarness) -> None:
    chosen = harness.add(is_default=True)
    assert not harness.upsert().is_default
    harness.reload()
    assert harness.taken() == chosen.id


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"secret": "sk-short"}, "api_key"),
        ({"secret": "pk-0123456789abcdefghijkl"}, "api_key"),
        ({"secret": "sk-0123456789abcdefghij\r\nx: y"}, "api_key"),
        ({"secret": "a b", "base_url": "http://localhost/v1"}, "api_key"),
        ({"secret": "", "base_url": "http://localhost/v1"}, "api_key"),
        ({"secret": "sk-short", "base_url": "https://API.openai.com:443/v2"}, "api_key"),
        ({"base_url": "ftp://files.example"}, "base_url"),
        ({"base_url": "https://user:pass@host"}, "base_url"),
        ({"base_url": "https://host/v1?x=1"}, "base_url"),
        ({"base_url": "https://host/v1#"}, "base_url"),
        ({"base_url": "https://host/../v1"}, "base_url"),
        ({"base_url": "https://host/%2e%2e/v1"}, "base_url"),
        ({"base_url": "https://host//v1"}, "base_url"),
        ({"base_url": "https://host:99999/"}, "base_url"),
        ({"base_url": "https://host:0/"}, "base_url"),
        ({"base_url": "https://ho\u017ft/"}, "base_url"),
        ({"base_url": "https:///v1"}, "base_url"),
        ({"base_url": "https://ho st/"}, "base_url"),
        ({"integration": "nothing"}, "integration"),
        ({"expires_at": 1.0}, "expires_at"),
        ({"provider_organization": "a\r\nb"}, "provider_organization"),
    ],
)
def test_what_cannot_be_a_credential_is_refused_by_field(
    harness: VaultHarness, more: dict[str, str], param: str
) -> None:
    with pytest.raises(InvalidCredentialError) as caught:
        harness.add(**more)  # pyright: ignore[reportArgumentType]
    assert caught.value.param == param
    with harness.database.reading() as connection:
        assert harness.service.list(connection) == []


def test_several_may_have_one_name_which_then_names_none_of_them(harness: VaultHarness) -> None:
    first, second = harness.add(), harness.add()
    assert first.name == second.name == "OpenAI"
    assert harness.taken() == second.id
    assert harness.taken(name=first.id) == first.id
    with pytest.raises(UnusableCredentialError, match="'OpenAI' is one of several of that name"):
        harness.taken(name="OpenAI")
    with harness.database.reading() as connection, pytest.raises(CredentialNotFoundError):
        harness.service.find(connection, "OpenAI")
    with harness.database.transaction() as connection:
        harness.service.remove(connection, first, by=SYSTEM)
    harness.reload()
    assert harness.taken(name="OpenAI") == second.id


def test_no_name_takes_another_ones_id(harness: VaultHarness) -> None:
    victim = harness.add(name="victim")
    for _ in range(2):
        harness.add(name=victim.id)
    assert harness.taken(name=victim.id) == victim.id
    with harness.database.reading() as connection:
        assert harness.service.find(connection, victim.id) == victim


@pytest.mark.parametrize(
    ("secret", "mask"),
    [
        ("sk-0123456789abcdefWXYZ", "sk-…WXYZ"),
        ("sk-svc-0123456789abcWXYZ", "sk-…WXYZ"),
        ("anything-of-a-proxy-WXYZ", "…WXYZ"),
        ("sk-short-WXYZ", "…"),
    ],
)
def test_mask_shows_public_prefix_and_end_of_long_secrets_only(secret: str, mask: str) -> None:
    assert mask_secret(secret, ("sk-", "sk-proj-")) == mask


def test_credential_of_an_organization_goes_nowhere_that_is_the_operators_own(
    harness: VaultHarness,
) -> None:
    """Allow the operator's own addresses to the operator's own credentials only."""
    local = "http://127.0.0.1:11434/v1"

    def make(organization_id: str | None, source: str = "") -> CredentialRequest:
        return CredentialRequest(
            organization_id=organization_id,
            integration="openai",
            secret="sk-local-0123456789abcdefghij",
            base_url=local,
            source=source,
        )

    with harness.database.transaction() as connection:
        with pytest.raises(InvalidCredentialError, match="HEADGATE_EGRESS_ALLOW") as refused:
            harness.service.add(connection, make(harness.own), by=SYSTEM)
        assert refused.value.param == "base_url"
        with pytest.raises(InvalidCredentialError):
            harness.service.prepare(connection, make(harness.own), by=SYSTEM)
        for request in (make(None), make(harness.own, ENVIRONMENT_NAME)):
            assert harness.service.prepare(connection, request, by=SYSTEM).purpose == OPERATOR
            assert harness.service.add(connection, request, by=SYSTEM).base_url == local


def test_credential_of_the_environment_that_is_moved_goes_where_everybodys_may(
    harness: VaultHarness,
) -> None:
    local = "http://127.0.0.1:11434/v1"
    given = CredentialRequest(
        organization_id=harness.own,
        integration="openai",
        secret="sk-local-0123456789abcdefghij",
        base_url=local,
    )
    with harness.database.transaction() as connection:
        record = harness.service.upsert_environment(connection, given)
        kept = harness.service.replace_secret(
            connection, record, msgspec.structs.replace(given, secret="sk-other"), by=SYSTEM
        )
        assert find_purpose(kept) == OPERATOR
        elsewhere = msgspec.structs.replace(given, base_url="http://127.0.0.1:11434/api")
        with pytest.raises(InvalidCredentialError, match="HEADGATE_EGRESS_ALLOW"):
            harness.service.replace_secret(connection, kept, elsewhere, by=SYSTEM)
        allowed = msgspec.structs.replace(given, base_url="http://127.0.0.1:9/v1")
        moved = harness.service.replace_secret(connection, kept, allowed, by=SYSTEM)
        assert (moved.source, find_purpose(moved)) == ("", "")
        again = harness.service.upsert_environment(connection, given)
        assert (again.id != moved.id, again.base_url) == (True, local)


@pytest.mark.parametrize("allowed", ["gpt-5.4", "openai/gpt-5.4", "openai/*"])
def test_models_of_a_credential_are_known_by_either_spelling(
    harness: VaultHarness, allowed: str
) -> None:
    harness.add(allowed_models=(allowed,))
    resolve = functools.partial(
        harness.resolver.resolve, harness.own, integration="openai", name=None
    )
    assert resolve(model="gpt-5.4").integration == "openai"
    if allowed != "openai/*":
        with pytest.raises(NoCredentialError, match="limited to the models"):
            resolve(model="gpt-5.5")
