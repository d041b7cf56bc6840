"""What becomes of seals that somebody with the database changes, moves or puts back (V2, V3, V5,
V9)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from headgate.accounts.service import AccountService
from headgate.audit.model import COMMAND_LINE, SYSTEM, AuditFilter
from headgate.audit.service import AuditLog
from headgate.credentials.model.credential import CredentialRecord, UnusableCredentialError
from headgate.credentials.store import credentials as credential_store
from headgate.kit import crypto
from headgate.kit.crypto import BrokenSealError, SecretKey
from headgate.kit.ids import IdGenerator
from headgate.vault.model.keys import EVERY_KEY
from headgate.vault.service import Rotations
from headgate.vault.service.sealing import open_secret
from headgate.vault.store import keys as key_store
from tests.fakes.vault import SECRET, VaultHarness

NONCES = 20_000


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[VaultHarness]:
    harness = VaultHarness(tmp_path / "headgate.db")
    yield harness
    harness.database.close()


def read_rows(
    harness: VaultHarness,
) -> tuple[list[tuple[CredentialRecord, bytes]], dict[str, SecretKey]]:
    with harness.database.reading() as connection:
        keys = harness.sealer.organization_keys(connection)
        return list(credential_store.select_credentials(connection)), keys


def test_flipped_bits_of_fifty_blobs_open_nothing(harness: VaultHarness) -> None:
    """Flip every seventh bit of each blob, each time from another bit, so that all are covered."""
    for number in range(50):
        harness.add(f"sk-proj-0123456789abcdef{number:04}", name=str(number))
    rows, keys = read_rows(harness)
    flips = 0
    for number, (record, sealed) in enumerate(rows):
        for bit in range(number % 7, len(sealed) * 8, 7):
            changed = bytearray(sealed)
            changed[bit // 8] ^= 1 << bit % 8
            flips += 1
            with pytest.raises(BrokenSealError):
                open_secret(keys[record.key_id], bytes(changed), record)
    assert (len(rows), flips > 10_000) == (50, True)


def test_seals_that_change_places_open_nothing(harness: VaultHarness) -> None:
    accounts = AccountService(harness.clock, IdGenerator(), AuditLog(harness.clock))
    with harness.database.transaction() as connection:
        more = [accounts.create_organization(connection, name, by=SYSTEM).id for name in "ab"]
    owners = [harness.own, harness.other, None, *more]
    for number in range(20):
        harness.add(name=str(number), organization_id=owners[number % 5])
    rows, keys = read_rows(harness)
    pairs = list(itertools.permutations(rows, 2))
    for (one, _), (other, sealed) in pairs:
        for key_id in {one.key_id, other.key_id}:
            moved = msgspec.structs.replace(one, key_id=key_id, seal_number=other.seal_number)
            with pytest.raises(BrokenSealError):
                open_secret(keys[key_id], sealed, moved)
    assert len(pairs) == 380


def test_wrapped_keys_that_change_places_open_nothing(harness: VaultHarness) -> None:
    for owner in (harness.own, harness.other, None):
        harness.add(organization_id=owner)
    with harness.database.reading() as connection:
        records = list(key_store.select_organization_keys(connection))
    for one, other in itertools.permutations(records, 2):
        with harness.database.transaction() as connection:
            keys = key_store.ORGANIZATION_KEYS
            change = sa.update(keys).where(keys.c.id == one.id)
            connection.execute(change.values(wrapped=other.wrapped))
            assert one.id not in harness.sealer.organization_keys(connection)
            connection.execute(change.values(wrapped=one.wrapped))
            assert len(harness.sealer.organization_keys(connection)) == 3


def test_older_seal_of_the_same_row_opens_no_more(harness: VaultHarness) -> None:
    first = harness.upsert()
    [(_, old)], _ = read_rows(harness)
    harness.upsert("sk-proj-0123456789abcdefNEW1")
    [(record, new)], keys = read_rows(harness)
    assert (record.key_id, record.seal_number) == (first.key_id, 2)
    assert open_secret(keys[record.key_id], new, record).endswith("NEW1")
    harness.change(record.id, sealed=old)
    assert [fault.credential_id for fault in harness.reload()] == [record.id]
    with pytest.raises(UnusableCredentialError):
        harness.taken(name="environment")


def test_row_of_an_earlier_release_still_opens_and_is_counted_when_it_is_sealed_anew(
    harness: VaultHarness,
) -> None:
    record = harness.add()
    _, keys = read_rows(harness)
    uncounted = msgspec.structs.replace(record, seal_number=0)
    fields = ("headgate.credential.1", harness.own, record.id, "secret", record.key_id)
    bound_to = crypto.encode_fields(*fields, "https://api.openai.com:443")
    sealed = crypto.seal_envelope(keys[record.key_id], SECRET.encode(), bound_to=bound_to)
    assert open_secret(keys[record.key_id], sealed, uncounted) == SECRET
    harness.change(record.id, sealed=sealed, seal_number=0)
    assert harness.reload() == []
    # The form without a number is not taken for any later one.
    harness.change(record.id, seal_number=1)
    assert len(harness.reload()) == 1


def test_broken_seal_is_in_the_audit_log_once(harness: VaultHarness) -> None:
    record = harness.add(name="broken")
    harness.change(record.id, sealed=b"\x01" * 200)
    for _ in range(3):
        harness.reload()
        with harness.database.transaction() as connection:
            harness.resolver.flush_used(connection)
    with harness.database.reading() as connection:
        wanted = AuditFilter(object_id=record.id, action="credential.unreadable")
        [entry], count = AuditLog(harness.clock).list(connection, wanted, limit=5)
    assert (count, entry.event.organization_id) == (1, harness.own)
    assert entry.event.changes["name"] == "broken"
    assert "seal is broken" in entry.event.changes["reason"]


def test_no_nonce_comes_twice() -> None:
    key = SecretKey.generate()
    nonces = {crypto.seal(key, b"", bound_to=b"")[41:53] for _ in range(NONCES)}
    assert len(nonces) == NONCES


def test_nothing_is_sealed_or_replaced_that_cannot_be_recorded(harness: VaultHarness) -> None:
    record = harness.add(name="kept")
    before, _ = read_rows(harness)
    rotations = Rotations(harness.sealer, harness.clock, IdGenerator(), AuditLog(harness.clock))
    with harness.database.transaction() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no_audit BEFORE INSERT ON audit "
            "BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
    with pytest.raises(exc.DBAPIError, match="no room"):
        harness.add(name="new")
    with (
        pytest.raises(exc.DBAPIError, match="no room"),
        harness.database.transaction() as connection,
    ):
        harness.service.remove(connection, record, by=COMMAND_LINE)
    with (
        pytest.raises(exc.DBAPIError, match="no room"),
        harness.database.transaction() as connection,
    ):
        rotations.begin_keys(connection, EVERY_KEY, by=COMMAND_LINE)
    assert read_rows(harness)[0] == before
    with harness.database.reading() as connection:
        assert rotations.list_retired(connection) == []


def test_what_did_not_change_is_not_opened_anew(harness: VaultHarness) -> None:
    records = [harness.add(name=str(number)) for number in range(3)]
    harness.reload()
    before = harness.resolver.seals_opened
    harness.taken()
    with harness.database.transaction() as connection:
        harness.resolver.flush_used(connection)
    harness.reload()
    assert harness.resolver.seals_opened == before
    harness.change(records[1].id, base_url="https://other.example/v1")
    assert len(harness.reload()) == 1
    assert harness.resolver.seals_opened == before + 1
    with harness.database.transaction() as connection:
        connection.execute(sa.update(key_store.ORGANIZATION_KEYS).values(wrapped=b"\x01" * 109))
    assert len(harness.reload()) == 3
