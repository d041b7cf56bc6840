"""V6: secrets of every kind are planted in a server at work, and nothing that it leaves behind,
tells or writes shows eight characters of one."""

from __future__ import annotations

import base64
import os
import resource
import signal
import sqlite3
import stat
import sys
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headgate.billing.service import ledger as billing
from headgate.kit.db.engine import Database
from tests.fakes import planted_secrets
from tests.fakes.gateway import Gateway, running_gateway, start_gateway
from tests.fakes.leak_scan import ENCODINGS, PlantedSecret, draw, scan
from tests.fakes.raw_client import RawClient
from tests.fakes.server_database import ServerDatabase
from tests.fakes.spoiled_keys import spoil_key
from tests.fakes.upstream import FakeUpstream, ReceivedRequest, running_upstream
from tests.fakes.waiting import wait_until

MODEL = "gpt-5.4-mini"
pytestmark = pytest.mark.timeout(180)

PRIVATE_FILES = ("master.key", "first-keys.json")
"""What is meant to hold secrets, for its owner alone."""
KINDS = (
    *("own provider key", "managed provider key", "master key", "inference key", "admin key"),
    *("key of somewhere else", "other x-api-key", "key in the query", "secret of a header"),
    *("password of an address", "prompt", "answer"),
    *planted_secrets.KINDS,
)
AT_PROVIDER = (
    *("own provider key", "managed provider key", "prompt", "key in the query", "answer"),
    *planted_secrets.AT_PROVIDER,
)
"""What the provider itself is told, or tells."""


@dataclass
class Scene:
    """Everything that was planted, and everything that was left."""

    planted: dict[str, PlantedSecret] = field(default_factory=dict[str, PlantedSecret])
    sinks: dict[str, bytes] = field(default_factory=dict[str, bytes])
    private: dict[str, bytes] = field(default_factory=dict[str, bytes])
    modes: dict[str, int] = field(default_factory=dict[str, int])
    at_provider: bytes = b""
    answers: bytes = b""
    statuses: list[int] = field(default_factory=list[int])

    def plant(self, kind: str, before: str = "", length: int = 40) -> str:
        core = draw(length)
        self.planted[kind] = PlantedSecret(kind, (core.encode(),))
        return before + core

    def put(self, place: str, text: bytes) -> None:
        self.sinks[place] = self.sinks.get(place, b"") + text


@dataclass
class Cast:
    """The planted secrets, by who uses them."""

    own: str
    managed: str
    prompt: str
    answer: str
    garbage: str
    other: str
    query: str
    header: str
    userinfo: str
    master: str
    handed: planted_secrets.PlantedSecrets


def plant_master(scene: Scene, text: str) -> None:
    form = text.rstrip("=").encode()
    scene.planted["master key"] = PlantedSecret("master key", (form, base64.b64decode(text)))


def plant_all(scene: Scene) -> Cast:
    text = base64.b64encode(os.urandom(32)).decode()
    plant_master(scene, text)
    return Cast(
        own=scene.plant("own provider key", "sk-proj-"),
        managed=scene.plant("managed provider key", "sk-svcacct-"),
        prompt=scene.plant("prompt", "my secret is "),
        answer=scene.plant("answer", "keep it to yourself: "),
        garbage=scene.plant("key of somewhere else", "sk-"),
        other=scene.plant("other x-api-key", "hg_live_"),
        query=scene.plant("key in the query"),
        header=scene.plant("secret of a header"),
        userinfo=scene.plant("password of an address"),
        master=text,
        handed=planted_secrets.plant(scene.plant),
    )


