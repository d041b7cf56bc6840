from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.accounts.service import AccountService
from headgate.accounts.store import tenants as accounts_store
from headgate.audit.model import SYSTEM, Actor, ActorKind
from headgate.audit.service import AuditLog
from headgate.keys import model
from headgate.keys.model import (
    InvalidApiKeyError,
    InvalidKeyRequestError,
    IssuedKey,
    Key,
    KeyConflictError,
    KeyKind,
    KeyRequest,
)
from headgate.keys.service import Authority, KeyIndex, KeyService, flush_used
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA, read_revisions, record_time
from headgate.kit.ids import IdGenerator
from headgate.relay.ports import DisconnectPolicy


class HeldClock:
    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Desk:
    """A database with one project, a key service and a key index."""

    def __init__(self, path: Path) -> None:
        self.clock = HeldClock()
        self.database = Database(path)
        METADATA.create_all(self.database.engine)
        audit = AuditLog(self.clock)
        self.accounts = accounts = AccountService(self.clock, IdGenerator(), audit)
        self.keys = KeyService(
            self.clock, accounts, audit, keys_max=5, subscribed=lambda _topic: True
        )
        self.key_index = KeyIndex(self.clock)
        with self.database.transaction() as connection:
            self.organization = accounts.create_organization(connection, "Acme", by=SYSTEM)
            self.project = accounts.create_project(
                connection, "main", organization_id=self.organization.id, by=SYSTEM
            )

    def request(self, **more: object) -> KeyRequest:
        values = {
            "name": "laptop",
            "organization_id": self.organization.id,
            "project_id": self.project.id,
            **more,
        }
        return KeyRequest(**values)  # pyright: ignore[reportArgumentType]

    def issue(self, **more: object) -> IssuedKey:
        with self.database.transaction() as connection:
            issued = self.keys.create(connection, self.request(**more), by=SYSTEM)
        self.reload()
        return issued

    def revoke(self, key_id: str) -> None:
        with self.database.transaction() as connection:
            self.keys.revoke(connection, key_id, by=SYSTEM)
        self.reload()

    def rotate(self, key_id: str, overlap_seconds: float) -> str:
        with self.database.transaction() as connection:
            key = self.keys.get(connection, self.organization.id, key_id)
            issued = self.keys.rotate(connection, key, overlap_seconds=overlap_seconds, by=SYSTEM)
        self.reload()
        return issued.token

    def update(self, key_id: str, **changes: Any) -> Key:
        enabled = changes.pop("enabled", None)
        with self.database.transaction() as connection:
            key = self.keys.get(connection, self.organization.id, key_id)
            key = self.keys.update(connection, key, changes, enabled=enabled, by=SYSTEM)
        self.reload()
        return key

    def opens(self, token: str) -> bool:
        try:
            self.key_index.find(token.encode())
        except InvalidApiKeyError:
            return False
        return True

    def why_not(self, token: str) -> str:
        with pytest.raises(InvalidApiKeyError) as caught:
            self.key_index.find(token.encode())
        return caught.value.message

    def restart(self) -> None:
        """A new process on the same database."""
        self.key_index = KeyIndex(self.clock)
        self.reload()

    def reload(self) -> None:
        with self.database.reading() as connection:
            self.key_index.load(connection)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "headgate.db")
    yield desk
    desk.database.close()


def test_token_finds_the_grant_that_was_asked_for(desk: Desk) -> None:
    issued = desk.issue(
        models=("gpt-5*",),
        endpoints=("embeddings",),
        requests_per_minute=60,
        on_disconnect=DisconnectPolicy.DRAIN,
    )
    grant = desk.key_index.find(issued.token.encode())
    assert grant.key_id == issued.key.id == "key_" + issued.token.split("_")[2]
    assert grant.organization_id == desk.organization.id
    assert grant.project_id == desk.project.id
    assert grant.models == ("gpt-5*",)
    assert grant.endpoints == ("embeddings",)
    assert grant.requests_per_minute == 60
    assert grant.on_disconnect is DisconnectPolicy.DRAIN
    assert desk.key_index.find(desk.issue().token.encode()).on_disconnect is None
    assert not grant.management
    assert desk.key_index.find(desk.issue(kind=KeyKind.ADMIN).token.encode()).management


