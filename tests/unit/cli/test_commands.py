from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import headgate
from headgate.accounts.service import AccountService
from headgate.audit.model import SYSTEM
from headgate.audit.service import AuditLog
from headgate.billing.service import ledger as billing
from headgate.keys.service import KeyIndex
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA, read_revisions
from headgate.kit.ids import IdGenerator
from headgate.vault.service import create_master_key, store_master_key
from tests.fakes.commands import run, run_json
from tests.fakes.gateway import find_port

LOCAL = "127.0.0.1/32"
SECRET = "sk-proj-0123456789abcdefWXYZ"


class Provider(http.server.BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, str, Any]]]
    answer: ClassVar[tuple[int, dict[str, Any]]]
    url: ClassVar[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.seen.append((self.path, self.headers["authorization"], body))
        self.reply(*self.answer)

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("authorization", ""), None))
        self.reply(401, {})

    def reply(self, status: int, body: dict[str, Any]) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[type[Provider]]:
    class Own(Provider):
        pass

    Own.seen = []
    Own.answer = (200, {"id": "x", "choices": [], "model": "gpt-5.4-mini"})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        Own.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        yield Own
        server.shutdown()
        thread.join()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("HEADGATE_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("HEADGATE_DATA", str(path))
    monkeypatch.setenv("HEADGATE_EGRESS_ALLOW", LOCAL)
    database = Database(path / "headgate.db")
    METADATA.create_all(database.engine)
    key = create_master_key(path / "master.key")
    accounts = AccountService(SystemClock(), IdGenerator(), AuditLog(SystemClock()))
    with database.transaction() as connection:
        store_master_key(connection, key, now=0.0)
        organization = accounts.create_organization(connection, "Acme", by=SYSTEM)
        accounts.create_project(connection, "main", organization_id=organization.id, by=SYSTEM)
        assert billing.find_inconsistencies(connection) == []
    database.close()
    return path


def test_created_key_opens_and_is_listed_without_its_token(data: Path) -> None:
    created = run(
        *("keys", "create", "--name", "laptop", "--models", "gpt-5*,o3", "--expires", "30d"),
        *("--on-disconnect", "drain"),
    )
    assert created.exit_code == 0
    token = created.stdout.strip()
    database, key_index = Database(data / "headgate.db"), KeyIndex(SystemClock())
    with database.reading() as connection:
        key_index.load(connection)
    grant = key_index.find(token.encode())
    assert grant.models == ("gpt-5*", "o3")
    database.close()
    listed = run("keys", "list")
    assert "laptop" in listed.stdout
    assert "drain" in listed.stdout
    assert token not in listed.stdout


def test_revoking_by_command_bumps_the_revision_that_servers_watch(data: Path) -> None:
    issued = run_json("keys", "create", "--kind", "admin")
    assert issued["token"].startswith("hg_admin_")
    database = Database(data / "headgate.db")
    with database.reading() as connection:
        before = read_revisions(connection)["keys"]
    assert run("keys", "revoke", issued["key"]["id"]).exit_code == 0
    with database.reading() as connection:
        assert read_revisions(connection)["keys"] == before + 1
    database.close()
    [key] = run_json("keys", "list")
    assert key["revoked_at"] > 0


def test_budgets_are_set_listed_and_removed(data: Path) -> None:
    key_id = run_json("keys", "create")["key"]["id"]
    assert "no budgets" in run("budgets", "list").stdout
    assert "may spend $500.00" in run("budgets", "set", "500").stdout
    own = run_json("budgets", "set", "2.5", "--key", key_id, "--managed-only", "--threshold", "90")
    assert (own["limit"], own["managed_only"], own["thresholds"]) == ("2.500000000", True, [90])
    listed = run_json("budgets", "list")
    assert [each["scope"] for each in listed] == ["organization", "key"]
    assert listed[0]["remaining"] == "500.000000000"
    table = run("budgets", "list").stdout
    assert "░░░░ 0.0 %" in table
    assert "managed calls" in table
    assert "no budget any more" in run("budgets", "remove", "--key", key_id).stdout
    assert run("budgets", "remove", "--key", key_id).exit_code == 1
    assert run("budgets", "set", "ten").exit_code == 1
    assert run("budgets", "set", "1", "--key", key_id, "--project", "Default").exit_code == 1


def test_plans_are_listed_defined_and_assigned(data: Path) -> None:
    run_json("keys", "create")
    assert "by agreement" in run("plans", "list").stdout
    assert "5,000 credits" in run("plans", "set", "team", "--credits", "5000").stdout
    assert [each["id"] for each in run_json("plans", "list")][-1] == "team"
    assert "has the plan team" in run("plans", "assign", "team").stdout
    assert run("plans", "assign", "team", "--overage").exit_code == 1
    assert run("plans", "assign", "unknown").exit_code == 1
    assert run_json("plans", "assign", "none")["plan_id"] is None


def test_key_is_limited_rotated_disabled_and_shown(data: Path) -> None:
    issued = run_json(
        *("keys", "create", "--networks", "10.0.0.0/8,2001:db8::/32", "--resources", "helpdesk"),
        *("--tokens-per-minute", "1000", "--monthly-budget", "25", "--label", "team=search"),
    )
    key_id, kept = issued["key"]["id"], issued["key"]
    assert kept["networks"] == ["10.0.0.0/8", "2001:db8::/32"]
    assert (kept["labels"], kept["monthly_budget_nano"]) == ({"team": "search"}, 25_000_000_000)
    rotated = run_json("keys", "rotate", key_id, "--overlap", "12h")
    assert rotated["token"] != issued["token"]
    assert rotated["key"]["previous_expires_at"] == pytest.approx(
        rotated["key"]["rotated_at"] + 43_200
    )
    assert "is disabled" in run("keys", "disable", key_id).stdout
    shown = run("keys", "show", key_id).stdout
    assert "disabled" in shown
    assert "25.000000000 dollars" in shown
    assert rotated["token"] not in shown
    assert "is enabled" in run("keys", "enable", key_id).stdout
    assert run_json("keys", "show", key_id)["disabled_at"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("keys", "revoke", "key_x"), "There is no key 'key_x'"),
        (("keys", "create", "--project", "x"), "no project with the id or name 'x'"),
        (("keys", "create", "--expires", "soon"), "give a span such as 90d"),
        (("keys", "create", "--expires", "2020-01-01"), "in the past"),
        (("keys", "create", "--networks", "10.0.0.1/8"), "has host bits set"),
        (("keys", "create", "--label", "team"), "name=text"),
        (("keys", "create", "--monthly-budget", "much"), "not an amount of dollars"),
        (("keys", "create", "--monthly-budget", "-1"), "0 to 999999999"),
        (("keys", "show", "key_x"), "There is no key 'key_x'"),
        (("keys", "rotate", "key_x", "--overlap", "soon"), "give a span such as 90d"),
        (("keys", "list", "--data", "/nonexistent"), "start `headgate serve` once"),
        (("credentials", "add", "openai"), "--api-key-stdin"),
        (("credentials", "add", "openai", "--api-key-file", "/nonexistent"), "cannot be read"),
        (("credentials", "remove", "x"), "There is no credential 'x'"),
    ],
)
def test_errors_are_one_sentence(data: Path, words: tuple[str, ...], said: str) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert result.stderr.startswith("headgate: ")
    assert said in result.stderr