def make_script(cast: Cast, scene: Scene) -> Any:
    """A provider that answers, and that repeats the key which it is called with when it fails."""

    def answer(received: ReceivedRequest) -> None:
        heads = "".join(f"{name}: {value}\n" for name, value in received.fields)
        scene.at_provider += f"{received.target}\n{heads}".encode() + received.body
        key = received.headers.get("authorization", "")
        if b"echo-error" in received.body or key.endswith(cast.handed.tried):
            received.answer(
                b'{"error":{"message":"Incorrect API key provided: %b","type":"x","code":"%b"}}'
                % (key.encode(), key.encode()),
                status=401,
            )
        elif b"echo-body" in received.body:
            received.answer(b'{"id":"%b","choices":[],"model":"m"}' % key.encode())
        elif b'"stream": true' in received.body:
            received.begin_stream()
            received.send_chunk(f'data: {{"id":"c","content":"{cast.answer}"}}\n\n'.encode())
            received.send_chunk(b"data: [DONE]\n\n")
            received.send_end()
        elif b"cut-off" in received.body:
            received.send_head(200, {"content-type": "application/json", "content-length": "9999"})
            received.send(f'{{"id":"c","content":"{cast.answer}"'.encode())
            received.close()
        else:
            received.answer(f'{{"id":"c","choices":["{cast.answer}"]}}'.encode())

    return answer


def make_calls(gateway: Gateway, cast: Cast, scene: Scene) -> None:
    """Each kind of call in which a secret takes part, right and wrong."""
    chat: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": cast.prompt}]}
    hidden = cast.header
    good = {"proxy_authorization": hidden, "x_headgate_secret": hidden, "cookie": hidden}
    admin, inference = gateway.keys["admin_key"], gateway.key
    calls: list[tuple[str, dict[str, str], dict[str, Any] | bytes]] = [
        (inference, good, chat),
        (inference, good, {**chat, "stream": True}),
        (inference, good, {**chat, "user": "cut-off"}),
        (inference, good, {**chat, "user": "echo-error"}),
        (inference, good, {**chat, "user": "echo-body"}),
        (inference, {**good, "x_headgate_credential": "platform"}, {**chat, "user": "echo-error"}),
        (inference, {**good, "x_headgate_credential": "platform"}, chat),
        (inference, good, {**chat, "n": cast.prompt}),
        (inference, good, f'{{"model":"{MODEL}","messages":["{cast.prompt}'.encode()),
        (inference, good, b"\xff" + cast.prompt.encode()),
        (inference, {**good, "content_encoding": "gzip"}, cast.prompt.encode()),
        (admin, good, chat),
        (cast.garbage, good, chat),
        (spoil_key(inference), good, chat),
        (cast.other, good, chat),
        ("", {**good, "x_api_key": cast.other}, chat),
        ("", {**good, "authorization": f"Basic {cast.garbage}"}, chat),
    ]
    for key, headers, body in calls:
        with RawClient(gateway.port, key) as client:
            for path in ("/v1/chat/completions", f"/v1/chat/completions?api_key={cast.query}"):
                record(client, scene, path, body, headers)
    with RawClient(gateway.port, inference) as client:
        record(client, scene, f"/nowhere?token={cast.query}", None, good)
        client.send(b"GET /v1/models HTTP/1.1\r\nbroken " + cast.header.encode() + b"\r\n\r\n")
        with suppress(ValueError, IndexError):
            scene.put("headers of answers", repr((client.read_head(), client.headers)).encode())


def record(
    client: RawClient, scene: Scene, path: str, body: dict[str, Any] | bytes | None, headers: Any
) -> None:
    with suppress(ValueError, IndexError, OSError):  # an answer that ends before its time
        client.ask(path, body, **headers)
        status = client.read_head()
        scene.statuses.append(status)
        scene.put("headers of answers", repr(client.headers).encode())
        text = client.read_body()
        if status == 200:
            scene.answers += text
        else:
            scene.put("bodies of errors", text)


