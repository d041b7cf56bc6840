"""How the edge treats clients of every kind: which key counts, and what they may ask for."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from tests.fakes import http_connection
from tests.fakes.harness import Harness, running_harness
from tests.fakes.http_connection import HttpResponse, check_error, open_http_connection
from tests.fakes.upstream import ReceivedRequest
from tests.fakes.waiting import wait_until

CHAT = "/v1/chat/completions"
BODY = b'{"model":"gpt-5.4-mini","messages":[]}'
PAGE = "https://app.example.com"
STRANGER = "127.0.0.9"
GOOD = "good"
"""In the place of a key: the server's own."""


@pytest.fixture(scope="module")
def module_harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[Harness]:
    data = tmp_path_factory.mktemp("edge") / "data"
    with running_harness(
        data, retries_max=0, cors_origins=f"{PAGE},http://localhost:5173"
    ) as running:
        yield running


@pytest.fixture
def harness(module_harness: Harness) -> Harness:
    module_harness.renew()
    module_harness.answer_with(echo)
    return module_harness


def echo(received: ReceivedRequest) -> None:
    received.answer(json.dumps({"target": received.target, "bytes": len(received.body)}).encode())


def ask(
    harness: Harness, *fields: tuple[str, str], target: str = CHAT, method: str = "POST"
) -> HttpResponse:
    """Send one request with exactly these header lines; `GOOD` becomes a key."""
    lines = [f"{name}: {value.replace(GOOD, harness.gateway.key)}" for name, value in fields]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(BODY)}"]
    head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *lines, "", ""])
    with open_http_connection(harness.gateway.port) as opened:
        opened.send(head.encode() + (BODY if method == "POST" else b""))
        return opened.read()


OWN = [("Authorization", f"Bearer {GOOD}"), ("x-api-key", GOOD), ("Api-Key", GOOD)]
OTHERS = [
    [("Authorization", "Bearer")],
    [("Authorization", "Bearer ")],
    [("Authorization", "Basic Zm9vOmJhcg==")],
    [("Authorization", "Bearer sk-placeholder")],
    [("Authorization", "Bearer hg_live_000000000000_" + "0" * 49)],
    [("x-api-key", "sk-placeholder"), ("api-key", "")],
    [("x-api-key", "hg_live_nonsense"), ("x-api-key", "dummy")],
]


@pytest.mark.parametrize("own", OWN, ids=lambda own: own[0])
@pytest.mark.parametrize("others", [[], *OTHERS])
def test_first_usable_key_counts_wherever_it_stands(
    harness: Harness, own: tuple[str, str], others: list[tuple[str, str]]
) -> None:
    beside = [each for each in others if each[0] != own[0] or own[0] != "Authorization"]
    for fields in ([own, *beside], [*beside, own]):
        assert ask(harness, *fields).status == 200, fields


def test_two_different_valid_keys_are_refused_with_a_message(harness: Harness) -> None:
    other = harness.gateway.keys["admin_key"]
    answered = ask(harness, ("Authorization", f"Bearer {GOOD}"), ("x-api-key", other))
    check_error(answered, 401, "conflicting_api_keys", source="gateway")
    assert "two different keys" in answered.error["message"]
    assert ask(harness, ("Authorization", f"Bearer {GOOD}"), ("x-api-key", GOOD)).status == 200
    assert len(harness.upstream.received) == 1


@pytest.mark.parametrize(
    "target", [CHAT, "/v1/models", "/api/projects", "/api/nothing", "/metrics", "/nothing"]
)
def test_two_authorization_headers_are_refused_on_every_api(harness: Harness, target: str) -> None:
    for second in (f"Bearer {GOOD}", "Basic Zm9vOmJhcg==", ""):
        fields = [("Authorization", f"Bearer {GOOD}"), ("authorization", second)]
        method = "POST" if target == CHAT else "GET"
        answered = ask(harness, *fields, target=target, method=method)
        assert answered.status == 400
        assert b"duplicate_authorization" in answered.body
    assert harness.upstream.received == []


def test_errors_of_the_edge_have_the_shape_of_the_api(harness: Harness) -> None:
    shapes = {
        "/api/": {"detail", "code"},
        "/v1/messages/": {"type", "error", "request_id"},
        "/v1/": {"error"},
    }
    for begin, shape in shapes.items():
        answered = ask(harness, target=begin + "x" * 9000, method="GET")
        assert answered.status == 414
        assert json.loads(answered.body).keys() == shape


@pytest.mark.parametrize(
    "target",
    [
        "/v1/v1/chat/completions",
        "/v1/chat/completions/chat/completions",
        "/v1/openai/v1/chat/completions",
        "//v1/chat/completions",
        "/chat/completions",
        "/openai/v1/chat/completions",
    ],
)
def test_wrong_base_url_error_names_the_right_one(harness: Harness, target: str) -> None:
    key = ("Authorization", f"Bearer {GOOD}")
    answered = ask(harness, key, target=target)
    check_error(answered, 404, "unknown_url", source="gateway")
    assert "base URL" in answered.error["message"]
    assert answered.error["message"].endswith(" http://localhost/v1")
    secure = ask(harness, key, ("X-Forwarded-Proto", "https"), target=target)
    assert secure.error["message"].endswith(" https://localhost/v1")
    assert harness.upstream.received == []


