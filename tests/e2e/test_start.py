"""What a start makes, keeps, and refuses."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, cast

import pytest
import trustme

from headgate import settings
from headgate.kit.db.engine import Database
from headgate.kit.errors import HeadgateError
from headgate.main import server
from tests.fakes.gateway import PROVIDER_KEY, Gateway, find_port, running_gateway
from tests.fakes.http_connection import ask
from tests.fakes.upstream import FakeUpstream

OTHER_KEY = "sk-other-0123456789abcdefghijklmnop"
GOOD_MASTER_KEY = "bQ0u2mZc1o1q0cJmA3x7mK8mWbq1v3n6yT5r9sXeLkE="


def list_models(gateway: Gateway, token: str) -> int:
    headers = {"authorization": f"Bearer {token}"}
    return ask(gateway.port, "GET", "/v1/models", headers).status


def test_first_start_leaves_private_keys_that_work(gateway: Gateway) -> None:
    path = gateway.data / "first-keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secrets = {"inference_key", "admin_key", "owner_invitation"}
    assert set(gateway.keys) == {"organization_id", "project_id", *secrets}
    assert gateway.keys["inference_key"].startswith("hg_live_")
    assert gateway.keys["admin_key"].startswith("hg_admin_")
    assert list_models(gateway, gateway.key) == 200
    others = [each for each in gateway.data.iterdir() if each.stat().st_mode & 0o077]
    assert others == []
    log = gateway.log.read_text()
    assert not any(gateway.keys[name] in log for name in secrets)


def test_stranger_becomes_the_owner_by_the_invitation_beside_the_keys(gateway: Gateway) -> None:
    body = {
        "token": gateway.keys["owner_invitation"],
        "email": "you@example.com",
        "name": "You",
        "password": "a long sentence of your own",
    }
    headers = {"content-type": "application/json"}
    path = "/api/invitations/accept"
    sent = json.dumps(body).encode()
    answer = ask(gateway.port, "POST", path, headers, sent)
    assert answer.status == 201
    shown = json.loads(answer.body)
    assert shown["person"]["is_operator"]
    assert [each["id"] for each in shown["organizations"]] == [gateway.keys["organization_id"]]
    cookie = dict(answer.headers)["set-cookie"].partition(";")[0]
    mine = ask(gateway.port, "GET", "/api/organizations", {"cookie": cookie})
    assert mine.status == 200
    assert ask(gateway.port, "POST", path, headers, sent).status == 404


def test_second_start_keeps_the_keys_and_uses_the_new_provider_key(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with running_gateway(data, provider_url=upstream.base_url) as first:
        assert list_models(first, first.key) == 200
        assert first.stop() == 0
    written = (data / "first-keys.json").read_bytes()
    with running_gateway(data, provider_url=upstream.base_url, provider_key=OTHER_KEY) as second:
        assert (data / "first-keys.json").read_bytes() == written
        assert list_models(second, first.key) == 200
        assert second.stop() == 0
    # Without the variable the credential that it made stays.
    with running_gateway(data) as third:
        assert list_models(third, first.key) == 200
    sent = [received.headers["authorization"] for received in upstream.received]
    assert sent == [f"Bearer {PROVIDER_KEY}", f"Bearer {OTHER_KEY}", f"Bearer {OTHER_KEY}"]


def test_simulator_gives_way_to_a_provider(upstream: FakeUpstream, tmp_path: Path) -> None:
    data = tmp_path / "data"
    simulated: dict[str, Any] = {"simulator": "true", "simulator_port": find_port()}
    with running_gateway(data, **simulated) as first:
        client = first.sdk()
        assert "gpt-5.4-mini" in {model.id for model in client.models.list()}
        assert first.stop() == 0
    with running_gateway(data, provider_url=upstream.base_url, **simulated) as second:
        assert list_models(second, second.key) == 200
    assert len(upstream.received) == 1


def test_calls_before_the_end_are_in_the_log_after_it(gateway: Gateway) -> None:
    for _ in range(20):
        list_models(gateway, gateway.key)
    assert gateway.stop() == 0
    assert gateway.log.read_text().count('"event":"call"') == 20


def test_tls_is_spoken_with_a_certificate(upstream: FakeUpstream, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for each in certificate.cert_chain_pems:
        each.write_to_path(chain, append=True)
    certificate.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    trust: Any = cast("Any", authority).configure_trust
    trust(context)
    with running_gateway(
        tmp_path / "data",
        provider_url=upstream.base_url,
        tls=context,
        ssl_certfile=chain,
        ssl_keyfile=key,
    ) as gateway:
        assert gateway.url.startswith("https://")
        received = urllib.request.Request(f"{gateway.base_url}/models")
        received.add_header("Authorization", f"Bearer {gateway.key}")
        with urllib.request.urlopen(received, context=context, timeout=5) as answer:
            assert (answer.status, answer.read()) == (200, b"{}")
        received.add_header("Authorization", "Bearer wrong")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(received, context=context, timeout=5)
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert not plain.recv(100).startswith(b"HTTP")


def serve(data: Path, environment: dict[str, str] | None = None, **options: str) -> str:
    """Return the sentence with which a start is refused."""
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    clean = {name: each for name, each in os.environ.items() if not name.startswith("OPENAI")}
    done = subprocess.run(
        [sys.executable, "-m", "headgate.cli", "serve", "--data", str(data), *arguments],
        env=clean | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("headgate: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_address_that_others_reach_needs_tls(tmp_path: Path) -> None:
    told = serve(tmp_path / "data", host="0.0.0.0", port="0")
    assert "--ssl-certfile" in told
    assert not (tmp_path / "data").exists()


def test_unknown_setting_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    assert "did you mean HEADGATE_PORT?" in serve(tmp_path, {"HEADGATE_PROT": "1"})


def test_taken_port_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = serve(tmp_path / "data", port=str(port))
    assert f"port {port}: Address already in use. Choose another with --port" in told
    assert not (tmp_path / "data").exists()


def refuse(data: Path, **environment: str) -> str:
    """Start in this process, and return the sentence with which the start is refused."""
    given = {"HEADGATE_DATA": str(data), "HEADGATE_PORT": "0", **environment}
    with pytest.raises(HeadgateError) as raised:
        server.serve(settings.load(given))
    return raised.value.message


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"HEADGATE_HOST": "::"}, "can be reached from other machines"),
        ({"HEADGATE_HOST": "192.0.2.1"}, "can be reached from other machines"),
        ({"HEADGATE_HOST": "example.com"}, "can be reached from other machines"),
        ({"HEADGATE_HOST": "127.0.0.1", "HEADGATE_PORT": "70000"}, "HEADGATE_PORT cannot be"),
        ({"HEADGATE_RETRIES_MAX": "-1"}, "HEADGATE_RETRIES_MAX cannot be"),
        ({"HEADGATE_MASTER_KEY": "secret"}, "not 32 bytes"),
        ({"HEADGATE_MASTER_KEY": "0" * 64}, "can be guessed"),
        ({"HEADGATE_MASTER_KEY": "00112233" * 8}, "can be guessed"),
        ({"HEADGATE_SSL_KEYFILE": "/nowhere"}, "needs the certificate"),
        ({"HEADGATE_SSL_CERTFILE": "/nowhere"}, "No such file"),
        ({"HEADGATE_SSL_CERTFILE": __file__}, "TLS cannot use"),
        ({"HEADGATE_CORS_ORIGINS": "https://a.example/"}, "is not an origin"),
        ({"OPENAI_API_KEY": "nonsense"}, "not a key of OpenAI"),
        ({"OPENAI_API_KEY": PROVIDER_KEY, "OPENAI_BASE_URL": "nonsense"}, "base URL"),
    ],
)
def test_setting_that_cannot_work_is_refused(
    tmp_path: Path, environment: dict[str, str], told: str
) -> None:
    assert told in refuse(tmp_path / "data", **environment)


def test_newer_schema_is_left_as_it_is(tmp_path: Path) -> None:
    data = install(tmp_path)
    database = Database(data / "headgate.db")
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    before = (data / "headgate.db").read_bytes()
    told = refuse(data)
    assert "9999" in told
    assert "newer Headgate" in told
    assert (data / "headgate.db").read_bytes() == before


def test_lost_master_key_is_not_replaced(tmp_path: Path) -> None:
    data = install(tmp_path)
    (data / "master.key").unlink()
    assert "Restore the key" in refuse(data)
    assert not (data / "master.key").exists()


def test_other_master_key_is_refused(tmp_path: Path) -> None:
    data = install(tmp_path)
    assert "not the one that sealed" in refuse(data, HEADGATE_MASTER_KEY=GOOD_MASTER_KEY)


def test_master_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    data = install(tmp_path)
    (data / "master.key").chmod(0o644)
    assert "chmod 600" in refuse(data)


def test_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    assert "is not a directory" in refuse(tmp_path / "data")


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "headgate.db").write_text("not a database at all, but long enough to be read")
    assert "file is not a database" in refuse(tmp_path)


def test_taken_port_of_the_simulator_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = refuse(tmp_path, HEADGATE_SIMULATOR="true", HEADGATE_SIMULATOR_PORT=port)
    assert "HEADGATE_SIMULATOR_PORT" in told


def install(path: Path) -> Path:
    """Return a data directory with all that a first start makes."""
    data = path / "data"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refuse(data, HEADGATE_SIMULATOR="true", HEADGATE_SIMULATOR_PORT=port)
    assert json.loads((data / "first-keys.json").read_text())
    return data
