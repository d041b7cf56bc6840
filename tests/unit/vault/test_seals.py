"""What a seal binds, how long it lasts, and what a broken one stops."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from headgate.accounts.store import tenants as accounts_store
from headgate.audit.model import COMMAND_LINE
from headgate.audit.service import AuditLog
from headgate.credentials.model.credential import CredentialRecord
from headgate.credentials.store import credentials as credential_store
from headgate.kit import crypto
from headgate.kit.crypto import BrokenSealError, SecretKey
from headgate.kit.db import migration
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.upgrade import migrate
from headgate.kit.ids import IdGenerator
from headgate.vault.jobs import Rotator
from headgate.vault.model.keys import InvalidMasterKeyError, MasterKeyRecord
from headgate.vault.model.sealed_row import UnreadableRow
from headgate.vault.service import (
    LocalMasterKey,
    Rotations,
    Sealer,
    find_master_key,
    find_unreadable_rows,
    store_master_key,
)
from headgate.vault.service.master_key import parse_master_key
from headgate.vault.service.sealing import open_secret
from headgate.vault.store import keys as key_store
from tests.fakes.vault import SECRET, HeldClock, VaultHarness

GOLDEN: dict[str, Any] = msgspec.json.decode(
    (Path(__file__).parents[2] / "golden" / "vault" / "sealed.json").read_bytes()
)
RANDOM = bytes.fromhex("fb ff 3a 91 5e 22 d8 4b 06 ee 19 a3 74 b5 f1 2d") * 2
"""Its base64 has both characters that are others in the form for addresses."""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[VaultHarness]:
    harness = VaultHarness(tmp_path / "headgate.db")
    yield harness
    harness.database.close()


@pytest.mark.parametrize("owner", ["own", "platform"])
def test_what_the_first_release_sealed_opens_today(harness: VaultHarness, owner: str) -> None:
    master_key = LocalMasterKey(parse_master_key(GOLDEN["master_key_text"], "here"))
    assert master_key.id == GOLDEN["master_key_id"]
    wrapped, sealed = (base64.b64decode(GOLDEN[owner][name]) for name in ("wrapped", "sealed"))
    organization_id, key_id = GOLDEN[owner]["organization_id"], GOLDEN["organization_key_id"]
    with harness.database.transaction() as connection:
        store_master_key(connection, master_key, now=0.0)
        if organization_id is not None:
            values = {"id": organization_id, "name": "Golden", "created_at": 0.0}
            connection.execute(sa.insert(accounts_store.ORGANIZATIONS).values(**values))
        row = {
            "organization_id": organization_id,
            "master_key_id": master_key.id,
            "created_at": 0.0,
        }
        key_store.insert_organization_key(connection, {"id": key_id, "wrapped": wrapped, **row})
        keys = Sealer(master_key, HeldClock()).organization_keys(connection)
    record = CredentialRecord(
        id="cred_golden",
        organization_id=organization_id,
        integration="openai",
        name="golden",
        auth_type="api_key",
        base_url="https://api.openai.com/v1",
        provider_organization=None,
        metadata={},
        hint="",
        is_default=False,
        created_at=1.0,
        updated_at=1.0,
        key_id=key_id,
    )
    assert open_secret(keys[key_id], sealed, record) == SECRET
    for change in ({"organization_id": "org_x"}, {"id": "cred_x"}, {"key_id": "okey_x"}):
        with pytest.raises(BrokenSealError):
            open_secret(keys[key_id], sealed, msgspec.structs.replace(record, **change))


def test_check_value_of_the_first_release_is_known_today(
    harness: VaultHarness, tmp_path: Path
) -> None:
    value = base64.b64decode(GOLDEN["check_value"])
    with harness.database.transaction() as connection:
        connection.execute(sa.delete(key_store.MASTER_KEYS))
        record = MasterKeyRecord(id=GOLDEN["master_key_id"], check_value=value, created_at=0.0)
        key_store.insert_master_key(connection, record)
        found = find_master_key(connection, text=GOLDEN["master_key_text"], path=tmp_path / "none")
        assert found is not None
        connection.execute(sa.update(key_store.MASTER_KEYS).values(check_value=value[:-1] + b"\0"))
        with pytest.raises(InvalidMasterKeyError, match="not the one that sealed"):
            find_master_key(connection, text=GOLDEN["master_key_text"], path=tmp_path / "none")


def test_organization_key_is_bound_to_its_organization_and_id(harness: VaultHarness) -> None:
    harness.add()
    with harness.database.transaction() as connection:
        (row,) = list(key_store.select_organization_keys(connection))
        assert row.organization_id == harness.own
        keys = key_store.ORGANIZATION_KEYS
        connection.execute(sa.update(keys).values(organization_id=harness.other))
        assert harness.sealer.organization_keys(connection) == {}
        with pytest.raises(BrokenSealError):
            harness.sealer.current_key(connection, harness.other)
        connection.execute(sa.update(keys).values(organization_id=None))
        assert harness.sealer.organization_keys(connection) == {}


def test_every_organization_has_a_key_of_its_own_and_keeps_it(harness: VaultHarness) -> None:
    owners = (harness.own, harness.other, None, harness.own, harness.other, None)
    records = [harness.add(name=str(n), organization_id=owner) for n, owner in enumerate(owners)]
    assert [record.key_id for record in records[:3]] == [record.key_id for record in records[3:]]
    assert len({record.key_id for record in records}) == 3
    with harness.database.reading() as connection:
        found = key_store.select_organization_keys(connection)
        kept = {record.organization_id: record.id for record in found}
    assert kept == {record.organization_id: record.key_id for record in records}


def test_newest_key_of_an_organization_seals_and_the_older_ones_still_open(
    harness: VaultHarness,
) -> None:
    old = harness.add(name="old")
    key = SecretKey.generate()
    with harness.database.transaction() as connection:
        bound_to = crypto.encode_fields("headgate.organization_key.1", harness.own, "okey_0")
        values = {
            "id": "okey_0",
            "organization_id": harness.own,
            "master_key_id": harness.master_key.id,
            "wrapped": harness.master_key.wrap(key.material, bound_to=bound_to),
            "created_at": harness.clock.time + 1,
        }
        key_store.insert_organization_key(connection, values)
    new = harness.add(name="new")
    assert (new.key_id, old.key_id != "okey_0") == ("okey_0", True)
    assert harness.reload() == []
    assert {harness.taken(name="old"), harness.taken(name="new")} == {old.id, new.id}


def test_broken_seals_are_left_out_named_and_logged_and_the_others_open(
    harness: VaultHarness,
) -> None:
    broken = [harness.add(name=f"broken {number}") for number in range(2)]
    lost = harness.add(name="lost", organization_id=harness.other)
    good = harness.add(name="good")
    for record in broken:
        harness.change(record.id, sealed=b"\x01" * 200)
    with harness.database.transaction() as connection:
        keys = key_store.ORGANIZATION_KEYS
        statement = sa.update(keys).where(keys.c.id == lost.key_id).values(wrapped=b"\x01" * 109)
        connection.execute(statement)
    with capture_logs() as lines:
        faults = harness.reload()
    reason = (
        "its seal is broken: it was changed, put back from an older copy, or moved here from "
        "another row or address"
    )
    assert faults == [
        UnreadableRow(broken[0].id, "broken 0", reason),
        UnreadableRow(broken[1].id, "broken 1", reason),
        UnreadableRow(
            lost.id, "lost", f"{lost.key_id} is missing, or does not open under this master key"
        ),
    ]
    with harness.database.reading() as connection:
        assert find_unreadable_rows(connection, harness.sealer) == sorted(
            faults, key=lambda fault: fault.credential_id
        )
    assert lines[0] == {
        "event": "vault.credential_unreadable",
        "credential": broken[0].id,
        "name": "broken 0",
        "reason": reason,
        "log_level": "error",
    }
    assert harness.taken() == good.id


@pytest.mark.parametrize(
    "text",
    [
        RANDOM.hex(),
        f"  {RANDOM.hex().upper()}\n",
        base64.b64encode(RANDOM).decode(),
        base64.b64encode(RANDOM).decode().rstrip("="),
        base64.urlsafe_b64encode(RANDOM).decode(),
    ],
)
def test_master_key_is_read_in_every_usual_form(text: str) -> None:
    assert {"+", "/"} < set(base64.b64encode(RANDOM).decode())
    assert parse_master_key(text, "here") == RANDOM


@pytest.mark.parametrize(
    "material",
    [
        bytes(range(0x20, 0x40)),
        bytes(byte * 9 % 256 for byte in range(240, 272)),
        RANDOM[:15] + RANDOM[:1] + RANDOM[:16].replace(RANDOM[15:16], RANDOM[:1]),
        b"~ }!|\"{#z$y%x&w'v(u)t*s+r,q-p.o/",
    ],
)
def test_master_key_that_can_be_guessed_is_refused_with_advice(material: bytes) -> None:
    with pytest.raises(InvalidMasterKeyError, match=r"HERE .*guessed.*openssl rand -base64 32"):
        parse_master_key(material.hex(), "HERE")


def test_random_bytes_that_hold_texty_bytes_are_good() -> None:
    texty = b"~ }!|\"{#z$y%x&w'v(u)t*s+r,q-p.o"
    assert parse_master_key((texty + b"\x7f").hex(), "here") == texty + b"\x7f"


@pytest.mark.parametrize(
    "text",
    [
        "!" + RANDOM.hex()[1:],
        "!" + base64.b64encode(RANDOM).decode(),
        "é" * 44,
        RANDOM.hex()[2:],
        "A B" * 15,
    ],
)
def test_text_that_is_no_key_is_refused_by_its_source(text: str) -> None:
    with pytest.raises(
        InvalidMasterKeyError, match="HERE is not 32 bytes in base64 or 64 hex digits"
    ):
        parse_master_key(text, "HERE")


def test_refused_key_is_told_with_the_place_that_it_came_from(
    harness: VaultHarness, tmp_path: Path
) -> None:
    path = tmp_path / "master.key"
    path.touch(0o600)
    path.write_text(base64.b64encode(RANDOM).decode())
    with harness.database.reading() as connection:
        with pytest.raises(InvalidMasterKeyError, match="in HEADGATE_MASTER_KEY is not the one"):
            find_master_key(connection, text=RANDOM.hex(), path=path)
        with pytest.raises(InvalidMasterKeyError, match="HEADGATE_MASTER_KEY is not 32 bytes"):
            find_master_key(connection, text="short", path=path)
        advice = "that sealed this database. Use the right one, or another data directory.$"
        with pytest.raises(InvalidMasterKeyError, match=f"in {path} is not the one {advice}"):
            find_master_key(connection, text=None, path=path)
        path.write_text("short")
        with pytest.raises(InvalidMasterKeyError, match=f"in {path} is not 32 bytes"):
            find_master_key(connection, text=None, path=path)
        missing = (
            f"{path}2 does not exist and HEADGATE_MASTER_KEY is not set, but this database holds "
            "secrets sealed with it. Restore the key: a new one cannot open them.$"
        )
        with pytest.raises(InvalidMasterKeyError, match=missing):
            find_master_key(connection, text="", path=tmp_path / "master.key2")


def test_folder_in_the_place_of_the_key_is_refused(harness: VaultHarness, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(0o700)
    with (
        harness.database.reading() as connection,
        pytest.raises(InvalidMasterKeyError, match="folder"),
    ):
        find_master_key(connection, text=None, path=tmp_path / "folder")


def test_database_of_an_earlier_release_is_known_before_its_upgrade_and_opens_after_it(
    tmp_path: Path,
) -> None:
    database = Database(tmp_path / "headgate.db")
    migrate(database, "0002")
    wrapped, sealed = (base64.b64decode(GOLDEN["own"][name]) for name in ("wrapped", "sealed"))
    master, key_id = GOLDEN["master_key_id"], GOLDEN["organization_key_id"]
    check = base64.b64decode(GOLDEN["check_value"])
    rows: list[tuple[str, tuple[Any, ...]]] = [
        ("organizations (id, name, created_at) VALUES (?, ?, ?)", ("org_golden", "Golden", 1.0)),
        ("master_keys VALUES (?, ?, ?)", (master, check, 1.0)),
        ("organization_keys VALUES (?, ?, ?, ?, ?)", (key_id, "org_golden", master, wrapped, 1.0)),
        (
            "credentials VALUES (?, ?, 'openai', 'golden', 'api_key', ?, NULL, '{}', '', ?, ?, 0, "
            "NULL, 1, 1, NULL, NULL)",
            ("cred_golden", "org_golden", "https://api.openai.com/v1", sealed, key_id),
        ),
    ]
    with database.transaction() as connection:
        for statement, values in rows:
            connection.exec_driver_sql(f"INSERT INTO {statement}", values)
    text = GOLDEN["master_key_text"]
    with database.reading() as connection:
        found = find_master_key(connection, text=text, path=tmp_path / "none")
        with pytest.raises(InvalidMasterKeyError, match="not the one that sealed"):
            find_master_key(connection, text=RANDOM.hex(), path=tmp_path / "none")
    assert found is not None
    migration.prepare(database, METADATA)
    sealer = Sealer(found, HeldClock())
    rotator = Rotator(
        Rotations(sealer, HeldClock(), IdGenerator(), AuditLog(HeldClock())),
        reading=database.reading,
        commit=lambda work: run_in(database, work),
    )
    with database.reading() as connection:
        assert find_unreadable_rows(connection, sealer) == []
    assert rotator.rotate_keys("all", by=COMMAND_LINE) == 0
    with database.reading() as connection:
        assert find_unreadable_rows(connection, sealer) == []
        [(record, _)] = credential_store.select_credentials(connection)
    database.close()
    assert (record.seal_number, record.key_id != key_id) == (1, True)


def run_in(database: Database, work: Callable[[sa.Connection], Any]) -> Any:
    with database.transaction() as connection:
        return work(connection)