def test_token_is_nowhere_in_the_database(desk: Desk) -> None:
    issued = desk.issue()
    desk.database.close()
    files = [path.read_bytes() for path in desk.database.path.parent.iterdir()]
    secret = issued.token.rpartition("_")[2].encode()
    assert not any(secret in content for content in files)
    assert any(hashlib.sha256(issued.token.encode()).digest() in content for content in files)


@pytest.mark.parametrize(("kind", "length"), [(KeyKind.LIVE, 70), (KeyKind.ADMIN, 71)])
def test_token_has_prefix_public_id_secret_and_checksum(kind: KeyKind, length: int) -> None:
    token, key_id = model.make_token(kind)
    assert len(token) == length
    assert token.startswith(f"hg_{kind.value}_{key_id.removeprefix('key_')}_")
    assert (
        model.read_public_prefix(token.encode()) == f"hg_{kind.value}_{key_id.removeprefix('key_')}"
    )


@given(st.integers(0, 69), st.sampled_from(model.ALPHABET))
def test_one_changed_character_fails_the_checksum(position: int, character: str) -> None:
    token, _ = model.make_token(KeyKind.LIVE)
    changed = token[:position] + character + token[position + 1 :]
    assert (model.read_public_prefix(changed.encode()) is None) == (changed != token)


@given(st.binary(max_size=200))
def test_no_garbage_has_the_form_of_a_token(token: bytes) -> None:
    assert model.read_public_prefix(token) is None


@given(st.integers(0, 2**256 - 1))
def test_every_secret_fits_43_digits_and_comes_back(number: int) -> None:
    text = model.encode_base62(number, model.SECRET_LENGTH)
    assert (
        sum(model.ALPHABET.index(digit) * 62**place for place, digit in enumerate(reversed(text)))
        == number
    )


@pytest.mark.parametrize(
    "token",
    [b"", b"hg_live_", b"sk-proj-0123456789", b"x" * 100_000, b"\xff" * 70, b"hg_live_a_b\r\n"],
)
def test_malformed_token_is_refused_without_being_repeated(desk: Desk, token: bytes) -> None:
    with pytest.raises(InvalidApiKeyError, match="not a valid Headgate key") as caught:
        desk.key_index.find(token)
    assert caught.value.code == "invalid_api_key"


def test_unknown_token_is_named_by_its_public_part_only(desk: Desk) -> None:
    token, _ = model.make_token(KeyKind.LIVE)
    with pytest.raises(InvalidApiKeyError, match="is unknown") as caught:
        desk.key_index.find(token.encode())
    assert token.rpartition("_")[0] in caught.value.message
    assert token.rpartition("_")[2][:8] not in caught.value.message


def test_revoked_key_is_refused_once_the_snapshot_is_reloaded(desk: Desk) -> None:
    kept, issued = desk.issue(), desk.issue()
    desk.revoke(issued.key.id)
    with pytest.raises(InvalidApiKeyError, match="has been revoked"):
        desk.key_index.find(issued.token.encode())
    assert desk.key_index.find(kept.token.encode()).key_id == kept.key.id


def test_revoking_twice_keeps_the_first_time(desk: Desk) -> None:
    issued = desk.issue()
    desk.revoke(issued.key.id)
    before = desk.clock.time
    desk.clock.time += 60
    desk.revoke(issued.key.id)
    with desk.database.reading() as connection:
        assert [key.revoked_at for key in desk.keys.list(connection)] == [before]


def test_key_expires_by_the_clock_without_a_reload(desk: Desk) -> None:
    issued = desk.issue(expires_at=desk.clock.time + 10)
    assert desk.key_index.find(issued.token.encode())
    desk.clock.time += 10
    with pytest.raises(InvalidApiKeyError, match="has expired"):
        desk.key_index.find(issued.token.encode())


def test_no_truncation_of_a_token_opens_anything(desk: Desk) -> None:
    token = desk.issue().token.encode()
    for length in range(len(token)):
        with pytest.raises(InvalidApiKeyError):
            desk.key_index.find(token[:length])


