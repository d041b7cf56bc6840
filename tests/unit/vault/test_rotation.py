"""Keys that are replaced while everything they seal stays readable (V1, V5)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from headgate.audit.model import COMMAND_LINE, AuditFilter
from headgate.audit.service import AuditLog
from headgate.credentials.service import CredentialResolver, CredentialService
from headgate.credentials.store import credentials as credential_store
from headgate.kit import failpoint
from headgate.kit.errors import HeadgateError
from headgate.kit.failpoint import FailpointError
from headgate.kit.ids import IdGenerator
from headgate.vault import jobs
from headgate.vault.jobs import Rotator
from headgate.vault.model.keys import (
    EVERY_KEY,
    PLATFORM_KEY,
    InvalidMasterKeyError,
    MasterKeyReplacedError,
    MasterKeyState,
    Rotation,
    RotationConflictError,
    RotationState,
)
from headgate.vault.service import (
    LocalMasterKey,
    LocalSource,
    Rotations,
    Sealer,
    find_master_key,
    find_unreadable_rows,
    rotation,
)
from headgate.vault.service.sealing import SEALS_ALARM, SEALS_MAX
from headgate.vault.store import keys as key_store
from headgate.vault.store import rotations as rotation_store
from tests.fakes.vault import FakeIntegration, VaultHarness

PAGE_ROWS = 4
"""Of a slice, in these tests."""


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VaultHarness]:
    monkeypatch.setattr(jobs, "PAUSE_SECONDS_MIN", 0.0)
    monkeypatch.setattr(jobs, "PAUSE_RATIO", 0)
    monkeypatch.setattr(rotation, "PAGE_ROWS", PAGE_ROWS)
    harness = VaultHarness(tmp_path / "headgate.db")
    yield harness
    harness.database.close()
    failpoint.arm()


class Operator:
    """Rotate as another process, with a master key of its own, on the same database."""

    def __init__(self, harness: VaultHarness, master_key: LocalMasterKey | None = None) -> None:
        self.harness = harness
        self.seen: list[Rotation] = []
        self.sealer = Sealer(master_key or harness.master_key, harness.clock)
        self.audit = AuditLog(harness.clock)
        self.rotations = Rotations(self.sealer, harness.clock, IdGenerator(), self.audit)
        self.rotator = Rotator(
            self.rotations,
            reading=harness.database.reading,
            commit=self.commit,
            report=self.seen.append,
        )

    def commit(self, work: Callable[[sa.Connection], Any]) -> Any:
        with self.harness.database.transaction() as connection:
            return work(connection)

    def keys(self, scope: str = EVERY_KEY) -> int:
        return self.rotator.rotate_keys(scope, by=COMMAND_LINE)

    def master(self, target: LocalMasterKey) -> int | None:
        return self.rotator.rotate_master(target, by=COMMAND_LINE)

    def faults(self) -> list[str]:
        with self.harness.database.reading() as connection:
            return [fault.credential_id for fault in find_unreadable_rows(connection, self.sealer)]


def arm(text: str) -> None:
    failpoint.arm(text, test_mode=True)


def fill(harness: VaultHarness, count: int) -> dict[str, str]:
    """Add credentials of two organizations and the platform; return the secret of each id."""
    owners = (harness.own, harness.other, None)
    secrets: dict[str, str] = {}
    for number in range(count):
        secret = f"sk-proj-0123456789abcdef{number:06}"
        record = add(harness, secret, name=str(number), organization_id=owners[number % 3])
        secrets[record] = secret
    return secrets


def add(harness: VaultHarness, secret: str, **more: object) -> str:
    """Add a credential as `VaultHarness.add`, without loading everything again."""
    reload, harness.reload = harness.reload, list
    try:
        return harness.add(secret, **more).id
    finally:
        harness.reload = reload


def read_secrets(harness: VaultHarness, sealer: Sealer | None = None) -> dict[str, str]:
    vault = CredentialResolver(
        sealer or harness.sealer, {"openai": FakeIntegration()}, harness.clock
    )
    with harness.database.reading() as connection:
        assert vault.load(connection) == []
        records = harness.service.list(connection)
    return {
        record.id: vault.resolve(
            record.organization_id or "", integration="openai", name=record.id
        ).secret.decode()
        for record in records
    }


def list_keys(harness: VaultHarness) -> set[str]:
    with harness.database.reading() as connection:
        return {record.id for record in key_store.select_organization_keys(connection)}


def change_key(harness: VaultHarness, key_id: str, **values: object) -> None:
    keys = key_store.ORGANIZATION_KEYS
    with harness.database.transaction() as connection:
        connection.execute(sa.update(keys).where(keys.c.id == key_id).values(**values))


def test_rotation_of_organization_keys_seals_every_secret_anew(harness: VaultHarness) -> None:
    secrets = fill(harness, 18)
    removed = harness.add(name="removed")
    with harness.database.transaction() as connection:
        harness.service.remove(connection, removed, by=COMMAND_LINE)
        before = {record.id: box for record, box in credential_store.select_credentials(connection)}
    old = list_keys(harness)
    operator = Operator(harness)
    assert operator.keys() == 0
    assert list_keys(harness).isdisjoint(old)
    assert len(list_keys(harness)) == 3
    assert (
        read_secrets(harness)
        == read_secrets(harness, Sealer(harness.master_key, harness.clock))
        == secrets
    )
    with harness.database.reading() as connection:
        after = list(credential_store.select_credentials(connection))
        assert all(before[record.id] != box for record, box in after)
        assert {record.seal_number for record, _ in after} == {2}
        last = operator.rotations.describe(connection).rotations[0]
        actions = [
            e.event.action for e in operator.audit.list(connection, AuditFilter(), limit=2)[0]
        ]
    total = len(secrets) + 1
    assert (last.state, last.done, last.total, last.failed) == (RotationState.DONE, total, total, 0)
    assert actions == ["vault.rotation_ended", "vault.rotation_started"]
    assert [each.done for each in operator.seen] == sorted(each.done for each in operator.seen)


def test_rotation_of_one_organization_leaves_the_others_keys(harness: VaultHarness) -> None:
    fill(harness, 9)
    for scope in (harness.own, PLATFORM_KEY):
        before = list_keys(harness)
        assert Operator(harness).keys(scope) == 0
        assert len(before & list_keys(harness)) == 2
    assert Operator(harness).faults() == []


@pytest.mark.parametrize(("nth", "done"), [(1, 0), (2, 4), (4, 10)])
def test_rotation_of_organization_keys_goes_on_where_it_was_cut(
    harness: VaultHarness, nth: int, done: int
) -> None:
    secrets = fill(harness, 18)
    arm(f"rotation_slice=raise@{nth}")
    with pytest.raises(FailpointError):
        Operator(harness).keys()
    assert read_secrets(harness) == secrets
    new = add(harness, "sk-proj-0123456789abcdefNEW1", name="added meanwhile")
    arm("rotation_slice=sleep:0")
    operator = Operator(harness)
    assert operator.keys() == 0
    assert operator.seen[0].done == done
    assert read_secrets(harness) == {**secrets, new: "sk-proj-0123456789abcdefNEW1"}
    with harness.database.reading() as connection:
        assert rotation_store.find_running_rotation(connection, operator.seen[0].kind) is None


def test_one_rotation_at_a_time(harness: VaultHarness) -> None:
    fill(harness, 3)
    arm("rotation_slice=raise")
    with pytest.raises(FailpointError):
        Operator(harness).keys(harness.own)
    with pytest.raises(
        RotationConflictError, match=f"end it first: .* --organization {harness.own}"
    ):
        Operator(harness).keys(harness.other)
    target = LocalMasterKey(os.urandom(32))
    with pytest.raises(FailpointError):
        Operator(harness).master(target)
    with pytest.raises(RotationConflictError, match=f"to the master key {target.id} has begun"):
        Operator(harness).master(LocalMasterKey(os.urandom(32)))
    arm("rotation_slice=sleep:0")
    assert (Operator(harness).keys(harness.own), Operator(harness).master(target)) == (0, 0)
    with pytest.raises(RotationConflictError, match="was used before"):
        Operator(harness, target).master(harness.master_key)


def test_rows_that_do_not_open_stay_and_are_counted(harness: VaultHarness) -> None:
    secrets = fill(harness, 6)
    broken = next(iter(secrets))
    harness.change(broken, sealed=b"\x01" * 200)
    operator = Operator(harness)
    assert operator.keys() == 1
    assert operator.faults() == [broken]
    with harness.database.reading() as connection:
        [ended] = operator.rotations.describe(connection).rotations
        retired = operator.rotations.list_retired(connection)
    assert (ended.failed, ended.done, len(retired)) == (1, 5, 1)
    assert operator.keys() == 1


def test_secret_that_is_changed_during_its_rotation_is_the_changed_one_after_it(
    harness: VaultHarness,
) -> None:
    first = harness.upsert()
    operator = Operator(harness)
    begun = operator.commit(lambda c: operator.rotations.begin_keys(c, EVERY_KEY, by=COMMAND_LINE))
    with harness.database.reading() as connection:
        [retired] = operator.rotations.list_retired(connection)
    successor = operator.commit(lambda c: operator.rotations.find_successor(c, retired))
    with harness.database.reading() as connection:
        page = operator.rotations.reseal(connection, "credentials", retired, successor, after="")
    changed = harness.upsert("sk-proj-0123456789abcdefNEW1")
    assert (changed.key_id, changed.seal_number) == (successor[0], 2)
    operator.commit(lambda c: operator.rotations.store_resealed(c, begun, page))
    assert operator.keys() == 0
    assert read_secrets(harness) == {first.id: "sk-proj-0123456789abcdefNEW1"}


def test_master_key_is_replaced_in_one_moment(harness: VaultHarness) -> None:
    secrets = fill(harness, 9)
    target = LocalMasterKey(os.urandom(32))
    arm("rotation_switch=raise")
    with pytest.raises(FailpointError):
        Operator(harness).master(target)
    assert read_secrets(harness, Sealer(harness.master_key, harness.clock)) == secrets
    arm("rotation_switch=sleep:0")
    operator = Operator(harness)
    late = add(harness, "sk-proj-0123456789abcdefLATE", name="late", organization_id=None)
    assert operator.master(target) == 0
    assert operator.master(target) is None
    found = {**secrets, late: "sk-proj-0123456789abcdefLATE"}
    assert read_secrets(harness, Sealer(target, harness.clock)) == found
    with harness.database.reading() as connection:
        states = {key.id: key.state for key in key_store.select_master_keys(connection).values()}
        masters = {key.master_key_id for key in key_store.select_organization_keys(connection)}
        assert Sealer(harness.master_key, harness.clock).organization_keys(connection) == {}
    assert states == {
        harness.master_key.id: MasterKeyState.RETIRED,
        target.id: MasterKeyState.ACTIVE,
    }
    assert masters == {target.id}


def test_key_that_is_made_while_the_master_key_is_replaced_comes_along(
    harness: VaultHarness,
) -> None:
    add(harness, "sk-proj-0123456789abcdefOWN1")
    operator, target = Operator(harness), LocalMasterKey(os.urandom(32))
    begun = operator.commit(lambda c: operator.rotations.begin_master(c, target, by=COMMAND_LINE))
    add(harness, "sk-proj-0123456789abcdefOTH1", organization_id=harness.other)
    failed = operator.commit(
        lambda c: operator.rotations.activate_master(c, begun, target, by=COMMAND_LINE)
    )
    assert failed == 0
    assert len(read_secrets(harness, Sealer(target, harness.clock))) == 2
    with pytest.raises(RotationConflictError, match="Another process has ended the rotation"):
        operator.commit(
            lambda c: operator.rotations.activate_master(c, begun, target, by=COMMAND_LINE)
        )
    assert len(read_secrets(harness, Sealer(target, harness.clock))) == 2


def test_rotation_of_the_master_key_is_taken_back(harness: VaultHarness) -> None:
    secrets, target = fill(harness, 6), LocalMasterKey(os.urandom(32))
    arm("rotation_switch=raise")
    operator = Operator(harness)
    with pytest.raises(FailpointError):
        operator.master(target)
    operator.commit(lambda c: operator.rotations.abandon_master(c, by=COMMAND_LINE))
    with pytest.raises(RotationConflictError, match="No rotation of the master key"):
        operator.commit(lambda c: operator.rotations.abandon_master(c, by=COMMAND_LINE))
    assert read_secrets(harness) == secrets
    arm("rotation_switch=sleep:0")
    assert operator.master(LocalMasterKey(os.urandom(32))) == 0


def test_server_with_the_old_master_key_goes_on_and_says_so(harness: VaultHarness) -> None:
    secrets = fill(harness, 9)
    assert read_secrets(harness) == secrets
    target = LocalMasterKey(os.urandom(32))
    Operator(harness).master(target)
    with capture_logs() as lines:
        assert read_secrets(harness) == secrets
    assert harness.sealer.is_outdated
    assert "vault.master_key_replaced" in {line["event"] for line in lines}
    # What needs no new key works; what needs one is refused with what to do.
    kept = add(harness, "sk-proj-0123456789abcdefKEPT", name="kept")
    Operator(harness, target).keys(harness.other)
    with pytest.raises(MasterKeyReplacedError, match="Restart it with the new one"):
        Operator(harness).rotator.rotate_keys(harness.own, by=COMMAND_LINE)
    assert len(read_secrets(harness, Sealer(target, harness.clock))) == len(secrets) + 1
    assert kept in read_secrets(harness, Sealer(target, harness.clock))


def test_server_takes_the_new_master_key_from_the_place_where_it_found_the_old(
    harness: VaultHarness, tmp_path: Path
) -> None:
    path = tmp_path / "keys" / "master.key"
    path.parent.mkdir()
    path.write_text(harness.master_key._key.material.hex())  # pyright: ignore[reportPrivateUsage]
    path.chmod(0o600)
    source = LocalSource(text=None, path=path)
    server = Sealer(harness.master_key, harness.clock, source)
    secrets = fill(harness, 6)
    assert read_secrets(harness, server) == secrets
    target = source.stage()
    assert source.stage().id == target.id
    Operator(harness).master(target)
    # The file is not in its place yet, and the right one is found all the same.
    assert read_secrets(harness, server) == secrets
    assert (server.is_outdated, server.master_key.id) == (False, target.id)
    source.commit_staged()
    source.commit_staged()
    with harness.database.reading() as connection:
        found = find_master_key(connection, text=None, path=path)
        assert found is not None
        assert found.id == target.id
        kept = path.with_name(f"master.key.{harness.master_key.id}")
        with pytest.raises(
            InvalidMasterKeyError, match=rf"was replaced on .* {target.id}: give that"
        ):
            find_master_key(connection, text=None, path=kept)
    assert sorted(each.name for each in path.parent.iterdir()) == ["master.key", kept.name]


def test_next_master_key_alone_does_not_start_a_server(harness: VaultHarness) -> None:
    fill(harness, 3)
    target = LocalMasterKey(os.urandom(32))
    arm("rotation_switch=raise")
    with pytest.raises(FailpointError):
        Operator(harness).master(target)
    text = target._key.material.hex()  # pyright: ignore[reportPrivateUsage]
    with (
        harness.database.reading() as connection,
        pytest.raises(InvalidMasterKeyError, match="its rotation has not ended"),
    ):
        find_master_key(connection, text=text, path=Path("none"))


def test_seals_are_counted_and_a_worn_key_is_told_and_then_replaced(harness: VaultHarness) -> None:
    first = harness.add(name="first")
    with harness.database.reading() as connection:
        [key] = list(key_store.select_organization_keys(connection))
        [master] = key_store.select_master_keys(connection).values()
    assert (key.id, key.seals, master.seals) == (first.key_id, 1, 2)
    change_key(harness, key.id, seals=SEALS_ALARM - 2)
    operator = Operator(harness)
    with capture_logs() as lines:
        add(harness, "sk-proj-0123456789abcdefGHIJ", name="second")
        assert "vault.key_worn" not in {line["event"] for line in lines}
        add(harness, "sk-proj-0123456789abcdefGHIJ", name="third")
        assert {"vault.key_worn"} <= {line["event"] for line in lines}
    with harness.database.reading() as connection:
        [told] = operator.rotations.describe(connection).keys
    assert (told.is_worn, told.rows, told.seals) == (True, 3, SEALS_ALARM)
    change_key(harness, key.id, seals=SEALS_MAX)
    fourth = harness.add(name="fourth")
    assert fourth.key_id != first.key_id
    assert SEALS_MAX < 2**32
    assert harness.reload() == []


def test_another_kind_of_error_ends_the_rotation_and_the_next_run_goes_on(
    harness: VaultHarness,
) -> None:
    fill(harness, 6)
    operator = Operator(harness)
    commit = operator.commit

    def fail(_work: Callable[[sa.Connection], Any]) -> Any:
        raise HeadgateError("the disk is full")

    operator.rotator._commit = fail  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    with pytest.raises(HeadgateError, match="disk is full"):
        operator.keys()
    operator.rotator._commit = commit  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    assert operator.keys() == 0


def test_book_of_another_process_seals_under_the_new_key_at_once(harness: VaultHarness) -> None:
    fill(harness, 3)
    rotations = Operator(harness).rotations
    with harness.database.transaction() as connection:
        rotations.begin_keys(connection, EVERY_KEY, by=COMMAND_LINE)
        retired = {record.id for record in rotations.list_retired(connection)}
    assert isinstance(harness.service, CredentialService)
    assert harness.add(name="after").key_id not in retired
