from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headgate import settings
from headgate.accounts.service.first_owner import INVITATION_NAME
from headgate.cli.program import app
from headgate.data_directory.leftovers import FIRST_KEYS_FILE
from headgate.main.application import open_application
from headgate.main.first_start import prepare_first_start

PASSWORD = "a long sentence of your own"
Run = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("HEADGATE_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    return tmp_path / "data"


@pytest.fixture
def run(data: Path) -> Run:
    def call(*arguments: str, stdin: str = f"{PASSWORD}\n") -> Result:
        return CliRunner().invoke(app, [*arguments, "--data", str(data)], input=stdin)

    return call


def list_people(run: Run) -> list[dict[str, Any]]:
    return json.loads(run("people", "list", "--json").stdout)


def read_keys(data: Path) -> dict[str, str]:
    return json.loads((data / FIRST_KEYS_FILE).read_text())


def start(data: Path) -> bool:
    """What a start of the server does about the first owner."""
    application = open_application(settings.load({}, data=data))
    prepare_first_start(application)
    with application.database.transaction(exclusive=True) as connection:
        is_open = application.first_owner.invite(connection)
    application.close()
    return is_open


def test_init_makes_the_first_owner_and_operator_once(run: Run, data: Path) -> None:
    made = run("init", "--email", "Ada@Example.com", "--name", "Ada", "--password-stdin")
    assert made.exit_code == 0, made.output
    [ada] = list_people(run)
    assert (ada["email"], ada["name"], ada["is_operator"]) == ("ada@example.com", "Ada", True)
    assert "owner of" in run("people", "list").stdout
    again = run("init", "--email", "eve@example.com", "--password-stdin")
    assert (again.exit_code, "already" in again.output) == (1, True)
    calm = run("init", "--if-missing", "--email", "eve@example.com", "--password-stdin")
    assert calm.exit_code == 0
    assert len(list_people(run)) == 1
    assert not start(data)
    assert INVITATION_NAME not in read_keys(data)


@pytest.mark.parametrize("password", ["short", "password1234", ""])
def test_init_refuses_a_weak_password_and_makes_nobody(run: Run, password: str) -> None:
    made = run("init", "--email", "a@b.co", "--password-stdin", stdin=f"{password}\n")
    assert made.exit_code == 1
    assert not password or password not in made.output
    assert list_people(run) == []


def test_init_without_a_terminal_says_how_to_give_a_password(run: Run) -> None:
    made = run("init", "--email", "a@b.co")
    assert (made.exit_code, "--password-stdin" in made.output) == (1, True)


def test_start_without_people_leaves_one_invitation_beside_the_keys(data: Path, run: Run) -> None:
    assert start(data)
    first = read_keys(data)
    assert first[INVITATION_NAME].startswith("hg_invite_")
    assert first["admin_key"].startswith("hg_admin_")
    assert stat.S_IMODE((data / FIRST_KEYS_FILE).stat().st_mode) == 0o600
    assert start(data)
    assert read_keys(data) == first
    # Whoever deleted the file can have another; the old one is of no use then.
    (data / FIRST_KEYS_FILE).unlink()
    assert start(data)
    assert read_keys(data)[INVITATION_NAME] != first[INVITATION_NAME]
    assert run("init", "--email", "a@b.co", "--password-stdin").exit_code == 0
    assert INVITATION_NAME not in read_keys(data)


def test_people_are_added_disabled_and_given_passwords(run: Run) -> None:
    run("init", "--email", "ada@example.com", "--password-stdin")
    added = run("people", "add", "--email", "bob@example.com", "--password-stdin")
    assert (added.exit_code, "admin of First organization" in added.output) == (0, True)
    assert run("people", "set-password", "bob@example.com", "--password-stdin").exit_code == 0
    linked = ("people", "link", "bob@example.com", "--issuer", "https://i", "--subject", "s")
    assert run(*linked).exit_code == 0
    assert run("people", "disable", "bob@example.com").exit_code == 0
    assert [each["disabled_at"] is None for each in list_people(run)] == [True, False]
    assert run("people", "enable", "bob@example.com").exit_code == 0
    last = run("people", "disable", "ada@example.com")
    assert (last.exit_code, "last operator" in last.output) == (1, True)
    unknown = run("people", "disable", "nobody@example.com")
    assert (unknown.exit_code, "people list" in unknown.output) == (1, True)
    twice = run("people", "add", "--email", "bob@example.com", "--without-password")
    assert (twice.exit_code, "already" in twice.output) == (1, True)


def test_created_organization_returns_an_owner_invitation(run: Run) -> None:
    assert run("init", "--email", "you@example.com", "--password-stdin").exit_code == 0
    made = run("organizations", "create", "Research")
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith("hg_invite_")
    told = json.loads(run("organizations", "create", "Labs", "--json").stdout)
    assert told["owner_invitation_token"].startswith("hg_invite_")
    listed = json.loads(run("organizations", "list", "--json").stdout)
    assert [each["name"] for each in listed][1:] == ["Research", "Labs"]
    assert told["organization"]["id"] in run("organizations", "list").stdout
