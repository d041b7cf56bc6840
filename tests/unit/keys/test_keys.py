from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.accounts.service import Accounts
from headgate.audit.model import SYSTEM
from headgate.audit.service import AuditLog
from headgate.keys import model
from headgate.keys.model import InvalidKey, IssuedKey, KeyKind, KeyRequest, KeyRequestRefused
from headgate.keys.service import KeyRing, Keys
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA, read_revisions
from headgate.kit.ids import Ids
from headgate.relay.ports import DisconnectPolicy


class HeldClock:
    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Desk:
    """A database with one project, a key service and a key ring."""

    def __init__(self, path: Path) -> None:
        self.clock = HeldClock()
        self.database = Database(path)
        METADATA.create_all(self.database.engine)
        audit = AuditLog(self.clock)
        accounts = Accounts(self.clock, Ids(), audit)
        self.keys = Keys(self.clock, accounts, audit)
        self.ring = KeyRing(self.clock)
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

    def reload(self) -> None:
        with self.database.reading() as connection:
            self.ring.load(connection)


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
    grant = desk.ring.find(issued.token.encode())
    assert grant.key_id == issued.key.id == "key_" + issued.token.split("_")[2]
    assert grant.organization_id == desk.organization.id
    assert grant.project_id == desk.project.id
    assert grant.models == ("gpt-5*",)
    assert grant.endpoints == ("embeddings",)
    assert grant.requests_per_minute == 60
    assert grant.on_disconnect is DisconnectPolicy.DRAIN
    assert desk.ring.find(desk.issue().token.encode()).on_disconnect is None
    assert not grant.management
    assert desk.ring.find(desk.issue(kind=KeyKind.ADMIN).token.encode()).management


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
    assert model.name_token(token.encode()) == f"hg_{kind.value}_{key_id.removeprefix('key_')}"


@given(st.integers(0, 69), st.sampled_from(model.ALPHABET))
def test_one_changed_character_fails_the_checksum(position: int, character: str) -> None:
    token, _ = model.make_token(KeyKind.LIVE)
    changed = token[:position] + character + token[position + 1 :]
    assert (model.name_token(changed.encode()) is None) == (changed != token)


@given(st.binary(max_size=200))
def test_no_garbage_has_the_form_of_a_token(token: bytes) -> None:
    assert model.name_token(token) is None


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
    with pytest.raises(InvalidKey, match="not a whole Headgate key") as caught:
        desk.ring.find(token)
    assert caught.value.code == "invalid_api_key"


def test_unknown_token_is_named_by_its_public_part_only(desk: Desk) -> None:
    token, _ = model.make_token(KeyKind.LIVE)
    with pytest.raises(InvalidKey, match="is not known here") as caught:
        desk.ring.find(token.encode())
    assert token.rpartition("_")[0] in caught.value.message
    assert token.rpartition("_")[2][:8] not in caught.value.message


def test_revoked_key_is_refused_once_the_snapshot_is_reloaded(desk: Desk) -> None:
    kept, issued = desk.issue(), desk.issue()
    desk.revoke(issued.key.id)
    with pytest.raises(InvalidKey, match="has been revoked"):
        desk.ring.find(issued.token.encode())
    assert desk.ring.find(kept.token.encode()).key_id == kept.key.id


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
    assert desk.ring.find(issued.token.encode())
    desk.clock.time += 10
    with pytest.raises(InvalidKey, match="has expired"):
        desk.ring.find(issued.token.encode())


def test_no_truncation_of_a_token_opens_anything(desk: Desk) -> None:
    token = desk.issue().token.encode()
    for length in range(len(token)):
        with pytest.raises(InvalidKey):
            desk.ring.find(token[:length])


def test_tokens_that_share_their_beginning_never_collide(desk: Desk) -> None:
    token = desk.issue().token
    beginning = token[:20]
    others = {beginning + model.make_token(KeyKind.LIVE)[0][20:] for _ in range(10_000)}
    assert len(others) == 10_000
    for other in others:
        with pytest.raises(InvalidKey):
            desk.ring.find(other.encode())


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"expires_at": 1.0}, "expires_at"),
        ({"requests_per_minute": -1}, "requests_per_minute"),
        ({"models": ("gpt 5",)}, "models"),
        ({"endpoints": ("",)}, "endpoints"),
    ],
)
def test_impossible_request_names_the_field(
    desk: Desk, more: dict[str, object], param: str
) -> None:
    with pytest.raises(KeyRequestRefused) as caught:
        desk.issue(**more)
    assert caught.value.param == param


def test_project_of_another_organization_is_refused(desk: Desk) -> None:
    with pytest.raises(KeyRequestRefused, match="not of this organization"):
        desk.issue(organization_id="org_other")


def test_revocation_by_another_process_changes_the_revision(desk: Desk) -> None:
    issued = desk.issue()
    with desk.database.reading() as connection:
        before = read_revisions(connection)["keys"]
    program = (
        "import sys; from pathlib import Path\n"
        "from headgate.accounts.service import Accounts\n"
        "from headgate.audit.model import SYSTEM\n"
        "from headgate.audit.service import AuditLog\n"
        "from headgate.keys.service import Keys\n"
        "from headgate.kit.clock import SystemClock\n"
        "from headgate.kit.db.engine import Database\n"
        "from headgate.kit.ids import Ids\n"
        "database = Database(Path(sys.argv[1]))\n"
        "audit = AuditLog(SystemClock())\n"
        "keys = Keys(SystemClock(), Accounts(SystemClock(), Ids(), audit), audit)\n"
        "with database.transaction() as connection:\n"
        "    keys.revoke(connection, sys.argv[2], by=SYSTEM)\n"
    )
    command = [sys.executable, "-c", program, str(desk.database.path), issued.key.id]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, check=True, timeout=20, env=environment)
    with desk.database.reading() as connection:
        assert read_revisions(connection)["keys"] == before + 1
    desk.reload()
    with pytest.raises(InvalidKey, match="has been revoked"):
        desk.ring.find(issued.token.encode())
