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
from headgate.keys.model import token as token_format
from headgate.keys.service import Authority, KeyIndex, KeyService, flush_used
from headgate.kit import outbox
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


class Harness:
    """Hold a database with one project, a key service and a key index."""

    def __init__(self, path: Path) -> None:
        self.clock = HeldClock()
        self.database = Database(path)
        METADATA.create_all(self.database.engine)
        audit = AuditLog(self.clock)
        self.accounts = accounts = AccountService(self.clock, IdGenerator(), audit)
        self.keys = KeyService(
            self.clock,
            accounts,
            audit,
            keys_max=5,
            read_wanted=outbox.want_everything,
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
        """Index the same database in a new process."""
        self.key_index = KeyIndex(self.clock)
        self.reload()

    def reload(self) -> None:
        with self.database.reading() as connection:
            self.key_index.load(connection)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "headgate.db")
    yield harness
    harness.database.close()


def test_token_has_the_grant_that_was_requested(harness: Harness) -> None:
    issued = harness.issue(
        models=("gpt-5*",),
        endpoints=("embeddings",),
        requests_per_minute=60,
        on_disconnect=DisconnectPolicy.DRAIN,
    )
    grant = harness.key_index.find(issued.token.encode())
    assert grant.key_id == issued.key.id == "key_" + issued.token.split("_")[2]
    assert grant.organization_id == harness.organization.id
    assert grant.project_id == harness.project.id
    assert grant.models == ("gpt-5*",)
    assert grant.endpoints == ("embeddings",)
    assert grant.requests_per_minute == 60
    assert grant.on_disconnect is DisconnectPolicy.DRAIN
    assert harness.key_index.find(harness.issue().token.encode()).on_disconnect is None
    assert not grant.management
    assert harness.key_index.find(harness.issue(kind=KeyKind.ADMIN).token.encode()).management


def test_token_is_nowhere_in_the_database(harness: Harness) -> None:
    issued = harness.issue()
    harness.database.close()
    files = [path.read_bytes() for path in harness.database.path.parent.iterdir()]
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


@given(st.integers(0, 69), st.sampled_from(token_format.ALPHABET))
def test_one_changed_character_fails_the_checksum(position: int, character: str) -> None:
    token, _ = model.make_token(KeyKind.LIVE)
    changed = token[:position] + character + token[position + 1 :]
    assert (model.read_public_prefix(changed.encode()) is None) == (changed != token)


@given(st.binary(max_size=200))
def test_garbage_is_not_parsed_as_a_token(token: bytes) -> None:
    assert model.read_public_prefix(token) is None


@given(st.integers(0, 2**256 - 1))
def test_every_secret_fits_43_digits_and_comes_back(number: int) -> None:
    text = token_format.encode_base62(number, token_format.SECRET_LENGTH)
    assert (
        sum(
            token_format.ALPHABET.index(digit) * 62**place
            for place, digit in enumerate(reversed(text))
        )
        == number
    )


@pytest.mark.parametrize(
    "token",
    [b"", b"hg_live_", b"sk-proj-0123456789", b"x" * 100_000, b"\xff" * 70, b"hg_live_a_b\r\n"],
)
def test_malformed_token_is_refused_without_being_repeated(harness: Harness, token: bytes) -> None:
    with pytest.raises(InvalidApiKeyError, match="not a valid Headgate key") as caught:
        harness.key_index.find(token)
    assert caught.value.code == "invalid_api_key"


def test_unknown_token_is_named_by_its_public_part_only(harness: Harness) -> None:
    token, _ = model.make_token(KeyKind.LIVE)
    with pytest.raises(InvalidApiKeyError, match="is unknown") as caught:
        harness.key_index.find(token.encode())
    assert token.rpartition("_")[0] in caught.value.message
    assert token.rpartition("_")[2][:8] not in caught.value.message


def test_revoked_key_is_refused_once_the_snapshot_is_reloaded(harness: Harness) -> None:
    kept, issued = harness.issue(), harness.issue()
    harness.revoke(issued.key.id)
    with pytest.raises(InvalidApiKeyError, match="has been revoked"):
        harness.key_index.find(issued.token.encode())
    assert harness.key_index.find(kept.token.encode()).key_id == kept.key.id