@pytest.mark.parametrize("target", ["/v1/v1/messages", "/anthropic/v1/messages", "/messages"])
def test_wrong_base_url_error_names_the_one_of_anthropics_clients(
    harness: Harness, target: str
) -> None:
    answered = ask(harness, ("x-api-key", GOOD), target=target)
    check_error(answered, 404, "unknown_url", source="gateway")
    assert answered.error["message"].endswith(" http://localhost")
    models = ask(harness, ("x-api-key", GOOD), ("anthropic-version", "2023-06-01"), target="/x/y")
    assert models.error["message"].endswith(" http://localhost")


@pytest.mark.parametrize("target", ["/v1//chat/completions", "/v1/chat/completions/"])
def test_superfluous_slash_error_explains_the_base_url(harness: Harness, target: str) -> None:
    answered = ask(harness, ("x-api-key", GOOD), target=target)
    check_error(answered, 400, "invalid_path", source="gateway")
    assert "base URL ends in /v1, without a slash" in answered.error["message"]


@pytest.mark.parametrize(
    "host", ["host.docker.internal:4600", "gateway", "mac.local", "gate.team.svc.cluster.local"]
)
def test_names_of_containers_and_clusters_are_served(harness: Harness, host: str) -> None:
    for target in ("/v1/models", "/health/live"):
        answered = http_connection.ask(
            harness.gateway.port, "GET", target, {**harness.authorization, "host": host}
        )
        assert answered.status == 200


def test_page_of_a_named_origin_may_call_and_read_models_and_the_api(harness: Harness) -> None:
    origin = ("Origin", PAGE)
    question = ("Access-Control-Request-Method", "POST")
    for target in (CHAT, "/api/projects"):
        received = ask(harness, origin, question, target=target, method="OPTIONS")
        assert (received.status, received.headers["access-control-allow-origin"]) == (204, PAGE)
    for fields, status in (([("x-api-key", GOOD)], 200), ([], 401)):
        for target in (CHAT, "/v1/models"):
            method = "POST" if target == CHAT else "GET"
            answered = ask(harness, origin, *fields, target=target, method=method)
            assert answered.status == status
            assert answered.headers["access-control-allow-origin"] == PAGE
            exposed = answered.headers["access-control-expose-headers"].split(", ")
            told = [name for name in answered.headers if name.startswith(("x-", "retry"))]
            assert set(told) <= set(exposed)
    refused = ask(harness, origin, target="/api/projects", method="GET")
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, PAGE)
    assert "access-control-allow-origin" not in ask(harness, origin, target="/metrics").headers


OWN_PATHS = {
    ("GET", "/v1/messages/count_tokens"): 405,
    ("POST", "/v1/messages/count_tokens"): 400,
    ("GET", "/v1/messages/batches?limit=1"): 501,
    ("POST", "/v1/messages/batches?limit=1"): 501,
    ("GET", "/v1/completion"): 501,
    ("POST", "/v1/completion"): 501,
    ("GET", "/v1/completion/work/live/chat/completions"): 404,
    ("POST", "/v1/completion/work/live/chat/completions"): 404,
}


@pytest.mark.parametrize(("method", "target"), OWN_PATHS)
def test_paths_of_the_gateway_never_reach_a_provider(
    harness: Harness, target: str, method: str
) -> None:
    status = OWN_PATHS[method, target]
    answered = ask(harness, ("x-api-key", GOOD), target=target, method=method)
    nobody = ask(harness, target=target, method=method)
    assert (answered.status, nobody.status) == (status, 401)
    if target.startswith("/v1/messages"):
        assert answered.json["type"] == nobody.json["type"] == "error"
        assert set(answered.json["error"]) == {"type", "message"}
        assert nobody.json["error"]["type"] == "authentication_error"
    elif status == 501:
        check_error(answered, 501, "unsupported_endpoint", source="gateway")
        assert answered.headers["x-should-retry"] == "false"
    else:
        check_error(answered, 404, "workspace_not_found", source="gateway")
    assert harness.upstream.received == []


