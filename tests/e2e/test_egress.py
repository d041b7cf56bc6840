"""The egress client of a running server: where a provider's key goes, and where it never does."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import trustme

from headgate import settings
from headgate.kit.db.engine import Database
from headgate.main.egress import build_rules
from headgate.settings import InvalidSettingError
from tests.fakes.canary_listener import CanaryListener, running_canary_listener
from tests.fakes.gateway import PROVIDER_KEY, running_gateway, start_gateway
from tests.fakes.harness import Harness, running_harness
from tests.fakes.http_connection import open_http_connection

CHAT = "/v1/chat/completions"
BODY = b'{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"Hi"}]}'


@pytest.fixture(scope="module")
def canary() -> Generator[CanaryListener]:
    with running_canary_listener() as running:
        yield running


@pytest.fixture(scope="module")
def module_harness(
    tmp_path_factory: pytest.TempPathFactory, canary: CanaryListener
) -> Generator[Harness]:
    """Point every proxy variable at the canary."""
    proxy = f"http://127.0.0.1:{canary.port}"
    names = ("http_proxy", "https_proxy", "all_proxy")
    variables = {each: proxy for name in names for each in (name, name.upper())} | {"no_proxy": ""}
    data = tmp_path_factory.mktemp("egress") / "data"
    with running_harness(data, retries_max=0, variables=variables) as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    return module_harness


REDIRECTS = [
    "http://127.0.0.1:{port}/v1/chat/completions",
    "http://localhost:{port}/",
    "https://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/v1",
    "/v1/elsewhere",
    "http://[::1]:{port}/",
    "file:///etc/passwd",
    "\\\\127.0.0.1:{port}",
]


@pytest.mark.parametrize("location", REDIRECTS)
@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
def test_redirect_is_followed_nowhere_and_not_passed_on(
    harness: Harness, canary: CanaryListener, status: int, location: str
) -> None:
    headers = {"location": location.format(port=canary.port), "refresh": "0;url=http://x"}
    harness.answer_with(lambda received: received.answer(b"{}", status=status, headers=headers))
    for body in (BODY, BODY[:-1] + b',"stream":true}'):
        answered = harness.post(CHAT, body)
        assert not {"location", "refresh"} & set(answered.headers)
    answered = harness.ask("GET", "/v1/files/f1/content")
    assert not {"location", "refresh"} & set(answered.headers)
    assert len(harness.upstream.received) == 3
    assert canary.heard == []


PATHS = [
    *(
        "//{canary}/v1/models",
        "/v1//{canary}/models",
        "/v1/@{canary}/models",
        "/v1@{canary}/models",
    ),
    *(
        "/v1/\\\\{canary}/models",
        "/v1\\\\{canary}",
        "/v1/..%2f..%2f{canary}",
        "/v1/%2e%2e/%2e%2e/x",
    ),
    *("/v1/../../{canary}", "/v1/..;/x", "/v1/models/%2f%2f{canary}", "/v1/%5c%5c{canary}/x"),
    *("/v1/http://{canary}/x", "/v1/models?url=http://{canary}/", "/v1/models#@{canary}"),
    *("/v1/models%0d%0ahost:%20{canary}", "/v1/models%00@{canary}", "/v1/%252e%252e/%252e%252e/x"),
    *("http://{canary}/v1/models", "https://{canary}/v1/models", "http:/{canary}/v1/models"),
    *("{canary}", "@{canary}/v1/models", "/v1/:@{canary}/", "/v1/[::1]/", "/v1/%40{canary}/models"),
    *(
        "/v1/models HTTP/1.1\r\nhost: {canary}\r\nx: /",
        "/v1/models\thttp://{canary}",
        "/v1/\uff05\uff12\uff46",
    ),
]
OVERRIDES = [
    {"host": "{canary}"},
    {"host": "api.openai.com@{canary}"},
    {"x-forwarded-host": "{canary}", "forwarded": "host={canary}"},
    {"x-original-url": "http://{canary}/", "x-rewrite-url": "http://{canary}/"},
    {"x-host": "{canary}", "x-http-host-override": "{canary}", "x-forwarded-server": "{canary}"},
    {"proxy-authorization": "Basic x", "proxy-connection": "keep-alive", "via": "1.1 {canary}"},
    {"openai-base-url": "http://{canary}", "x-headgate-base-url": "http://{canary}"},
    {"api-key": "other", "x-api-key": "other", "x-goog-api-key": "other"},
]


def test_no_path_and_no_header_takes_the_key_to_another_place(
    harness: Harness, canary: CanaryListener
) -> None:
    """Sent as raw bytes on the socket, as no client library would."""
    place = f"127.0.0.1:{canary.port}"
    sent = 0
    for target in PATHS:
        sent += knock(harness, target.format(canary=place), {})
    for override in OVERRIDES:
        given = {name: value.format(canary=place) for name, value in override.items()}
        sent += knock(harness, "/v1/models", given)
    assert sent == len(PATHS) + len(OVERRIDES)
    assert canary.heard == []
    assert harness.upstream.received, "some of these are harmless and reach the provider"
    for received in harness.upstream.received:
        assert received.target.startswith("/v1/")
        hosts = [value for name, value in received.fields if name == "host"]
        assert hosts == [f"127.0.0.1:{harness.upstream.port}"]
        keys = [value for _, value in received.fields if PROVIDER_KEY in value]
        assert keys == [f"Bearer {PROVIDER_KEY}"]
        names = {name for name, _ in received.fields}
        assert not names & {name for override in OVERRIDES for name in override if name != "host"}


def knock(harness: Harness, target: str, headers: dict[str, str]) -> int:
    given = {"host": "gateway.test", **harness.authorization, "connection": "close", **headers}
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    with open_http_connection(harness.gateway.port) as connection:
        connection.send("\r\n".join([*lines, "", ""]).encode())
        connection.is_closed()
    return 1


def test_changed_base_url_does_not_take_the_old_secret_along(
    canary: CanaryListener, tmp_path: Path
) -> None:
    """Changed by somebody with access to the database; the secret is sealed for its origin."""
    data = tmp_path / "data"
    with running_harness(data) as own:
        assert own.post(CHAT, BODY).status == 200
        assert own.gateway.stop() == 0
        key = own.authorization
    change_base_url(data / "headgate.db", f"http://127.0.0.1:{canary.port}/v1")
    with running_gateway(data) as again:
        with open_http_connection(again.port) as connection:
            answered = connection.ask("POST", CHAT, key, BODY)
        assert answered.error["code"] == "credential_missing"
        doctor = again.run("doctor", "--json")
        assert doctor.returncode == 1
        assert "its seal is broken" in doctor.stdout
    # The doctor asks without any secret whether somebody is there.
    assert not [came for _, came in canary.heard if PROVIDER_KEY.encode() in came]
    canary.heard.clear()


def change_base_url(path: Path, base_url: str) -> None:
    database = Database(path)
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE credentials SET base_url = ?", (base_url,))
    database.close()


def test_stored_base_url_no_longer_allowed_is_not_reached(
    canary: CanaryListener, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    base_url = f"http://127.0.0.1:{canary.port}/v1"
    with running_gateway(data, provider_url=base_url) as first:
        key = {"authorization": f"Bearer {first.key}"}
        first.stop()
    with running_gateway(data, egress_allow="10.9.8.0/24") as second:
        with open_http_connection(second.port) as connection:
            answered = connection.ask("POST", CHAT, key, BODY)
        assert answered.error["code"] == "provider_unreachable"
        assert "127.0.0.1" not in answered.body.decode()
        for command in (("doctor", "--json"), ("credentials", "test", "environment", "--json")):
            said = second.run(*command)
            assert said.returncode == 1
            assert f"HEADGATE_EGRESS_ALLOW=http://127.0.0.1:{canary.port}" in said.stdout
        added = second.run(
            *("credentials", "add", "openai", "--api-key-stdin", "--name", "own"),
            *("--base-url", base_url),
            stdin=PROVIDER_KEY,
        )
        assert added.returncode != 0
        assert "HEADGATE_EGRESS_ALLOW=" in added.stderr
    assert canary.heard == []


class Secure(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        pass


class SecureServer(http.server.HTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that do not trust this server."""