def test_revoking_twice_keeps_the_first_time(harness: Harness) -> None:
    issued = harness.issue()
    harness.revoke(issued.key.id)
    before = harness.clock.time
    harness.clock.time += 60
    harness.revoke(issued.key.id)
    with harness.database.reading() as connection:
        assert [key.revoked_at for key in harness.keys.list(connection)] == [before]


def test_key_expires_by_the_clock_without_a_reload(harness: Harness) -> None:
    issued = harness.issue(expires_at=harness.clock.time + 10)
    assert harness.key_index.find(issued.token.encode())
    harness.clock.time += 10
    with pytest.raises(InvalidApiKeyError, match="has expired"):
        harness.key_index.find(issued.token.encode())


def test_truncated_tokens_are_refused(harness: Harness) -> None:
    token = harness.issue().token.encode()
    for length in range(len(token)):
        with pytest.raises(InvalidApiKeyError):
            harness.key_index.find(token[:length])


def test_tokens_that_share_their_beginning_never_collide(harness: Harness) -> None:
    token = harness.issue().token
    beginning = token[:20]
    others = {beginning + model.make_token(KeyKind.LIVE)[0][20:] for _ in range(10_000)}
    assert len(others) == 10_000
    for other in others:
        with pytest.raises(InvalidApiKeyError):
            harness.key_index.find(other.encode())


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
        ({"tools": ("a tool",)}, "tools"),
        ({"permissions": ("keys:read",)}, "permissions"),
        ({"kind": KeyKind.ADMIN, "permissions": ("keys",)}, "permissions"),
        ({"tokens_per_minute": -1}, "tokens_per_minute"),
        ({"description": "x" * 1001}, "description"),
    ],
)
def test_impossible_request_names_the_field(
    harness: Harness, more: dict[str, object], param: str
) -> None:
    with pytest.raises(InvalidKeyRequestError) as caught:
        harness.issue(**more)
    assert caught.value.param == param


def test_project_of_another_organization_is_refused(harness: Harness) -> None:
    with pytest.raises(InvalidKeyRequestError, match="does not belong to this organization"):
        harness.issue(organization_id="org_other")


def test_revocation_by_another_process_changes_the_revision(harness: Harness) -> None:
    issued = harness.issue()
    with harness.database.reading() as connection:
        before = read_revisions(connection)["keys"]
    program = (
        "import sys; from pathlib import Path\n"
        "from headgate.accounts.service import AccountService\n"
        "from headgate.audit.model import SYSTEM\n"
        "from headgate.audit.service import AuditLog\n"
        "from headgate.keys.service import KeyService\n"
        "from headgate.kit.clock import SystemClock\n"
        "from headgate.kit.db.engine import Database\n"
        "from headgate.kit.ids import IdGenerator\n"
        "database = Database(Path(sys.argv[1]))\n"
        "audit = AuditLog(SystemClock())\n"
        "accounts = AccountService(SystemClock(), IdGenerator(), audit)\n"
        "keys = KeyService(SystemClock(), accounts, audit)\n"
        "with database.transaction() as connection:\n"
        "    keys.revoke(connection, sys.argv[2], by=SYSTEM)\n"
    )
    command = [sys.executable, "-c", program, str(harness.database.path), issued.key.id]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, check=True, timeout=20, env=environment)
    with harness.database.reading() as connection:
        assert read_revisions(connection)["keys"] == before + 1
    harness.reload()
    with pytest.raises(InvalidApiKeyError, match="has been revoked"):
        harness.key_index.find(issued.token.encode())


def test_rotated_key_has_two_tokens_until_the_overlap_is_over(harness: Harness) -> None:
    issued = harness.issue(models=("gpt-5*",))
    token = harness.rotate(issued.key.id, 60)
    assert token != issued.token
    assert model.read_public_prefix(token.encode()) == model.read_public_prefix(
        issued.token.encode()
    )
    grants = [harness.key_index.find(each.encode()) for each in (issued.token, token)]
    assert {grant.key_id for grant in grants} == {issued.key.id}
    assert {grant.models for grant in grants} == {("gpt-5*",)}
    harness.clock.time += 60
    assert "was replaced by a rotation" in harness.why_not(issued.token)
    assert harness.opens(token)
    harness.restart()
    assert "was replaced by a rotation" in harness.why_not(issued.token)
    assert harness.opens(token)


def test_rotation_without_an_overlap_ends_the_old_token_at_once(harness: Harness) -> None:
    issued = harness.issue()
    token = harness.rotate(issued.key.id, 0)
    assert "was replaced" in harness.why_not(issued.token)
    assert harness.opens(token)