@pytest.mark.parametrize(
    "target",
    [
        *("/v1//messages", "/v1/%6dessages", "/v1/Messages", "/v1/MESSAGES/count_tokens"),
        *("/v1/messages/", "/v1/x/../messages", "/v1/./messages", "/v1/x/%2e%2e/messages"),
        *("/v1/messages;v=1", "/v1/v1/messages", "/v1/USAGE", "/v1/webhooks%2Fendpoints"),
        *("/v1/receipts//req_1", "/v1\\messages", "/v1/messages%3Fx", "/v1/openai/v1/messages"),
        *("/v1/;x/messages", "/v1/messages;a/count_tokens;b", "/v1/webhooks;/endpoints"),
        *("/v1/usage%23", "/v1/Usage%3Bx", "/v1/messages%20", "/v1/usage/", "/v1/usage/no?x=1"),
        *("/v1//usage", "/v1/%75sage", "/v1/%2575sage", "/v1/wallet;x", "/v1/x/../budgets"),
    ],
)
def test_no_spelling_of_a_gateway_path_reaches_a_provider(harness: Harness, target: str) -> None:
    answered = ask(harness, ("x-api-key", GOOD), target=target)
    assert answered.status in (400, 404, 501)
    assert answered.headers["x-headgate-error-source"] == "gateway"
    assert harness.upstream.received == []


@pytest.mark.parametrize(
    "target",
    [
        *("/v1//usage", "/v1/%75sage", "/v1/usage/", "/v1/USAGE", "/v1/usage%2Fx", "/v1/usage;x"),
        *("/v1/receipts/req_1/", "/v1/webhooks%2Fendpoints", "/v1/Wallet?x=1", "/v1%2Fusage"),
    ],
)
def test_other_spelling_of_a_platform_path_is_404(harness: Harness, target: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answered = ask(harness, ("x-api-key", GOOD), target=target, method=method)
        assert (answered.status, answered.error["code"]) == (404, "unknown_url")
    assert harness.upstream.received == []


@pytest.mark.parametrize("step", ["", "/call_1/accept", "/call_1/hangup", "/call_1/refer"])
def test_realtime_calls_are_refused_with_a_reason(harness: Harness, step: str) -> None:
    answered = ask(harness, ("x-api-key", GOOD), target=f"/v1/realtime/calls{step}")
    check_error(answered, 501, "unsupported_endpoint", source="gateway")
    assert "sound and tokens go between the caller and the provider" in answered.error["message"]
    assert harness.upstream.received == []


def test_api_refuses_a_too_large_body_before_100_continue(harness: Harness) -> None:
    admin = harness.gateway.keys["admin_key"]
    head = (
        "POST /api/projects HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"X-Api-Key: {admin}\r\nX-Organization-Id: {harness.gateway.keys['organization_id']}\r\n"
    )
    announced = head + "Content-Length: 600000\r\nExpect: 100-continue\r\n\r\n"
    for raw in (announced, head + "Transfer-Encoding: chunked\r\n\r\n" + "1000\r\n" + "x" * 4096):
        with open_http_connection(harness.gateway.port) as opened:
            opened.send(raw.encode())
            if "chunked" in raw:
                opened.send((b"\r\n1000\r\n" + b"x" * 4096) * 140)
            answered = opened.read("POST")
            assert (answered.status, answered.json["code"]) == (413, "body_too_large")
            assert answered.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("target", "version"),
    [("/api/projects", "1.1"), (CHAT, "1.0"), ("/v1/models", "1.0"), ("/health/live", "1.0")],
)
def test_half_closed_client_gets_its_answer(harness: Harness, target: str, version: str) -> None:
    method, body = ("POST", BODY) if target == CHAT else ("GET", b"")
    kind = "admin_key" if target.startswith("/api") else "inference_key"
    lines = [
        f"{method} {target} HTTP/{version}",
        *("Host: localhost", "Content-Type: application/json"),
        f"Authorization: Bearer {harness.gateway.keys[kind]}",
        f"X-Organization-Id: {harness.gateway.keys['organization_id']}",
        *([f"Content-Length: {len(body)}"] if body else []),
    ]
    with open_http_connection(harness.gateway.port) as opened:
        opened.send("\r\n".join([*lines, "", ""]).encode() + body)
        opened.socket.shutdown(socket.SHUT_WR)
        assert opened.read(method).status == 200
        assert opened.is_closed()


def test_refused_key_of_a_model_call_is_logged_without_the_secret(harness: Harness) -> None:
    token = harness.gateway.key[:-1] + ("0" if harness.gateway.key[-1] != "0" else "1")
    head = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nx-api-key: {token}\r\n\r\n"
    with capture_log(harness) as read:
        # The other tests have used up the lines of their own address.
        server = ("127.0.0.1", harness.gateway.port)
        with socket.create_connection(server, source_address=(STRANGER, 0)) as opened:
            opened.sendall(head.encode())
            assert opened.recv(4096).startswith(b"HTTP/1.1 401 ")
        wait_until(lambda: STRANGER in read())
    (told,) = [json.loads(each) for each in read().splitlines() if STRANGER in each]
    assert (told["event"], told["face"]) == ("access.refused", "/v1")
    assert (told["reason"], told["address"]) == ("invalid_api_key", STRANGER)
    assert token[20:] not in read()


@contextmanager
def capture_log(harness: Harness) -> Generator[Callable[[], str]]:
    """Return what the server logs from now on."""
    before = len(harness.gateway.log.read_bytes())
    yield lambda: harness.gateway.log.read_bytes()[before:].decode()