def run_commands(gateway: Gateway, cast: Cast, scene: Scene) -> None:
    added = gateway.run(
        *("credentials", "add", "openai", "--managed", "--name", "platform", "--api-key-stdin"),
        *("--base-url", os.environ["OPENAI_BASE_URL"]),
        stdin=cast.managed,
    )
    assert added.returncode == 0, added.stderr
    refused = gateway.run(
        *("credentials", "add", "openai", "--api-key-stdin", "--name", "x"),
        *("--base-url", f"https://me:{cast.userinfo}@example.org/v1"),
        stdin=cast.managed,
    )
    assert refused.returncode == 1
    for done in (added, refused, gateway.run("credentials", "list", "--json")):
        scene.put("output of commands", (done.stdout + done.stderr).encode())


def fund(gateway: Gateway) -> None:
    """Money for the calls on the platform's own key."""
    database = Database(gateway.data / "headgate.db")
    try:
        with database.transaction() as connection:
            owner = gateway.keys["organization_id"]
            billing.fund(connection, owner, amount_nano=10**10, reference="one", now=0.0)
    finally:
        database.close()


def collect(gateway: Gateway, scene: Scene, folder: Path) -> None:
    """What a neighbour, an operator and a thief of files could read."""
    scene.put("metrics", gateway.metrics().encode())
    proc = Path("/proc") / str(gateway.process.pid)
    scene.put("cmdline", (proc / "cmdline").read_bytes())
    with suppress(PermissionError):  # only root gets this far
        scene.put("environ", (proc / "environ").read_bytes())
    path = gateway.data / "headgate.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        scene.put("dump of the database", "\n".join(connection.iterdump()).encode())
    collect_files(scene, folder)


