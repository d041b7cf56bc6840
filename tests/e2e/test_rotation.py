"""Keys are rotated under load, by a command that is killed again and again."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from headgate.audit.model import AuditFilter
from headgate.audit.service import AuditLog
from headgate.credentials.store import credentials as credential_store
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from rigs.rotation.harness import Caller, add_credentials
from tests.fakes import kms
from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.kms import KeyServices, running_key_services
from tests.fakes.upstream import FakeUpstream, running_upstream
from tests.fakes.waiting import wait_until

SECRETS = 300
COMPLETION = b'{"id":"c1","object":"chat.completion","model":"gpt-5.4-mini","choices":[]}'


@pytest.fixture(scope="module")
def provider() -> Generator[FakeUpstream]:
    with running_upstream() as running:
        running.script = lambda received: received.answer(COMPLETION)
        yield running


def run(gateway: Gateway, *words: str, failpoint: str = "") -> int:
    environment = {"HEADGATE_TEST_MODE": "true", "HEADGATE_FAILPOINT": failpoint}
    done = gateway.run("vault", *words, environment=environment if failpoint else None)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


def read_status(gateway: Gateway) -> dict[str, list[dict[str, object]]]:
    return json.loads(gateway.run("vault", "status", "--json").stdout)


@pytest.mark.prove
def test_no_call_fails_while_all_keys_are_replaced_and_the_command_is_killed(
    provider: FakeUpstream, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with running_gateway(data, access_log="false") as gateway:
        names = add_credentials(data, count=SECRETS, base_url=provider.base_url)
        with Caller(gateway, names).wait_until_known() as caller:
            assert run(gateway, "rotate-keys", failpoint="rotation_slice=kill@2") == -9
            assert run(gateway, "rotate-keys") == 0
            for point in ("rotation_switch", "rotation_files"):
                assert run(gateway, "rotate-master", failpoint=f"{point}=kill") == -9
            assert run(gateway, "rotate-master") == 0
            caller.wait_for_calls(50)
        told = read_status(gateway)
        assert caller.failures == []
        # It has the new master key already: what needs a new organization key works.
        assert "master_key_outdated 0" in gateway.metrics()
        assert gateway.stop() == 0
    assert {str(each["state"]) for each in told["rotations"]} == {"done"}
    states = {(each["is_retired"], each["opens"]) for each in told["keys"]}
    assert states == {(False, True)}
    assert sum(int(str(each["rows"])) for each in told["keys"]) == SECRETS
    assert sorted(str(each["state"]) for each in told["master_keys"]) == ["active", "retired"]
    with running_gateway(data, access_log="false") as gateway, Caller(gateway, names) as caller:
        caller.wait_for_calls(20)
        assert caller.failures == []


def list_audit_events(data: Path, object_id: str) -> list[str]:
    database = Database(data / "headgate.db")
    with database.reading() as connection:
        entries, _ = AuditLog(SystemClock()).list(
            connection, AuditFilter(object_id=object_id), limit=9
        )
    database.close()
    return [entry.event.action for entry in entries]


def transit_settings(services: KeyServices) -> dict[str, str]:
    return {
        "HEADGATE_MASTER_KEY_PROVIDER": "transit",
        "HEADGATE_MASTER_KEY_NAME": kms.TRANSIT_KEY,
        "HEADGATE_MASTER_KEY_ADDRESS": services.url,
        "HEADGATE_VAULT_TOKEN": kms.TRANSIT_TOKEN,
    }


@pytest.mark.prove
def test_master_key_moves_into_a_key_service_and_out_again_while_a_server_runs(
    provider: FakeUpstream, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with running_key_services() as services:
        remote = transit_settings(services)
        local = {**remote, "HEADGATE_MASTER_KEY_PROVIDER": "local"}
        with running_gateway(data) as gateway:
            names = add_credentials(data, count=6, base_url=provider.base_url)
            with Caller(gateway, names).wait_until_known() as caller:
                words = ("vault", "rotate-master", "--to-provider", "transit")
                moved = gateway.run(*words, environment=local)
                assert moved.returncode == 0, moved.stderr
                assert "HEADGATE_MASTER_KEY_PROVIDER=transit" in moved.stdout
                caller.wait_for_calls(20)
            assert caller.failures == []
            refused = gateway.run("vault", "check")
            assert refused.returncode == 1
            assert "set HEADGATE_MASTER_KEY_PROVIDER=transit" in refused.stderr
            assert gateway.run("vault", "check", environment=remote).returncode == 0
            assert "master_key_outdated 1" in gateway.metrics()
            assert gateway.stop() == 0
        services.seen.clear()
        with (
            running_gateway(data, variables=remote) as gateway,
            Caller(gateway, names) as caller,
        ):
            caller.wait_for_calls(20)
            assert caller.failures == []
            assert services.seen == ["transit /v1/transit/decrypt/headgate"]
            path = tmp_path / "back.key"
            words = ("vault", "rotate-master", "--to-file", str(path))
            assert gateway.run(*words, environment=remote).returncode == 0
            assert path.stat().st_mode & 0o777 == 0o600
            assert gateway.run(*words, environment=remote).returncode == 0
            caller.wait_for_calls(20)
            assert caller.failures == []
        key = {"HEADGATE_MASTER_KEY": path.read_text().strip()}
        with running_gateway(data, variables=key) as gateway, Caller(gateway, names) as caller:
            caller.wait_for_calls(10)
            assert caller.failures == []


def test_row_that_was_changed_is_named_by_log_check_doctor_and_audit(
    provider: FakeUpstream, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with running_gateway(data) as gateway:
        names = add_credentials(data, count=15, base_url=provider.base_url)
        gateway.stop()
    database = Database(data / "headgate.db")
    with database.transaction() as connection:
        [row] = connection.execute(
            sa.select(credential_store.CREDENTIALS).where(
                credential_store.CREDENTIALS.c.name == names[0]
            )
        )
        credential_store.update_credential(connection, row.id, {"base_url": "\x00 no address"})
    database.close()
    with running_gateway(data) as gateway:
        with Caller(gateway, names[1:]) as caller:
            caller.wait_for_calls(10)
        assert caller.failures == []
        with Caller(gateway, names[:1]) as refused:
            refused.wait_for_calls(1)
        assert set(refused.failures) == {400}
        lines = [line for line in gateway.log.read_text().splitlines() if "unreadable" in line]
        assert any(row.id in line and "its address cannot be read" in line for line in lines)
        checked = gateway.run("vault", "check")
        assert checked.returncode == 1
        assert f"credentials: {row.id} ({names[0]}): its address cannot be read" in checked.stdout
        findings = msgspec.json.decode(gateway.run("doctor", "--json").stdout)
        assert any(row.id in finding["text"] for finding in findings)
        wait_until(lambda: list_audit_events(data, row.id) == ["credential.unreadable"], 20.0)