def test_tokens_that_share_their_beginning_never_collide(desk: Desk) -> None:
    token = desk.issue().token
    beginning = token[:20]
    others = {beginning + model.make_token(KeyKind.LIVE)[0][20:] for _ in range(10_000)}
    assert len(others) == 10_000
    for other in others:
        with pytest.raises(InvalidApiKeyError):
            desk.key_index.find(other.encode())


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"expires_at": 1.0}, "expires_at"),
        ({"requests_per_minute": -1}, "requests_per_minute"),
        ({"models": ("gpt 5",)}, "models"),
        ({"endpoints": ("",)}, "endpoints"),
        ({"endpoints": ("a",) * 257}, "endpoints"),
        ({"networks": ("10.0.0.1/8",)}, "networks"),
        ({"networks": ("fe80::1%eth0",)}, "networks"),
        ({"networks": ("10.0.0.0/8, 11.0.0.0/8",)}, "networks"),
        ({"projects": ("proj_x",)}, "projects"),
        ({"projects": ("*",)}, "projects"),
        ({"resources": ("a*",)}, "resources"),
        ({"permissions": ("keys:read",)}, "permissions"),
        ({"kind": KeyKind.ADMIN, "permissions": ("keys",)}, "permissions"),
        ({"tokens_per_minute": -1}, "tokens_per_minute"),
        ({"description": "x" * 1001}, "description"),
    ],
)
def test_impossible_request_names_the_field(
    desk: Desk, more: dict[str, object], param: str
) -> None:
    with pytest.raises(InvalidKeyRequestError) as caught:
        desk.issue(**more)
    assert caught.value.param == param


def test_project_of_another_organization_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidKeyRequestError, match="does not belong to this organization"):
        desk.issue(organization_id="org_other")


def test_revocation_by_another_process_changes_the_revision(desk: Desk) -> None:
    issued = desk.issue()
    with desk.database.reading() as connection:
        before = read_revisions(connection)["keys"]
    program = (
        "import sys; from pathlib import Path\n"
        "from headgate.accounts.service import AccountService\n"
        "from headgate.audit.model import SYSTEM\n"
        "from headgate.audit.service import AuditLog\n"
        "from headgate.keys.service import KeyService\n"
        "from headgate.kit.clock import SystemClock\n"
        "from headgate.kit.db.engine import Database\n"
        "from headgate.kit.ids import Ids\n"
        "database = Database(Path(sys.argv[1]))\n"
        "audit = AuditLog(SystemClock())\n"
        "keys = KeyService(SystemClock(), AccountService(SystemClock(), Ids(), audit), audit)\n"
        "with database.transaction() as connection:\n"
        "    keys.revoke(connection, sys.argv[2], by=SYSTEM)\n"
    )
    command = [sys.executable, "-c", program, str(desk.database.path), issued.key.id]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, check=True, timeout=20, env=environment)
    with desk.database.reading() as connection:
        assert read_revisions(connection)["keys"] == before + 1
    desk.reload()
    with pytest.raises(InvalidApiKeyError, match="has been revoked"):
        desk.key_index.find(issued.token.encode())


def test_rotated_key_has_two_tokens_until_the_overlap_is_over(desk: Desk) -> None:
    issued = desk.issue(models=("gpt-5*",))
    token = desk.rotate(issued.key.id, 60)
    assert token != issued.token
    assert model.read_public_prefix(token.encode()) == model.read_public_prefix(
        issued.token.encode()
    )
    grants = [desk.key_index.find(each.encode()) for each in (issued.token, token)]
    assert {grant.key_id for grant in grants} == {issued.key.id}
    assert {grant.models for grant in grants} == {("gpt-5*",)}
    desk.clock.time += 60
    assert "was replaced by a rotation" in desk.why_not(issued.token)
    assert desk.opens(token)
    desk.restart()
    assert "was replaced by a rotation" in desk.why_not(issued.token)
    assert desk.opens(token)


def test_rotation_without_an_overlap_ends_the_old_token_at_once(desk: Desk) -> None:
    issued = desk.issue()
    token = desk.rotate(issued.key.id, 0)
    assert "was replaced" in desk.why_not(issued.token)
    assert desk.opens(token)


def test_second_rotation_ends_the_first_of_three_tokens(desk: Desk) -> None:
    issued = desk.issue()
    second = desk.rotate(issued.key.id, 600)
    third = desk.rotate(issued.key.id, 600)
    assert [desk.opens(each) for each in (issued.token, second, third)] == [False, True, True]


