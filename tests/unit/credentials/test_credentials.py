"""What is refused by the book of credentials and in which words; who has which default."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from headgate.audit.model import SYSTEM
from headgate.credentials.model.credential import (
    CredentialChange,
    CredentialNotFoundError,
    NoCredentialError,
    UnusableCredentialError,
)
from headgate.credentials.model.secret import SECRET_CHARACTERS_MAX, mask_secret
from headgate.credentials.service.validation import PROVIDER_ORGANIZATION_CHARACTERS_MAX
from headgate.credentials.store import credentials as credential_store
from headgate.vault.model.base_url import InvalidCredentialError
from tests.fakes.safe import SECRET, Safe


@pytest.fixture
def safe(tmp_path: Path) -> Iterator[Safe]:
    safe = Safe(tmp_path / "headgate.db")
    yield safe
    safe.database.close()


def test_new_credential_is_recorded_as_it_was_asked_for(safe: Safe) -> None:
    record = safe.add(name="one", metadata={"team": "a"}, base_url="https://host/v1//")
    assert record.id.startswith("cred_")
    assert (record.integration, record.auth_type) == ("openai", "api_key")
    assert (record.base_url, record.metadata) == ("https://host/v1", {"team": "a"})
    assert record.created_at == record.updated_at == safe.clock.time
    with safe.database.reading() as connection:
        assert safe.book.list(connection) == [record]
        assert safe.book.find(connection, "one") == safe.book.find(connection, record.id) == record
        assert safe.book.open(connection, record) == SECRET
    credential = safe.resolver.resolve(safe.own, integration="openai", name=None)
    assert (credential.name, credential.integration) == ("one", "openai")


def test_credential_without_a_name_has_that_of_its_integration(safe: Safe) -> None:
    assert safe.add().name == "OpenAI"


def test_unknown_word_for_the_usage_of_streams_is_refused(safe: Safe) -> None:
    with pytest.raises(InvalidCredentialError, match="one of ask, never") as caught:
        safe.add(stream_usage="sometimes")
    assert caught.value.param == "stream_usage"
    assert safe.add(stream_usage="never").stream_usage == "never"
    assert not safe.resolver.resolve(safe.own, integration="openai", name=None).asks_usage


@pytest.mark.parametrize("seconds", [0.5, 86_401.0, math.nan, math.inf, -1.0])
def test_deadline_out_of_bounds_is_refused(safe: Safe, seconds: float) -> None:
    with pytest.raises(
        InvalidCredentialError, match="`idle_seconds` is from 1 to 86400 sec"
    ) as caught:
        safe.add(idle_seconds=seconds)
    assert caught.value.param == "idle_seconds"
    record = safe.add(idle_seconds=60.0)
    change = CredentialChange(total_seconds=seconds)
    with (
        pytest.raises(InvalidCredentialError, match="`total_seconds` is from 1 to 86400 seconds"),
        safe.database.transaction() as connection,
    ):
        safe.book.update(connection, record, change, by=SYSTEM)


def test_refusals_say_what_is_wrong_and_what_to_do(safe: Safe) -> None:
    with pytest.raises(
        InvalidCredentialError, match=r"not a key of OpenAI: it should match .*whole"
    ):
        safe.add("sk-short")
    with pytest.raises(
        InvalidCredentialError, match="1 to 4096 printable characters without blanks"
    ):
        safe.add("a b")
    with pytest.raises(InvalidCredentialError, match="'other'; there is: acme, openai"):
        safe.add(integration="other")
    with pytest.raises(InvalidCredentialError, match="The time of expiry is in the past"):
        safe.add(expires_at=safe.clock.time + 1)
    with pytest.raises(
        InvalidCredentialError, match="an id of printable characters without blanks"
    ):
        safe.add(provider_organization="a b")


def test_name_is_taken_in_its_own_organization_only(safe: Safe) -> None:
    for owner in (safe.own, safe.other, None):
        safe.add(name="one", organization_id=owner)
    with safe.database.reading() as connection:
        with pytest.raises(
            CredentialNotFoundError, match="3 credentials are named 'one'"
        ) as caught:
            safe.book.find(connection, "one")
        assert caught.value.param == "credential"
        with pytest.raises(CredentialNotFoundError, match="There is no credential 'two'"):
            safe.book.find(connection, "two")


@pytest.mark.parametrize("organization", ["o", "o" * PROVIDER_ORGANIZATION_CHARACTERS_MAX])
def test_provider_organization_is_any_id(safe: Safe, organization: str) -> None:
    assert safe.add(provider_organization=organization).provider_organization == organization


@pytest.mark.parametrize(
    "organization", ["", "o" * (PROVIDER_ORGANIZATION_CHARACTERS_MAX + 1), "o\t", "ö"]
)
def test_what_is_no_id_is_no_provider_organization(safe: Safe, organization: str) -> None:
    with pytest.raises(InvalidCredentialError) as caught:
        safe.add(provider_organization=organization)
    assert caught.value.param == "provider_organization"


def test_longest_secret_and_the_next_longer_one(safe: Safe) -> None:
    place = {"base_url": "https://proxy.example/v1"}
    assert safe.add("x" * SECRET_CHARACTERS_MAX, **place).hint == "…xxxx"
    with pytest.raises(InvalidCredentialError):
        safe.add("x" * (SECRET_CHARACTERS_MAX + 1), name="longer", **place)


def test_mask_shows_the_longest_public_prefix_from_twenty_characters_on() -> None:
    assert mask_secret("sk-proj-01234567WXYZ", ("sk-proj-", "sk-")) == "sk-proj-…WXYZ"
    assert mask_secret("sk-proj-01234567WXYZ", ("zz-", "sk-", "sk-proj-")) == "sk-proj-…WXYZ"
    assert mask_secret("sk-proj-0123456WXYZ", ("sk-",)) == "…"


def test_defaults_of_others_stay_when_one_is_chosen(safe: Safe) -> None:
    owners = (safe.own, safe.other, None)
    records = {
        owner: safe.add(name=str(owner), organization_id=owner, is_default=True) for owner in owners
    }
    second = safe.add(name="second", is_default=True)
    with safe.database.transaction() as connection:
        credential_store.clear_default(connection, safe.own, integration="another")
        found = {record.id for record in safe.book.list(connection) if record.is_default}
        assert found == {records[safe.other].id, records[None].id, second.id}
        safe.book.make_default(connection, records[safe.own], by=SYSTEM)
        defaults = {record.id for record in safe.book.list(connection) if record.is_default}
        versions = {record.id: record.version for record in safe.book.list(connection)}
    # It lost the default and got it back; the second got none but lost it; the others kept it.
    changes = [versions[record.id] for record in (records[safe.own], second, records[None])]
    assert changes == [3, 2, 1]
    assert defaults == {record.id for record in records.values()}


def test_removed_default_leaves_nothing_that_could_be_taken(safe: Safe) -> None:
    record = safe.add(is_default=True)
    with safe.database.transaction() as connection:
        safe.book.remove(connection, record, by=SYSTEM)
        (row,) = connection.execute(sa.select(credential_store.CREDENTIALS)).all()
    assert (row.is_default, row.sealed) == (False, None)
    assert row.deleted_at == row.updated_at == safe.clock.time
    safe.reload()
    with pytest.raises(NoCredentialError, match="no usable openai credential") as caught:
        safe.taken()
    assert caught.value.should_retry is False


def test_last_moment_of_a_credential_is_the_one_before_its_expiry(safe: Safe) -> None:
    record = safe.add(name="short", expires_at=safe.clock.time + 10)
    safe.clock.time += 8.5
    assert safe.taken() == safe.taken(name="short") == record.id
    safe.clock.time = record.expires_at or 0.0
    with pytest.raises(NoCredentialError):
        safe.taken()
    with pytest.raises(UnusableCredentialError, match="'short' has expired; no other one is taken"):
        safe.taken(name="short")
    with pytest.raises(
        UnusableCredentialError, match="'x' is not known or cannot be opened; no other"
    ):
        safe.taken(name="x")


def test_named_use_is_written_down_once(safe: Safe) -> None:
    record = safe.add(name="one")
    safe.clock.time += 5
    safe.taken(name="one")
    used_at, safe.clock.time = safe.clock.time, safe.clock.time + 5
    with safe.database.transaction() as connection:
        safe.resolver.flush_used(connection)
        assert safe.book.find(connection, record.id).last_used_at == used_at
        credential_store.update_credential(connection, record.id, {"last_used_at": None})
        safe.resolver.flush_used(connection)
        assert safe.book.find(connection, record.id).last_used_at is None


def test_nothing_is_usable_before_the_first_load(safe: Safe) -> None:
    with pytest.raises(NoCredentialError):
        safe.taken()


def test_managed_credentials_are_under_their_integration_and_under_headgate(safe: Safe) -> None:
    managed = safe.add(organization_id=None, name="platform")
    own = safe.add(name="own")
    resolve = safe.resolver.resolve
    assert resolve("org_x", integration="headgate", name=None).id == managed.id
    assert resolve("org_x", integration="openai", name=None).id == managed.id
    assert resolve(safe.own, integration="headgate", name=None).id == managed.id
    assert resolve(safe.own, integration="openai", name="platform").id == managed.id
    with pytest.raises(UnusableCredentialError):
        resolve(safe.own, integration="headgate", name=own.id)


def test_environment_credential_keeps_its_age_and_knows_its_own_organization(safe: Safe) -> None:
    first = safe.upsert()
    safe.add(name="default", organization_id=safe.other, is_default=True)
    changed = safe.upsert(SECRET + "2")
    assert (changed.created_at, changed.is_default) == (first.created_at, True)
    assert changed.updated_at == safe.clock.time
    with safe.database.reading() as connection:
        assert safe.book.find(connection, first.id) == changed
        assert safe.book.open(connection, changed) == SECRET + "2"


def test_environment_credential_that_no_longer_opens_is_sealed_anew(safe: Safe) -> None:
    record = safe.upsert()
    safe.change(record.id, sealed=b"\x01" * 200)
    safe.upsert()
    assert safe.reload() == []
    assert safe.taken() == record.id


def test_environment_credential_at_the_same_address_is_not_written_again(safe: Safe) -> None:
    first = safe.upsert("local", base_url="https://proxy.example/v1/")
    assert safe.upsert("local", base_url="https://proxy.example/v1/") == first
    assert safe.upsert("local", base_url="https://proxy.example/v1") == first
