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
from tests.fakes.safe import SECRET, Safe


@pytest.fixture
def safe(tmp_path: Path) -> Iterator[Safe]:
    safe = Safe(tmp_path / "headgate.db")
    yield safe
    safe.database.close()


def test_opened_credential_is_ready_to_be_sent(safe: Safe) -> None:
    safe.add(base_url="https://Proxy.example:8443/openai/v1/", provider_organization="org-1")
    credential = safe.resolver.resolve(safe.own, integration="openai", name=None)
    assert credential.origin == Origin("https", "proxy.example", 8443)
    assert credential.base_path == b"/openai/v1"
    assert credential.headers == [
        (b"authorization", b"Bearer " + SECRET.encode()),
        (b"openai-organization", b"org-1"),
    ]
    assert credential.secret == SECRET.encode()
    assert not credential.managed


def test_no_organization_header_unless_configured(safe: Safe) -> None:
    safe.add()
    credential = safe.resolver.resolve(safe.own, integration="openai", name=None)
    assert credential.origin == Origin("https", "api.openai.com", 443)
    assert [name for name, _ in credential.headers] == [b"authorization"]


def test_default_then_newest_valid_then_managed(safe: Safe) -> None:
    managed = safe.add(organization_id=None, name="platform")
    assert safe.taken() == managed.id
    older = safe.add(name="older")
    newer = safe.add(name="newer", expires_at=safe.clock.time + 100)
    assert safe.taken() == newer.id
    default = safe.add(name="default", is_default=True, expires_at=safe.clock.time + 50)
    safe.add(name="newest")
    assert safe.taken() == default.id
    safe.clock.time += 60
    newest = safe.taken()
    assert newest not in {default.id, newer.id, older.id}
    assert safe.taken(name="older") == older.id
    assert safe.taken(organization_id=safe.other) == managed.id
    assert safe.resolver.resolve("org_x", integration="headgate", name=None).managed


def test_name_of_a_credential_tells_its_integration(safe: Safe) -> None:
    ours = safe.add()
    theirs = safe.add("acme-key", integration="acme", name="theirs")
    platform = safe.add(organization_id=None, integration="acme", name="platform")
    foreign = safe.add(organization_id=safe.other, integration="acme", name="foreign")
    find = functools.partial(safe.resolver.find_integration, safe.own, preferred="openai")
    for known in (theirs, platform):
        assert (find(known.id), find(known.name)) == ("acme", "acme")
    assert find(ours.id) == "openai"
    # What is not known or somebody else's stays where the call would have gone.
    assert (find("nothing"), find(foreign.id), find(foreign.name)) == ("openai",) * 3
    safe.add("acme-key", integration="acme", name=ours.name)
    assert find(ours.name) == "openai"
    assert safe.resolver.find_integration(safe.own, ours.name, "acme") == "acme"


def test_own_credentials_of_an_integration_are_seen_without_being_used(safe: Safe) -> None:
    safe.add(organization_id=None, integration="acme", name="platform")
    assert safe.resolver.has_any(safe.own, "acme")
    assert not safe.resolver.has_any(safe.own, "openai")
    assert safe.resolver.peek(safe.own, "acme") is None
    theirs = safe.add("acme-key", integration="acme", expires_at=safe.clock.time + 10)
    found = safe.resolver.peek(safe.own, "acme")
    assert found is not None
    assert (found.id, found.has_integration_address) == (theirs.id, True)
    safe.clock.time += 20
    assert safe.resolver.peek(safe.own, "acme") is None
    elsewhere = safe.add(integration="acme", base_url="https://proxy.example/v1")
    found = safe.resolver.peek(safe.own, "acme")
    assert found is not None
    assert (found.id, found.has_integration_address) == (elsewhere.id, False)


def test_pinned_credential_is_never_replaced(safe: Safe) -> None:
    safe.add(name="good")
    expired = safe.add(name="short", expires_at=safe.clock.time + 10)
    foreign = safe.add(name="foreign", organization_id=safe.other)
    assert safe.taken(name=expired.id) == expired.id
    safe.clock.time += 10
    for name in ("short", expired.id, foreign.id, "foreign", "nothing"):
        with pytest.raises(UnusableCredentialError) as caught:
            safe.taken(name=name)
        assert caught.value.should_retry is False


