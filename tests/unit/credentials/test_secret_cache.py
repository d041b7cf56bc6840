"""Opened secrets are kept in memory: only what changed is opened again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from headgate.audit.model import SYSTEM
from headgate.kit.crypto import BrokenSealError
from headgate.vault.model.secret import (
    SecretRequest,
)
from headgate.vault.service.secrets import open_value
from headgate.vault.store import secrets as secret_store
from tests.fakes.vault import REFERENCE, SECRET, SecretsHarness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SecretsHarness]:
    harness = SecretsHarness(tmp_path / "headgate.db")
    yield harness
    harness.database.close()


def test_only_what_changed_is_opened_again(harness: SecretsHarness) -> None:
    harness.put()
    records = [harness.add(name=str(number)) for number in range(5)]
    harness.add(REFERENCE)
    assert harness.resolver.seals_opened == 7
    assert harness.count_opened() == 0
    harness.change(records[0].id, name="renamed", last_used_at=1.0, is_default=True)
    assert harness.count_opened() == 0
    assert harness.taken(name="renamed") == records[0].id
    with harness.database.transaction() as connection:
        harness.service.remove(connection, records[1], by=SYSTEM)
    assert harness.count_opened() == 0
    harness.put("sk-proj-another-0123456789")
    assert harness.resolver.seals_opened == 8
    assert harness.count_opened() == 0


def test_what_was_opened_does_not_hide_that_its_row_was_changed(harness: SecretsHarness) -> None:
    record = harness.add()
    harness.change(record.id, base_url="https://evil.example/v1")
    assert [fault.credential_id for fault in harness.reload()] == [record.id]
    harness.change(record.id, base_url=record.base_url)
    assert harness.reload() == []
    harness.change(record.id, sealed=b"\x01" * 200)
    assert [fault.credential_id for fault in harness.reload()] == [record.id]


def test_value_opens_in_its_own_row_only(harness: SecretsHarness) -> None:
    records = [harness.put(name=f"s{number}") for number in range(3)]
    records += [harness.put(name="s0", organization_id=harness.other)]
    with harness.database.reading() as connection:
        keys = harness.sealer.organization_keys(connection)
        sealed = {
            each.id: box for each, box in secret_store.select_organization_secrets(connection)
        }
    for one, other in itertools.permutations(records, 2):
        for key in keys.values():
            with pytest.raises(BrokenSealError):
                open_value(key, sealed[other.id], one)
    first = records[0]
    assert open_value(keys[first.key_id], sealed[first.id], first) == SECRET
    for field, value in (
        ("origin", "https://evil.example:443"),
        ("seal_number", 2),
        ("name", "other"),
        ("project_id", "proj_1"),
    ):
        moved = msgspec.structs.replace(first, **{field: value})
        with pytest.raises(BrokenSealError):
            open_value(keys[first.key_id], sealed[first.id], moved)


def test_older_value_that_is_put_back_does_not_open(harness: SecretsHarness) -> None:
    old = harness.put()
    with harness.database.reading() as connection:
        [(_, sealed)] = secret_store.select_organization_secrets(connection)
    harness.add(REFERENCE)
    new = harness.put("sk-proj-another-0123456789")
    assert (new.id, new.seal_number) == (old.id, 2)
    with harness.database.transaction() as connection:
        secret_store.update_secret(connection, new, sealed=sealed)
    [fault] = harness.reload()
    assert "the secret 'mine' that it refers to cannot be opened" in fault.reason


def test_no_value_is_in_the_database_or_in_a_repr(harness: SecretsHarness) -> None:
    harness.put()
    harness.add(REFERENCE)
    harness.database.close()
    files = b"".join(path.read_bytes() for path in harness.database.path.parent.iterdir())
    assert SECRET[8:].encode() not in files
    request = SecretRequest(organization_id="o", project_id=None, name="n", value=SECRET)
    assert SECRET not in repr(request)