@contextlib.contextmanager
def running_tls(authority: trustme.CA) -> Generator[str]:
    """Run a provider with a certificate of that authority; yield its base URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    with SecureServer(("127.0.0.1", 0), Secure) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"https://localhost:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


def test_provider_is_verified_by_the_operators_authorities(tmp_path: Path) -> None:
    authority = trustme.CA()
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({"egress_ca_file": path}, None),
        ({}, "provider_unreachable"),
    ]
    with running_tls(authority) as url:
        for given, code in cases:
            data = tmp_path / f"data-{code}"
            with running_gateway(data, provider_url=url, retries_max=0, **given) as gateway:
                with open_http_connection(gateway.port) as connection:
                    key = {"authorization": f"Bearer {gateway.key}"}
                    answered = connection.ask("POST", CHAT, key, BODY)
                assert answered.json.get("error", {"code": None})["code"] == code


def test_start_without_the_authorities_it_was_given_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    with pytest.raises(AssertionError, match="HEADGATE_EGRESS_CA_FILE"):
        start_gateway(tmp_path / "data", egress_ca_file=path)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEADGATE_EGRESS_ALLOW", "127.0.0.1:11434"),
        ("HEADGATE_EGRESS_ALLOW", "http://127.0.0.1:11434, http://user@host"),
        ("OPENAI_BASE_URL", "http://[127.0.0.1]:11434"),
    ],
)
def test_invalid_egress_setting_is_named_in_the_error(variable: str, value: str) -> None:
    with pytest.raises(InvalidSettingError, match=variable):
        build_rules(settings.load({variable: value}))
