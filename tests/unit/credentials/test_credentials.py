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
from tests.fakes.vault import SECRET, VaultHarness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[VaultHarness]:
    harness = VaultHarness(tmp_path / "headgate.db")
    yield harness
    harness.database.close()


def test_new_credential_is_recorded_as_it_was_asked_for(harness: VaultHarness) -> None:
    record = harness.add(name="one", metadata={"team": "a"}, base_url="https://host/v1//")
    assert record.id.startswith("cred_")
    assert (record.integration, record.auth_type) == ("openai", "api_key")
    assert (record.base_url, record.metadata) == ("https://host/v1", {"team": "a"})
    assert record.created_at == record.updated_at == harness.clock.time
    with harness.database.reading() as connection:
        assert harness.service.list(connection) == [record]
        assert (
            harness.service.find(connection, "one")
            == harness.service.find(connection, record.id)
            == record
        )
        assert harness.service.open(connection, record) == SECRET
    credential = harness.resolver.resolve(harness.own, integration="openai", name=None)
    assert (credential.name, credential.integration) == ("one", "openai")


def test_credential_without_a_name_has_that_of_its_integration(harness: VaultHarness) -> None:
    assert harness.add().name == "OpenAI"


def test_unknown_word_for_the_usage_of_streams_is_refused(harness: VaultHarness) -> None:
    with pytest.raises(InvalidCredentialError, match="one of ask, never") as caught:
        harness.add(stream_usage="sometimes")
    assert caught.value.param == "stream_usage"
    assert harness.add(stream_usage="never").stream_usage == "never"
    assert not harness.resolver.resolve(harness.own, integration="openai", name=None).asks_usage


@pytest.mark.parametrize("seconds", [0.5, 86_401.0, math.nan, math.inf, -1.0])
def test_deadline_out_of_bounds_is_refused(harness: VaultHarness, seconds: float) -> None:
    with pytest.raises(
        InvalidCredentialError, match="`idle_seconds` must be from 1 to 86400 sec"
    ) as caught:
        harness.add(idle_seconds=seconds)
    assert caught.value.param == "idle_seconds"
    record = harness.add(idle_seconds=60.0)
    change = CredentialChange(total_seconds=seconds)
    with (
        pytest.raises(
            InvalidCredentialError, match="`total_seconds` must be from 1 to 86400 seconds"
        ),
        harness.database.transaction() as connection,
    ):
        harness.service.update(connection, record, change, by=SYSTEM)


def test_refusals_say_what_is_wrong_and_what_to_do(harness: VaultHarness) -> None:
    with pytest.raises(InvalidCredentialError, match=r"not a key of OpenAI: it must match .*whole"):
        harness.add("sk-short")
    with pytest.raises(
        InvalidCredentialError, match="1 to 4096 printable characters without spaces"
    ):
        harness.add("a b")
    with pytest.raises(InvalidCredentialError, match="'other'; there is: acme, openai"):
        harness.add(integration="other")
    with pytest.raises(InvalidCredentialError, match="expires_at is in the past"):
        harness.add(expires_at=harness.clock.time + 1)
    with pytest.raises(
        InvalidCredentialError, match="an id of printable characters without spaces"
    ):
        harness.add(provider_organization="a b")


def test_name_is_taken_in_its_own_organization_only(harness: VaultHarness) -> None:
    for owner in (harness.own, harness.other, None):
        harness.add(name="one", organization_id=owner)
    with harness.database.reading() as connection:
        with pytest.raises(
            CredentialNotFoundError, match="3 credentials are named 'one'"
        ) as caught:
            harness.service.find(connection, "one")
        assert caught.value.param == "credential"
        with pytest.raises(CredentialNotFoundError, match="There is no credential 'two'"):
            harness.service.find(connection, "two")


@pytest.mark.parametrize("organization", ["o", "o" * PROVIDER_ORGANIZATION_CHARACTERS_MAX])
def test_provider_organization_is_any_id(harness: VaultHarness, organization: str) -> None:
    assert harness.add(provider_organization=organization).provider_organization == organization


@pytest.mark.parametrize(
    "organization", ["", "o" * (PROVIDER_ORGANIZATION_CHARACTERS_MAX + 1), "o\t", "ö"]
)
def test_what_is_no_id_is_no_provider_organization(
    harness: VaultHarness, organization: str
) -> None:
    with pytest.raises(InvalidCredentialError) as caught:
        harness.add(provider_organization=organization)
    assert caught.value.param == "provider_organization"


def test_longest_secret_and_the_next_longer_one(harness: VaultHarness) -> None:
    place = {"base_url": "https://proxy.example/v1"}
    assert harness.add("x" * SECRET_CHARACTERS_MAX, **place).hint == "…xxxx"
    with pytest.raises(InvalidCredentialError):
        harness.add("x" * (SECRET_CHARACTERS_MAX + 1), name="longer", **place)