def test_secret_is_taken_from_standard_input_and_never_printed(data: Path) -> None:
    result = run("credentials", "add", "openai", "--api-key-stdin", "--default", stdin=SECRET)
    assert result.exit_code == 0, result.output
    assert "sk-proj-…WXYZ" in result.stdout
    listed = run("credentials", "list")
    assert SECRET[8:] not in result.output + listed.output
    [record] = run_json("credentials", "list")
    assert record["is_default"]
    assert run("credentials", "remove", "OpenAI").exit_code == 0
    assert run_json("credentials", "list") == []


def test_credential_is_added_with_deadlines_of_its_own(data: Path) -> None:
    add = ("credentials", "add", "openai", "--api-key-stdin", "--first-byte-seconds", "1800")
    assert run(*add, "--total-seconds", "7200", stdin=SECRET).exit_code == 0
    [record] = run_json("credentials", "list")
    deadlines = [record[f"{name}_seconds"] for name in ("first_byte", "idle", "total")]
    assert deadlines == [1_800, None, 7_200]
    refused = run(*add, "--idle-seconds", "0.5", stdin=SECRET)
    assert refused.exit_code == 1
    assert "`idle_seconds` must be from 1 to 86400 seconds" in refused.stderr


def test_stored_secret_is_referred_to_by_its_name_and_never_printed(data: Path) -> None:
    stored = run("secrets", "set", "mine", "--value-stdin", stdin=SECRET)
    assert stored.exit_code == 0, stored.output
    assert "sk-p...." in stored.stdout
    listed = run("secrets", "list")
    assert SECRET[8:] not in stored.output + listed.output
    assert [each["name"] for each in run_json("secrets", "list")] == ["mine"]
    add = ("credentials", "add", "openai", "--api-key-stdin")
    assert run(*add, stdin="{{vault:mine}}").exit_code == 0
    [record] = run_json("credentials", "list")
    assert record["hint"] == "{{vault:mine}}"
    assert run("secrets", "remove", "mine").exit_code == 0
    assert run_json("secrets", "list") == []
    refused = run(*add, stdin="{{vault:mine}}")
    assert refused.exit_code == 1
    assert "'mine', which does not exist" in refused.output


