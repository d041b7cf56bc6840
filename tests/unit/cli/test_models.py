from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from headgate.credentials.model.credential import CredentialRecord
from headgate.credentials.model.managed_model import ManagedModel
from headgate.credentials.store import credentials as credential_store
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.vault.service import Sealer, create_master_key, store_master_key
from tests.fakes.commands import run

MINI, NANO = "gpt-5.4-mini", "gpt-5.4-nano"


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data directory with a credential of the platform."""
    for name in [name for name in os.environ if name.startswith(("HEADGATE_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEADGATE_DATA", str(tmp_path))
    database = Database(tmp_path / "headgate.db")
    importlib.import_module("headgate.main.application")  # declares every table
    METADATA.create_all(database.engine)
    key = create_master_key(tmp_path / "master.key")
    with database.transaction() as connection:
        store_master_key(connection, key, now=0.0)
        key_id, _ = Sealer(key, SystemClock()).current_key(connection, None)
        record = CredentialRecord(
            id="cred_1",
            organization_id=None,
            integration="openai",
            name="platform",
            auth_type="api_key",
            base_url="https://api.openai.com/v1",
            provider_organization=None,
            metadata={},
            hint="…",
            is_default=False,
            created_at=0.0,
            updated_at=0.0,
            key_id=key_id,
        )
        credential_store.insert_credential(connection, record, sealed=b"")
    database.close()


def models(*words: str) -> Any:
    result = run("models", *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_models_are_attached_listed_and_detached() -> None:
    added = models("attach", MINI, "--credential", "platform", "--name", "Mini", "--default")
    assert ManagedModel(**added).is_default
    assert models("list") == [added]
    shown = run("models", "list").stdout
    assert all(word in shown for word in (MINI, "Mini", "cred_1", "enabled"))
    assert "detached" in run("models", "detach", added["id"]).stdout
    assert models("list") == []


def test_models_are_switched_and_replaced() -> None:
    models("attach", MINI, "--credential", "cred_1")
    models("attach", NANO, "--credential", "cred_1", "--wire-id", "deploy-1")
    assert "disabled" in run("models", "disable", MINI).stdout
    assert models("enable", MINI)["enabled"] is True
    assert models("default", MINI)["is_default"] is True
    assert models("default", MINI, "--none")["is_default"] is False
    told = run("models", "deprecate", MINI, "--replacement", NANO).stdout
    assert f"deprecated, served by {NANO}" in told
    undone = models("deprecate", MINI, "--undo")
    assert (undone["deprecated"], undone["replacement_id"]) == (False, None)


def test_changes_are_in_the_audit_log() -> None:
    added = models("attach", MINI, "--credential", "platform")
    run("models", "disable", MINI)
    listed = run("audit", "list", "--object", added["id"], "--json")
    entries = json.loads(listed.stdout)
    assert [each["deed"]["action"] for each in entries] == [
        "managed_model.changed",
        "managed_model.attached",
    ]
    assert {each["actor"]["kind"] for each in entries} == {"command"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("attach", "no-such-model", "--credential", "platform"), "cannot be paid in credits"),
        (("attach", MINI, "--credential", "nothing"), "headgate credentials add openai --managed"),
        (("detach", "nothing"), "no managed model 'nothing'"),
    ],
)
def test_invalid_request_is_one_sentence(words: tuple[str, ...], said: str) -> None:
    result = run("models", *words)
    assert result.exit_code == 1
    assert said in result.stderr