def test_removed_credential_is_never_used_again(safe: Safe) -> None:
    record = safe.add()
    with safe.database.transaction() as connection:
        safe.book.remove(connection, record, by=SYSTEM)
    safe.reload()
    with pytest.raises(NoCredentialError, match="headgate credentials add openai"):
        safe.taken()
    with pytest.raises(UnusableCredentialError):
        safe.taken(name=record.id)
    with safe.database.reading() as connection:
        assert (
            connection.execute(sa.select(credential_store.CREDENTIALS.c.sealed)).scalar_one()
            is None
        )
        assert safe.book.list(connection) == []


def test_own_name_wins_over_a_managed_one(safe: Safe) -> None:
    own = safe.add(name="same")
    safe.add(name="same", organization_id=None)
    assert safe.taken(name="same") == own.id


def test_making_another_default_takes_it_from_the_first(safe: Safe) -> None:
    first = safe.add(name="first", is_default=True)
    second = safe.add(name="second")
    with safe.database.transaction() as connection:
        safe.book.make_default(connection, second, by=SYSTEM)
    with safe.database.reading() as connection:
        defaults = [record.id for record in safe.book.list(connection) if record.is_default]
    assert defaults == [second.id]
    assert first.is_default


def test_last_use_is_written_when_flushed(safe: Safe) -> None:
    record = safe.add()
    safe.taken()
    with safe.database.transaction() as connection:
        assert safe.book.find(connection, record.id).last_used_at is None
        safe.resolver.flush_used(connection)
        assert safe.book.find(connection, record.id).last_used_at == safe.clock.time


def test_secret_is_nowhere_in_the_files_and_masked_in_the_record(safe: Safe) -> None:
    record = safe.add()
    assert record.hint == "sk-proj-…WXYZ"
    assert SECRET not in repr(record)
    safe.database.close()
    for path in safe.database.path.parent.iterdir():
        content = path.read_bytes()
        assert SECRET[8:16].encode() not in content
    request = CredentialRequest(organization_id=None, integration="openai", secret=SECRET)
    assert SECRET not in repr(request)


def test_ciphertext_of_another_row_or_address_does_not_open(safe: Safe) -> None:
    records = [
        safe.add(name=str(number), organization_id=owner)
        for owner in (safe.own, safe.other, None)
        for number in range(4)
    ]
    with safe.database.reading() as connection:
        keys = safe.sealer.organization_keys(connection)
        sealed = {record.id: box for record, box in credential_store.select_credentials(connection)}
    for one, other in itertools.permutations(records, 2):
        for key in keys.values():
            with pytest.raises(BrokenSealError):
                open_secret(key, sealed[other.id], one)
    moved = msgspec.structs.replace(records[0], base_url="https://evil.example/v1")
    with pytest.raises(BrokenSealError):
        open_secret(keys[moved.key_id], sealed[moved.id], moved)


def test_changed_row_is_left_out_and_named(safe: Safe) -> None:
    good, bad = safe.add(name="good"), safe.add(name="bad")
    safe.change(bad.id, base_url="https://evil.example/v1")
    faults = safe.reload()
    assert [fault.credential_id for fault in faults] == [bad.id]
    assert safe.taken() == good.id
    with pytest.raises(UnusableCredentialError):
        safe.taken(name="bad")


def test_environment_credential_follows_its_variables(safe: Safe) -> None:
    first = safe.upsert()
    assert first.name == "environment"
    assert first.is_default
    with safe.database.reading() as connection:
        revision = read_revisions(connection)["credentials"]
    assert safe.upsert() == first
    with safe.database.reading() as connection:
        assert read_revisions(connection)["credentials"] == revision
    changed = safe.upsert("local", base_url="http://127.0.0.1:9/v1")
    assert changed.id == first.id
    safe.reload()
    assert safe.resolver.resolve(safe.own, integration="openai", name=None).secret == b"local"


def test_credential_that_people_call_environment_is_theirs(safe: Safe) -> None:
    own = safe.add("sk-own-0123456789abcdefWXYZ", name="environment")
    made = safe.upsert()
    assert made.id != own.id
    with safe.database.reading() as connection:
        assert safe.book.open(connection, own) == "sk-own-0123456789abcdefWXYZ"