def test_end_of_an_overlap_can_be_brought_forward(desk: Desk) -> None:
    issued = desk.issue()
    token = desk.rotate(issued.key.id, 600)
    with desk.database.transaction() as connection:
        key = desk.keys.get(connection, None, issued.key.id)
        assert desk.keys.end_overlap(connection, key, by=SYSTEM).previous_expires_at is None
    desk.reload()
    assert [desk.opens(issued.token), desk.opens(token)] == [False, True]


def test_revocation_ends_both_tokens_and_is_announced_once(desk: Desk) -> None:
    issued = desk.issue()
    token = desk.rotate(issued.key.id, 600)
    desk.revoke(issued.key.id)
    desk.revoke(issued.key.id)
    assert "has been revoked" in desk.why_not(issued.token)
    assert "has been revoked" in desk.why_not(token)
    with desk.database.reading() as connection:
        told = connection.exec_driver_sql("SELECT topic, key, payload FROM outbox").all()
    [(topic, of, payload)] = told
    assert (topic, of) == ("key.revoked", desk.organization.id)
    assert issued.key.id.encode() in payload
    assert token.rpartition("_")[2].encode() not in payload


@pytest.mark.parametrize("overlap_seconds", [-1, 30 * 86_400 + 1])
def test_overlap_has_its_bounds(desk: Desk, overlap_seconds: float) -> None:
    issued = desk.issue()
    with pytest.raises(InvalidKeyRequestError, match="An overlap is 0 to 2592000 seconds"):
        desk.rotate(issued.key.id, overlap_seconds)


def test_rotation_outlives_no_expiry(desk: Desk) -> None:
    issued = desk.issue(expires_at=desk.clock.time + 10)
    token = desk.rotate(issued.key.id, 600)
    desk.clock.time += 10
    assert "has expired" in desk.why_not(issued.token)
    assert "has expired" in desk.why_not(token)


def test_disabled_key_can_be_enabled_and_a_revoked_one_cannot(desk: Desk) -> None:
    issued = desk.issue()
    desk.update(issued.key.id, enabled=False)
    assert "is disabled" in desk.why_not(issued.token)
    desk.update(issued.key.id, enabled=True)
    assert desk.opens(issued.token)
    desk.revoke(issued.key.id)
    with pytest.raises(KeyConflictError):
        desk.update(issued.key.id, enabled=True)
    with pytest.raises(KeyConflictError):
        desk.rotate(issued.key.id, 0)


def test_expired_key_does_not_come_back(desk: Desk) -> None:
    issued = desk.issue(expires_at=desk.clock.time + 10)
    desk.clock.time += 10
    assert not desk.opens(issued.token)
    for changes in ({"expires_at": None}, {"expires_at": desk.clock.time + 10}):
        with pytest.raises(KeyConflictError):
            desk.update(issued.key.id, **changes)
    desk.update(issued.key.id, name="old laptop")
    desk.clock.time -= 1_000
    assert not desk.opens(issued.token)


def test_clock_that_is_set_back_revives_no_key_even_over_a_restart(desk: Desk) -> None:
    expiring, lasting = desk.issue(expires_at=desk.clock.time + 10), desk.issue()
    desk.clock.time += 100
    assert desk.opens(lasting.token)
    with desk.database.transaction() as connection:
        flush_used(connection, desk.key_index.take_used(), at=desk.clock.time)
    desk.clock.time -= 100
    desk.restart()
    assert not desk.opens(expiring.token)
    assert desk.opens(lasting.token)


def test_key_that_expired_unused_before_a_stop_is_not_revived_by_the_clock(desk: Desk) -> None:
    expiring, lasting = desk.issue(expires_at=desk.clock.time + 10), desk.issue()
    for seconds in (10, -100):
        with desk.database.transaction() as connection:
            record_time(connection, desk.clock.time + seconds)
    desk.restart()
    assert not desk.opens(expiring.token)
    assert desk.opens(lasting.token)
    with desk.database.reading() as connection:
        assert set(read_revisions(connection)) == {"keys"}, "time is no change"