def test_second_rotation_ends_the_first_of_three_tokens(harness: Harness) -> None:
    issued = harness.issue()
    second = harness.rotate(issued.key.id, 600)
    third = harness.rotate(issued.key.id, 600)
    assert [harness.opens(each) for each in (issued.token, second, third)] == [False, True, True]


def test_end_of_an_overlap_can_be_brought_forward(harness: Harness) -> None:
    issued = harness.issue()
    token = harness.rotate(issued.key.id, 600)
    with harness.database.transaction() as connection:
        key = harness.keys.get(connection, None, issued.key.id)
        assert harness.keys.end_overlap(connection, key, by=SYSTEM).previous_expires_at is None
    harness.reload()
    assert [harness.opens(issued.token), harness.opens(token)] == [False, True]


def test_revocation_ends_both_tokens_and_is_announced_once(harness: Harness) -> None:
    issued = harness.issue()
    token = harness.rotate(issued.key.id, 600)
    harness.revoke(issued.key.id)
    harness.revoke(issued.key.id)
    assert "has been revoked" in harness.why_not(issued.token)
    assert "has been revoked" in harness.why_not(token)
    with harness.database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT topic, key, payload FROM outbox").all()
    [(topic, of, payload)] = rows
    assert (topic, of) == ("key.revoked", harness.organization.id)
    assert issued.key.id.encode() in payload
    assert token.rpartition("_")[2].encode() not in payload


@pytest.mark.parametrize("overlap_seconds", [-1, 30 * 86_400 + 1])
def test_overlap_is_bounded(harness: Harness, overlap_seconds: float) -> None:
    issued = harness.issue()
    with pytest.raises(InvalidKeyRequestError, match="An overlap is 0 to 2592000 seconds"):
        harness.rotate(issued.key.id, overlap_seconds)


def test_rotation_does_not_extend_an_expiry(harness: Harness) -> None:
    issued = harness.issue(expires_at=harness.clock.time + 10)
    token = harness.rotate(issued.key.id, 600)
    harness.clock.time += 10
    assert "has expired" in harness.why_not(issued.token)
    assert "has expired" in harness.why_not(token)


def test_disabled_key_can_be_enabled_and_a_revoked_one_cannot(harness: Harness) -> None:
    issued = harness.issue()
    harness.update(issued.key.id, enabled=False)
    assert "is disabled" in harness.why_not(issued.token)
    harness.update(issued.key.id, enabled=True)
    assert harness.opens(issued.token)
    harness.revoke(issued.key.id)
    with pytest.raises(KeyConflictError):
        harness.update(issued.key.id, enabled=True)
    with pytest.raises(KeyConflictError):
        harness.rotate(issued.key.id, 0)


def test_expired_key_does_not_come_back(harness: Harness) -> None:
    issued = harness.issue(expires_at=harness.clock.time + 10)
    harness.clock.time += 10
    assert not harness.opens(issued.token)
    for changes in ({"expires_at": None}, {"expires_at": harness.clock.time + 10}):
        with pytest.raises(KeyConflictError):
            harness.update(issued.key.id, **changes)
    harness.update(issued.key.id, name="old laptop")
    harness.clock.time -= 1_000
    assert not harness.opens(issued.token)


def test_clock_that_is_set_back_revives_no_key_even_over_a_restart(harness: Harness) -> None:
    expiring, lasting = harness.issue(expires_at=harness.clock.time + 10), harness.issue()
    harness.clock.time += 100
    assert harness.opens(lasting.token)
    with harness.database.transaction() as connection:
        flush_used(connection, harness.key_index.take_used(), at=harness.clock.time)
    harness.clock.time -= 100
    harness.restart()
    assert not harness.opens(expiring.token)
    assert harness.opens(lasting.token)


def test_key_that_expired_unused_before_a_stop_is_not_revived_by_the_clock(
    harness: Harness,
) -> None:
    expiring, lasting = harness.issue(expires_at=harness.clock.time + 10), harness.issue()
    for seconds in (10, -100):
        with harness.database.transaction() as connection:
            record_time(connection, harness.clock.time + seconds)
    harness.restart()
    assert not harness.opens(expiring.token)
    assert harness.opens(lasting.token)
    with harness.database.reading() as connection:
        assert set(read_revisions(connection)) == {"accounts", "keys"}, "time is no change"