def collect_files(scene: Scene, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            name = str(path.relative_to(folder))
            if path.name in PRIVATE_FILES:
                scene.private[name] = path.read_bytes()
                scene.modes[name] = stat.S_IMODE(path.stat().st_mode)
            else:
                scene.put(f"file {name}", path.read_bytes())


def break_storage(gateway: Gateway, cast: Cast, scene: Scene) -> None:
    """Force an exception where a receipt is stored: the table is gone."""
    with closing(sqlite3.connect(gateway.data / "headgate.db")) as connection, connection:
        connection.execute("DROP TABLE receipts")
    make_calls(gateway, cast, scene)


@pytest.fixture(scope="module", params=["file", "environment"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A server that was at work, broke and was stopped; its master key from either place."""
    scene = Scene()
    cast = plant_all(scene)
    folder = tmp_path_factory.mktemp("canaries")
    (folder / "tmp").mkdir()
    (folder / "data").mkdir(mode=0o700)
    settings: dict[str, Any] = {"log_level": "debug"}
    if request.param == "environment":
        settings["master_key"] = cast.master
    with (
        pytest.MonkeyPatch.context() as patch,
        running_upstream() as provider,
        running_upstream() as collector,
    ):
        provider.script = make_script(cast, scene)
        patch.chdir(folder)
        patch.setenv("TMPDIR", str(folder / "tmp"))
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.base_url.removesuffix("/v1"))
        patch.setenv("OPENAI_BASE_URL", provider.base_url)
        if request.param == "environment":
            patch.setenv("HEADGATE_MASTER_KEY", cast.master)
        given = {"provider_url": provider.base_url, "provider_key": cast.own}
        with running_gateway(folder / "data", **given, **settings) as gateway:
            if request.param == "file":
                plant_master(scene, (folder / "data" / "master.key").read_text().strip())
            play(gateway, cast, scene, folder)
        wait_until(lambda: bool(collector.received), 10.0)
        scene.put("traces", b"".join(received.body for received in collector.received))
        if request.param == "environment":
            refuse_start(folder / "refused", cast, scene)
    collect_files(scene, folder)
    return scene


def play(gateway: Gateway, cast: Cast, scene: Scene, folder: Path) -> None:
    for kind, name in (("inference key", "inference_key"), ("admin key", "admin_key")):
        secret = gateway.keys[name].rpartition("_")[2].encode()
        scene.planted[kind] = PlantedSecret(kind, (secret,))
    run_commands(gateway, cast, scene)
    manager = planted_secrets.ManagementClient(gateway, scene.put)
    planted_secrets.store_secrets(manager, cast.handed, os.environ["OPENAI_BASE_URL"])
    planted_secrets.send_misplaced_secrets(manager, cast.handed.refused)
    fund(gateway)
    make_calls(gateway, cast, scene)
    assert ServerDatabase(gateway.data).count() >= 10
    collect(gateway, scene, folder)
    break_storage(gateway, cast, scene)
    gateway.stop()


def refuse_start(data: Path, cast: Cast, scene: Scene) -> None:
    """An address with a password in it stops the start; so does a master key that is too short."""
    starts: list[dict[str, Any]] = [
        {"provider_url": f"http://me:{cast.userinfo}@127.0.0.1:9/v1", "provider_key": cast.own},
        {"master_key": cast.master[:-8]},
    ]
    for given in starts:
        with pytest.raises(AssertionError, match="the server ended") as refused:
            start_gateway(data, log_level="debug", **given)
        scene.put("refused starts", str(refused.value).encode())


def test_no_secret_is_seen_anywhere(scene: Scene) -> None:
    assert scene.planted.keys() == set(KINDS)
    assert scene.sinks.keys() >= {
        *("file data.log", "file data/headgate.db", "dump of the database", "metrics", "traces"),
        *("bodies of errors", "headers of answers", "output of commands", "cmdline"),
        "answers of the API",
    }
    assert all(scene.sinks.values())
    assert scan(scene.sinks, scene.planted.values()) == []


def test_what_is_told_to_the_provider_is_its_own(scene: Scene) -> None:
    others = [canary for kind, canary in scene.planted.items() if kind not in AT_PROVIDER]
    assert scan({"what the provider was told": scene.at_provider}, others) == []


def test_scan_sees_what_is_there(scene: Scene) -> None:
    """The same scan over the places where the secrets belong: it is not blind."""
    seen = scan(scene.private, scene.planted.values())
    assert "inference key (raw) in data/first-keys.json" in seen
    assert "admin key (raw) in data/first-keys.json" in seen
    told = scan({"provider": scene.at_provider}, scene.planted.values())
    assert {line.partition(" (")[0] for line in told} == set(AT_PROVIDER) - {"answer"}
    assert scan({"answers": scene.answers}, [scene.planted["answer"]]) != []
    assert {200, 400, 401, 403, 404, 503} <= set(scene.statuses)


def test_files_with_secrets_are_their_owners_alone(scene: Scene) -> None:
    assert set(scene.modes.values()) == {0o600}
    assert "data/first-keys.json" in scene.modes


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_nine_characters_in_any_encoding_are_found(encoding: str) -> None:
    core = draw()
    canary = PlantedSecret("planted", (core.encode(),))
    _, encode = ENCODINGS[encoding]
    leak = b"something {" + encode(core[11:20].encode()) + b"} else"
    assert scan({"log": leak}, [canary]) != []
    assert scan({"log": b"something else " + draw(2000).encode()}, [canary]) == []


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how a process ended")
@pytest.mark.parametrize(
    ("number", "allowed"),
    [(signal.SIGSEGV, False), (signal.SIGABRT, False), (signal.SIGABRT, True)],
)
def test_crash_leaves_no_core_unless_debugging_is_allowed(
    number: signal.Signals,
    allowed: bool,
    upstream: FakeUpstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        pytest.skip("this machine allows no core dumps at all")
    monkeypatch.chdir(tmp_path)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        with running_gateway(
            tmp_path / "data", provider_url=upstream.base_url, allow_debugging=allowed
        ) as gateway:
            gateway.process.send_signal(number)
            ended = os.waitid(os.P_PID, gateway.process.pid, os.WEXITED | os.WNOWAIT)
            gateway.process.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    assert ended is not None
    assert ended.si_status == number
    assert ended.si_code == (os.CLD_DUMPED if allowed else os.CLD_KILLED)
    if not allowed:
        assert [path.name for path in tmp_path.rglob("*core*")] == []