def test_credential_is_tested_by_the_call_of_the_manifest(
    data: Path, provider: type[Provider]
) -> None:
    add = (
        "credentials",
        "add",
        "openai",
        "--api-key-stdin",
        "--base-url",
        provider.url,
        "--managed",
    )
    assert run(*add, stdin="local-secret-of-the-proxy").exit_code == 0
    assert run_json("credentials", "test", "OpenAI")["is_valid"]
    [(path, authorization, body)] = provider.seen
    assert path == "/v1/chat/completions"
    assert authorization == "Bearer local-secret-of-the-proxy"
    assert (body["model"], body["max_tokens"]) == ("gpt-5.4-mini", 10)
    provider.answer = (200, {"id": "x", "model": "gpt-5.4-mini"})
    lacking = run("credentials", "test", "OpenAI")
    assert lacking.exit_code == 1
    assert "without choices" in lacking.stdout
    provider.answer = (401, {"error": "wrong key local-secret-of-the-proxy"})
    refused = run("credentials", "test", "OpenAI")
    assert refused.exit_code == 1
    assert "answered 401" in refused.stdout
    assert "local-secret" not in refused.output


def test_doctor_finds_a_sound_installation_sound(data: Path, provider: type[Provider]) -> None:
    run(
        "credentials",
        "add",
        "openai",
        "--api-key-stdin",
        "--base-url",
        provider.url,
        stdin="secret",
    )
    levels = {(each["subject"], each["level"]) for each in run_json("doctor")}
    for subject in ("configuration", "data directory", "database", "clock", "master key"):
        assert (subject, "ok") in levels
    assert ("provider", "ok") in levels
    assert [authorization for _, authorization, _ in provider.seen] == [""]


def test_doctor_says_what_is_wrong_and_fails(data: Path) -> None:
    closed = f"http://127.0.0.1:{find_port()}/v1"
    run("credentials", "add", "openai", "--api-key-stdin", "--base-url", closed, stdin="secret")
    result = run("doctor")
    assert result.exit_code == 1
    assert "cannot be reached" in " ".join(result.stdout.replace("│", " ").split())
    (data / "master.key").chmod(0o644)
    findings = json.loads(run("doctor", "--json").stdout)
    [finding] = [each for each in findings if each["subject"] == "master key"]
    assert finding["level"] == "fail"
    assert "chmod 600" in finding["text"]


def test_doctor_names_a_credential_that_does_not_open(data: Path) -> None:
    run("credentials", "add", "openai", "--api-key-stdin", stdin=SECRET)
    database = Database(data / "headgate.db")
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE credentials SET base_url = 'http://127.0.0.1:1'")
    database.close()
    findings = json.loads(run("doctor", "--json").stdout)
    assert any(each["subject"] == "credential" and "(OpenAI)" in each["text"] for each in findings)