def test_mask_shows_the_longest_public_prefix_from_twenty_characters_on() -> None:
    assert mask_secret("sk-proj-01234567WXYZ", ("sk-proj-", "sk-")) == "sk-proj-…WXYZ"
    assert mask_secret("sk-proj-01234567WXYZ", ("zz-", "sk-", "sk-proj-")) == "sk-proj-…WXYZ"
    assert mask_secret("sk-proj-0123456WXYZ", ("sk-",)) == "…"


def test_defaults_of_others_stay_when_one_is_chosen(harness: VaultHarness) -> None:
    owners = (harness.own, harness.other, None)
    records = {
        owner: harness.add(name=str(owner), organization_id=owner, is_default=True)
        for owner in owners
    }
    second = harness.add(name="second", is_default=True)
    with harness.database.transaction() as connection:
        credential_store.clear_default(connection, harness.own, integration="another")
        found = {record.id for record in harness.service.list(connection) if record.is_default}
        assert found == {records[harness.other].id, records[None].id, second.id}
        harness.service.make_default(connection, records[harness.own], by=SYSTEM)
        defaults = {record.id for record in harness.service.list(connection) if record.is_default}
        versions = {record.id: record.version for record in harness.service.list(connection)}
    # It lost the default and got it back; the second got none but lost it; the others kept it.
    changes = [versions[record.id] for record in (records[harness.own], second, records[None])]
    assert changes == [3, 2, 1]
    assert defaults == {record.id for record in records.values()}


def test_removed_default_leaves_nothing_that_could_be_taken(harness: VaultHarness) -> None:
    record = harness.add(is_default=True)
    with harness.database.transaction() as connection:
        harness.service.remove(connection, record, by=SYSTEM)
        (row,) = connection.execute(sa.select(credential_store.CREDENTIALS)).all()
    assert (row.is_default, row.sealed) == (False, None)
    assert row.deleted_at == row.updated_at == harness.clock.time
    harness.reload()
    with pytest.raises(NoCredentialError, match="no usable openai credential") as caught:
        harness.taken()
    assert caught.value.should_retry is False


def test_last_moment_of_a_credential_is_the_one_before_its_expiry(harness: VaultHarness) -> None:
    record = harness.add(name="short", expires_at=harness.clock.time + 10)
    harness.clock.time += 8.5
    assert harness.taken() == harness.taken(name="short") == record.id
    harness.clock.time = record.expires_at or 0.0
    with pytest.raises(NoCredentialError):
        harness.taken()
    with pytest.raises(UnusableCredentialError, match=r"'short' has expired\. No other credential"):
        harness.taken(name="short")
    with pytest.raises(
        UnusableCredentialError, match=r"'x' is not known or cannot be opened\. No other"
    ):
        harness.taken(name="x")


def test_named_use_is_written_down_once(harness: VaultHarness) -> None:
    record = harness.add(name="one")
    harness.clock.time += 5
    harness.taken(name="one")
    used_at, harness.clock.time = harness.clock.time, harness.clock.time + 5
    with harness.database.transaction() as connection:
        harness.resolver.flush_used(connection)
        assert harness.service.find(connection, record.id).last_used_at == used_at
        credential_store.update_credential(connection, record.id, {"last_used_at": None})
        harness.resolver.flush_used(connection)
        assert harness.service.find(connection, record.id).last_used_at is None


def test_nothing_is_usable_before_the_first_load(harness: VaultHarness) -> None:
    with pytest.raises(NoCredentialError):
        harness.taken()


def test_managed_credentials_are_under_their_integration_and_under_headgate(
    harness: VaultHarness,
) -> None:
    managed = harness.add(organization_id=None, name="platform")
    own = harness.add(name="own")
    resolve = harness.resolver.resolve
    assert resolve("org_x", integration="headgate", name=None).id == managed.id
    assert resolve("org_x", integration="openai", name=None).id == managed.id
    assert resolve(harness.own, integration="headgate", name=None).id == managed.id
    assert resolve(harness.own, integration="openai", name="platform").id == managed.id
    with pytest.raises(UnusableCredentialError):
        resolve(harness.own, integration="headgate", name=own.id)


def test_environment_credential_keeps_its_age_and_knows_its_own_organization(
    harness: VaultHarness,
) -> None:
    first = harness.upsert()
    harness.add(name="default", organization_id=harness.other, is_default=True)
    changed = harness.upsert(SECRET + "2")
    assert (changed.created_at, changed.is_default) == (first.created_at, True)
    assert changed.updated_at == harness.clock.time
    with harness.database.reading() as connection:
        assert harness.service.find(connection, first.id) == changed
        assert harness.service.open(connection, changed) == SECRET + "2"


def test_environment_credential_that_no_longer_opens_is_sealed_anew(harness: VaultHarness) -> None:
    record = harness.upsert()
    harness.change(record.id, sealed=b"\x01" * 200)
    harness.upsert()
    assert harness.reload() == []
    assert harness.taken() == record.id


def test_environment_credential_at_the_same_address_is_not_written_again(
    harness: VaultHarness,
) -> None:
    first = harness.upsert("local", base_url="https://proxy.example/v1/")
    assert harness.upsert("local", base_url="https://proxy.example/v1/") == first
    assert harness.upsert("local", base_url="https://proxy.example/v1") == first