def test_archived_project_and_suspended_organization_refuse_their_keys(harness: Harness) -> None:
    live, admin = harness.issue(), harness.issue(kind=KeyKind.ADMIN)
    limited = harness.issue(kind=KeyKind.ADMIN, projects=(harness.project.id,))
    with harness.database.transaction() as connection:
        harness.accounts.archive_project(connection, harness.project, by=SYSTEM)
    harness.reload()
    assert "belongs to an archived project" in harness.why_not(live.token)
    assert "belongs to an archived project" in harness.why_not(limited.token)
    assert harness.opens(admin.token), "a key of the whole organization is not the project's"
    suspended = {"suspended_at": harness.clock.time}
    for values in (suspended, {"suspended_at": None}):
        with harness.database.transaction() as connection:
            accounts_store.update_organization(connection, harness.organization.id, values)
        harness.reload()
        assert harness.opens(admin.token) == (values is not suspended)
        assert not harness.opens(live.token)
    with harness.database.transaction() as connection:
        accounts_store.update_project(connection, harness.project.id, {"archived_at": None})
    harness.reload()
    assert harness.opens(live.token)


def test_archived_project_can_not_be_named_any_more(harness: Harness) -> None:
    with harness.database.transaction() as connection:
        other = harness.accounts.create_project(
            connection, "other", organization_id=harness.organization.id, by=SYSTEM
        )
    issued = harness.issue(projects=(other.id,))
    assert harness.key_index.find(issued.token.encode()).projects == (other.id,)
    with harness.database.transaction() as connection:
        harness.accounts.archive_project(connection, other, by=SYSTEM)
    harness.reload()
    assert harness.key_index.find(issued.token.encode()).projects == ()


def test_only_what_was_changed_is_loaded_again(harness: Harness) -> None:
    first, second = harness.issue(), harness.issue()
    grant = harness.key_index.find(first.token.encode())
    harness.update(second.key.id, requests_per_minute=7)
    assert harness.key_index.find(second.token.encode()).requests_per_minute == 7
    assert harness.key_index.find(first.token.encode()) is grant


def test_use_is_stored_in_one_batch_and_changes_nothing_else(harness: Harness) -> None:
    used, unused = harness.issue(), harness.issue()
    for _ in range(3):
        harness.opens(used.token)
    taken = harness.key_index.take_used()
    assert taken == [used.key.id]
    assert harness.key_index.take_used() == []
    with harness.database.transaction() as connection:
        before = read_revisions(connection)
        flush_used(connection, taken, at=harness.clock.time)
        assert read_revisions(connection) == before
        times = {key.id: (key.last_used_at, key.version) for key in harness.keys.list(connection)}
    assert times == {used.key.id: (harness.clock.time, 1), unused.key.id: (None, 1)}


def test_deactivated_keys_are_reported_once(harness: Harness) -> None:
    revoked, expiring = harness.issue(), harness.issue(expires_at=harness.clock.time + 10)
    harness.issue()
    assert harness.key_index.take_deactivated() == frozenset()
    harness.revoke(revoked.key.id)
    assert harness.key_index.take_deactivated() == {revoked.key.id}
    harness.clock.time += 10
    assert harness.key_index.take_deactivated() == {expiring.key.id}
    assert harness.key_index.take_deactivated() == frozenset()


def test_number_of_unrevoked_keys_of_an_organization_is_limited(harness: Harness) -> None:
    issued = [harness.issue() for _ in range(5)]
    with pytest.raises(KeyConflictError, match="maximum of 5 keys"):
        harness.issue()
    harness.revoke(issued[0].key.id)
    harness.issue()


def test_lists_are_stored_normalized(harness: Harness) -> None:
    key = harness.issue(
        models=("a**", "a*"), networks=("::ffff:10.0.0.0/104", "10.0.0.0/8", "2001:DB8::1")
    ).key
    assert key.models == ("a*",)
    assert key.networks == ("10.0.0.0/8", "2001:db8::1/128")


def test_actors_other_than_the_command_line_need_an_authority(harness: Harness) -> None:
    somebody = Actor(ActorKind.PERSON, "user_1")
    with harness.database.transaction() as connection:
        with pytest.raises(AssertionError):
            harness.keys.create(connection, harness.request(), by=somebody)
        harness.keys.create(connection, harness.request(), by=somebody, authority=Authority())