def test_missing_database_is_reported_with_the_next_steps(data: Path) -> None:
    for path in data.glob("headgate.db*"):
        path.unlink()
    findings = json.loads(run("doctor", "--json").stdout)
    [finding] = [each for each in findings if each["subject"] == "database"]
    assert finding["level"] == "fail"
    assert f"headgate restore BACKUP --data {data}" in finding["text"]
    assert "headgate serve" not in finding["text"], "a start is refused as well"
    assert "headgate restore BACKUP" in run("keys", "list").output


def test_damaged_database_is_reported_with_the_remedy(data: Path) -> None:
    for path in data.glob("headgate.db-*"):
        path.unlink()
    (data / "headgate.db").write_bytes(b"no database" * 1000)
    findings = json.loads(run("doctor", "--json").stdout)
    [finding] = [each for each in findings if each["subject"] == "database"]
    assert finding["level"] == "fail"
    assert "restore the last backup: docs/backup.md" in finding["text"]


def test_doctor_does_not_miss_the_simulator_of_a_server_that_does_not_run(data: Path) -> None:
    place = f"http://127.0.0.1:{find_port()}/v1"
    run("credentials", "add", "openai", "--api-key-stdin", "--base-url", place, stdin=SECRET)
    database = Database(data / "headgate.db")
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE credentials SET source = 'simulator'")
    database.close()
    findings = json.loads(run("doctor", "--json").stdout)
    [finding] = [each for each in findings if each["subject"] == "provider"]
    assert (finding["level"], "reachable only while its server runs" in finding["text"]) == (
        "ok",
        True,
    )


def test_doctor_refuses_an_impossible_setting(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_PORT", "many")
    result = run("doctor")
    assert result.exit_code == 1
    assert "HEADGATE_PORT" in result.stdout


def test_version_is_printed_without_loading_a_database() -> None:
    program = (
        "import sys; from headgate.cli.program import app\n"
        "try: app(['version'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'sqlalchemy', 'alembic', 'cryptography', 'uvicorn'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.splitlines() == [headgate.__version__, "[]"]


@pytest.mark.usefixtures("data")
def test_limits_of_a_key_and_a_credential_are_set_shown_and_removed() -> None:
    limits = ["50 requests/minute", "2000000 tokens/day by source-ip"]
    key = run_json("keys", "create")["key"]["id"]
    added = run("credentials", "add", "openai", "--api-key-stdin", "--name", "main", stdin=SECRET)
    assert added.exit_code == 0, added.output
    for command in (("keys", "capacity", key), ("credentials", "capacity", "main")):
        assert run(*command).stdout == "no limits\n"
        assert run(*command, *limits).stdout.splitlines() == limits
        assert run(*command).stdout.splitlines() == limits
        assert run(*command, "--clear").stdout == "no limits\n"
    result = run("keys", "capacity", key, "5 requests/day", "--no-enforce")
    assert "They are not enforced." in result.output
    assert run_json("keys", "show", key)["enforce_capacity"] is False
    result = run("keys", "capacity", key, "discovered")
    assert result.exit_code != 0


def test_priority_pools_are_set_shown_and_removed(data: Path) -> None:
    file = data.parent / "pools.json"
    file.write_text(
        '[{"name":"batch","rank":1,"max_reservation":50},{"name":"chat","rank":0,"keys":["key_1"]}]'
    )
    assert run("pools", "show").exit_code != 0
    missing = run("pools", "set", "nowhere.json")
    assert (missing.exit_code, "Cannot read nowhere.json" in missing.stderr) == (1, True)
    assert "Not found in the project: key_1" in run("pools", "set", str(file)).stderr
    stored = run_json("pools", "set", str(file))
    assert [pool["name"] for pool in stored["pools"]] == ["batch", "chat"]
    shown = run("pools", "show").stdout
    assert shown.index("chat") < shown.index("batch")
    file.write_text('[{"name":"batch"}]')
    refused = run("pools", "set", str(file))
    assert refused.exit_code != 0
    assert run("pools", "remove").exit_code == 0
    assert run("pools", "remove").exit_code != 0