def test_archived_project_and_suspended_organization_refuse_their_keys(desk: Desk) -> None:
    live, admin = desk.issue(), desk.issue(kind=KeyKind.ADMIN)
    limited = desk.issue(kind=KeyKind.ADMIN, projects=(desk.project.id,))
    with desk.database.transaction() as connection:
        desk.accounts.archive_project(connection, desk.project, by=SYSTEM)
    desk.reload()
    assert "belongs to an archived project" in desk.why_not(live.token)
    assert "belongs to an archived project" in desk.why_not(limited.token)
    assert desk.opens(admin.token), "a key of the whole organization is not the project's"
    suspended = {"suspended_at": desk.clock.time}
    for values in (suspended, {"suspended_at": None}):
        with desk.database.transaction() as connection:
            accounts_store.update_organization(connection, desk.organization.id, values)
        desk.reload()
        assert desk.opens(admin.token) == (values is not suspended)
        assert not desk.opens(live.token)
    with desk.database.transaction() as connection:
        accounts_store.update_project(connection, desk.project.id, {"archived_at": None})
    desk.reload()
    assert desk.opens(live.token)


def test_archived_project_can_not_be_named_any_more(desk: Desk) -> None:
    with desk.database.transaction() as connection:
        other = desk.accounts.create_project(
            connection, "other", organization_id=desk.organization.id, by=SYSTEM
        )
    issued = desk.issue(projects=(other.id,))
    assert desk.key_index.find(issued.token.encode()).projects == (other.id,)
    with desk.database.transaction() as connection:
        desk.accounts.archive_project(connection, other, by=SYSTEM)
    desk.reload()
    assert desk.key_index.find(issued.token.encode()).projects == ()


def test_only_what_was_changed_is_loaded_again(desk: Desk) -> None:
    first, second = desk.issue(), desk.issue()
    grant = desk.key_index.find(first.token.encode())
    desk.update(second.key.id, requests_per_minute=7)
    assert desk.key_index.find(second.token.encode()).requests_per_minute == 7
    assert desk.key_index.find(first.token.encode()) is grant


def test_use_is_noted_together_and_changes_nothing_else(desk: Desk) -> None:
    used, unused = desk.issue(), desk.issue()
    for _ in range(3):
        desk.opens(used.token)
    taken = desk.key_index.take_used()
    assert taken == [used.key.id]
    assert desk.key_index.take_used() == []
    with desk.database.transaction() as connection:
        before = read_revisions(connection)
        flush_used(connection, taken, at=desk.clock.time)
        assert read_revisions(connection) == before
        times = {key.id: (key.last_used_at, key.version) for key in desk.keys.list(connection)}
    assert times == {used.key.id: (desk.clock.time, 1), unused.key.id: (None, 1)}


def test_deactivated_keys_are_told_once(desk: Desk) -> None:
    revoked, expiring = desk.issue(), desk.issue(expires_at=desk.clock.time + 10)
    desk.issue()
    assert desk.key_index.take_deactivated() == frozenset()
    desk.revoke(revoked.key.id)
    assert desk.key_index.take_deactivated() == {revoked.key.id}
    desk.clock.time += 10
    assert desk.key_index.take_deactivated() == {expiring.key.id}
    assert desk.key_index.take_deactivated() == frozenset()


def test_organization_has_so_many_keys_at_most_and_revoked_ones_do_not_count(desk: Desk) -> None:
    issued = [desk.issue() for _ in range(5)]
    with pytest.raises(KeyConflictError, match="maximum of 5 keys"):
        desk.issue()
    desk.revoke(issued[0].key.id)
    desk.issue()


def test_lists_are_stored_in_one_spelling(desk: Desk) -> None:
    key = desk.issue(
        models=("a**", "a*"), networks=("::ffff:10.0.0.0/104", "10.0.0.0/8", "2001:DB8::1")
    ).key
    assert key.models == ("a*",)
    assert key.networks == ("10.0.0.0/8", "2001:db8::1/128")


def test_whoever_is_not_at_the_machine_must_say_what_they_hold(desk: Desk) -> None:
    somebody = Actor(ActorKind.PERSON, "user_1")
    with desk.database.transaction() as connection:
        with pytest.raises(AssertionError):
            desk.keys.create(connection, desk.request(), by=somebody)
        desk.keys.create(connection, desk.request(), by=somebody, authority=Authority())