def test_environment_credential_is_not_default_where_another_is(safe: Safe) -> None:
    chosen = safe.add(is_default=True)
    assert not safe.upsert().is_default
    safe.reload()
    assert safe.taken() == chosen.id


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
    safe: Safe, more: dict[str, str], param: str
) -> None:
    with pytest.raises(InvalidCredentialError) as caught:
        safe.add(**more)  # pyright: ignore[reportArgumentType]
    assert caught.value.param == param
    with safe.database.reading() as connection:
        assert safe.book.list(connection) == []


def test_several_may_have_one_name_which_then_names_none_of_them(safe: Safe) -> None:
    first, second = safe.add(), safe.add()
    assert first.name == second.name == "OpenAI"
    assert safe.taken() == second.id
    assert safe.taken(name=first.id) == first.id
    with pytest.raises(UnusableCredentialError, match="'OpenAI' is one of several of that name"):
        safe.taken(name="OpenAI")
    with safe.database.reading() as connection, pytest.raises(CredentialNotFoundError):
        safe.book.find(connection, "OpenAI")
    with safe.database.transaction() as connection:
        safe.book.remove(connection, first, by=SYSTEM)
    safe.reload()
    assert safe.taken(name="OpenAI") == second.id


def test_no_name_takes_another_ones_id(safe: Safe) -> None:
    victim = safe.add(name="victim")
    for _ in range(2):
        safe.add(name=victim.id)
    assert safe.taken(name=victim.id) == victim.id
    with safe.database.reading() as connection:
        assert safe.book.find(connection, victim.id) == victim


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


def test_credential_of_an_organization_goes_nowhere_that_is_the_operators_own(safe: Safe) -> None:
    """Where the operator's own credentials may go is no exception for everybody."""
    local = "http://127.0.0.1:11434/v1"

    def make(organization_id: str | None, source: str = "") -> CredentialRequest:
        return CredentialRequest(
            organization_id=organization_id,
            integration="openai",
            secret="sk-local-0123456789abcdefghij",
            base_url=local,
            source=source,
        )

    with safe.database.transaction() as connection:
        with pytest.raises(InvalidCredentialError, match="HEADGATE_EGRESS_ALLOW") as refused:
            safe.book.add(connection, make(safe.own), by=SYSTEM)
        assert refused.value.param == "base_url"
        with pytest.raises(InvalidCredentialError):
            safe.book.prepare(connection, make(safe.own), by=SYSTEM)
        for request in (make(None), make(safe.own, ENVIRONMENT_NAME)):
            assert safe.book.prepare(connection, request, by=SYSTEM).purpose == OPERATOR
            assert safe.book.add(connection, request, by=SYSTEM).base_url == local


def test_credential_of_the_environment_that_is_moved_goes_where_everybodys_may(safe: Safe) -> None:
    local = "http://127.0.0.1:11434/v1"
    given = CredentialRequest(
        organization_id=safe.own,
        integration="openai",
        secret="sk-local-0123456789abcdefghij",
        base_url=local,
    )
    with safe.database.transaction() as connection:
        record = safe.book.upsert_environment(connection, given)
        kept = safe.book.replace_secret(
            connection, record, msgspec.structs.replace(given, secret="sk-other"), by=SYSTEM
        )
        assert find_purpose(kept) == OPERATOR
        elsewhere = msgspec.structs.replace(given, base_url="http://127.0.0.1:11434/api")
        with pytest.raises(InvalidCredentialError, match="HEADGATE_EGRESS_ALLOW"):
            safe.book.replace_secret(connection, kept, elsewhere, by=SYSTEM)
        allowed = msgspec.structs.replace(given, base_url="http://127.0.0.1:9/v1")
        moved = safe.book.replace_secret(connection, kept, allowed, by=SYSTEM)
        assert (moved.source, find_purpose(moved)) == ("", "")
        again = safe.book.upsert_environment(connection, given)
        assert (again.id != moved.id, again.base_url) == (True, local)


@pytest.mark.parametrize("allowed", ["gpt-5.4", "openai/gpt-5.4", "openai/*"])
def test_models_of_a_credential_are_known_by_either_spelling(safe: Safe, allowed: str) -> None:
    safe.add(allowed_models=(allowed,))
    resolve = functools.partial(safe.resolver.resolve, safe.own, integration="openai", name=None)
    assert resolve(model="gpt-5.4").integration == "openai"
    if allowed != "openai/*":
        with pytest.raises(NoCredentialError, match="limited to the models"):
            resolve(model="gpt-5.5")
